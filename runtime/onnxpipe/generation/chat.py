"""Messages to the tokens that a model answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from onnxpipe.errors import UnprocessableInput
from onnxpipe.generation.decoder import Ids
from onnxpipe.pipeline import Model
from onnxpipe.text.chat import ChatTemplates, Message, Tool


class ChatPrompts:
    """The prompts of a model: by its chat templates, or where it has none each message followed by the end of a text.

    `has_template` tells which.
    """

    def __init__(self, model: Model) -> None:
        manifest = model.bundle.manifest
        self._tokenizer = model.tokenizer
        self._id = manifest.id
        self.has_template = manifest.chat is not None
        special = {} if manifest.text is None else manifest.text.special_tokens
        self._templates = ChatTemplates(manifest.chat.templates, special) if manifest.chat else None

    def ids(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] | None = None,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> Ids:
        """The tokens (T,) of messages that `read_messages` has read, and of the beginning of the answer.

        Raises as `ChatTemplates.render`; UnprocessableInput for tools where there is no template.
        """
        if self._templates is None:
            return self._joined(messages, tools)
        text = self._templates.render(
            messages, tools=tools, continue_final_message=continue_final_message, variables=variables
        )
        return self._tokenizer.encode(text, side="left", special=False).ids

    def _joined(self, messages: Sequence[Message], tools: Sequence[Tool] | None) -> Ids:
        if tools:
            raise UnprocessableInput(f"{self._id} has no chat template, so it cannot be told of tools")
        end = self._tokenizer.special("eos_token") or ""
        text = "".join(f"{message['content']}{end}" for message in messages)
        return self._tokenizer.encode(text, side="left", special=False).ids
