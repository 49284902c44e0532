"""How a model writes text."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from onnxpipe.records import FieldError, Record, parameter

SourcePart = Literal["source", "target", "text", "eos"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generation(Record):
    """How a model writes text, where a request does not say.

    `defaults` are parameters by the names of a request; `task_defaults` lay others over them, by task and, for one pair
    of languages, by "translation_en_to_de". `prefixes` go before an input, by task. A text that an encoder has read
    begins with `decoder_prompt`; without an encoder, the input itself is what is continued. A row may have `max_length`
    tokens, those it begins with included; any number when null. One that grows past `reread_at` tokens is read anew,
    for its rotary frequencies change there.
    """

    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    task_defaults: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    prefixes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    decoder_prompt: tuple[int, ...] = ()
    max_length: int | None = parameter(None, ge=1, description="Most tokens of a row.")
    reread_at: int | None = parameter(None, ge=1, description="A row that gets longer is read anew.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Translation(Record):
    """The languages of a model and how it is told of them; one that is for a single pair need not be told.

    `languages` are the tokens of those it has tokens for, by the names that users have for them. What the encoder reads
    is `template`, in this order: the tokens of the two languages, the tokens of the text, the token that ends one. The
    token of the target is where `target` says: the decoder's first ("start"), the one after it ("forced"), or nowhere
    but in the template ("source"). `prefixes` are for models that are told in words: what goes before a text, by pair
    ("en_to_de"); no others are known then.

    The defaults are what an input is translated from and to when nothing is said; null where it has to be said, or
    where it is not known.
    """

    languages: Mapping[str, int] = dataclasses.field(default_factory=dict)
    template: tuple[SourcePart, ...] = ("text", "eos")
    target: Literal["start", "forced", "source"] = "source"
    prefixes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    default_source: str | None = None
    default_target: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if "text" not in self.template:
            raise FieldError("template", "expected 'text' among its parts, given none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chat(Record):
    """How messages become a prompt: the model's Jinja templates by name, "default" and maybe "tool_use" and others."""

    templates: Mapping[str, str]
