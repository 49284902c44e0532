"""Encoder-decoder models: a text that is read as a whole, and others that are written about it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from onnxpipe.errors import UnsupportedModel
from onnxpipe.generation.decoder import Ids
from onnxpipe.generation.options import GenerationParameters
from onnxpipe.generation.pipeline import Writing
from onnxpipe.generation.writer import Composition, Writer
from onnxpipe.records import parameter, plain, read
from onnxpipe.text.tokenizer import Encoding, Truncation

P = TypeVar("P", bound="RewritingParameters")
R = TypeVar("R")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RewritingParameters(GenerationParameters):
    """How a text is read, and how the others are written."""

    clean_up_tokenization_spaces: bool | None = parameter(
        None, description="Whether spaces before punctuation are removed. Absent: as the model's tokenizer does."
    )
    truncation: bool | Truncation = parameter(
        True, description="How a text over the model's limit is cut; false or 'do_not_truncate' makes it an error."
    )
    generate_parameters: Mapping[str, Any] | None = parameter(
        None,
        aliases=("generation_parameters", "generate_kwargs"),
        description="Parameters of generation, over those beside it.",
    )


def merged(parameters: P) -> P:
    """The parameters with those of `generate_parameters` in their places. Raises FieldError for a wrong one."""
    inner = parameters.generate_parameters
    if not inner:
        return parameters
    outer = {name: value for name, value in vars(parameters).items() if value is not None}
    del outer["generate_parameters"]
    known = {name: value for name, value in inner.items() if value is not None}
    return read(type(parameters), {**outer, **plain(read(GenerationParameters, known, ignore_unknown=True))})


def require_encoder(writer: Writer, model_id: str, task: str) -> None:
    """Raise UnsupportedModel for a model that only continues texts."""
    if not writer.has_encoder:
        raise UnsupportedModel(f"{model_id} continues texts and cannot do {task}, which takes an encoder and a decoder")


def rewritten(
    writer: Writer, text: str, parameters: RewritingParameters, *, task: str, make: Callable[[str], R]
) -> Writing[list[R]]:
    """The texts about one that is read behind the model's prefix for the task, each as `make` puts it."""
    parameters = merged(parameters)
    prefix = writer.section.prefixes.get(task, "")
    encoding = writer.tokenizer.encode(prefix + text, truncation=truncation_of(parameters))
    composition = compose(writer, encoding.ids, parameters, tasks=(task,))
    return finished_as(make, composition, encoding)


def finished_as(make: Callable[[str], R], composition: Composition, encoding: Encoding) -> Writing[list[R]]:
    """What is written about an encoded text, each as `make` puts it."""
    return Writing(
        rows=(),
        finish=lambda _: [make(text.text) for text in composition.texts()],
        truncated_tokens=encoding.cut,
        composition=composition,
    )


def compose(
    writer: Writer,
    source: Ids,
    parameters: RewritingParameters,
    *,
    tasks: tuple[str, ...],
    prompt: tuple[int, ...] | None = None,
    forced: int | None = None,
) -> Composition:
    """A request that writes about the tokens `source` (S,).

    The model's defaults for `tasks` lie over its general ones, later over earlier; `prompt` is what the decoder begins
    with, when not as always, and `forced` the token that must follow.
    """
    return writer.compose(
        writer.decoder_prompt if prompt is None else np.array(prompt, np.int64),
        writer.options(parameters, *tasks, **({} if forced is None else {"forced_bos_token_id": forced})),
        source=source,
        clean_up=parameters.clean_up_tokenization_spaces,
    )


def truncation_of(parameters: RewritingParameters) -> Truncation:
    """The way to cut that the parameter stands for."""
    if isinstance(parameters.truncation, bool):
        return "longest_first" if parameters.truncation else "do_not_truncate"
    return parameters.truncation
