"""conversational: the answer to what was said last, after all that was said before.

Models: DialoGPT, Blenderbot, and chat models with a template.
Reference: the classic Inference API, whose pipeline transformers has dropped; chat templates as in transformers 4.57.6.
Without a template each turn is followed by the token that ends a text.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from onnxpipe.errors import InvalidInput
from onnxpipe.generation.chat import ChatPrompts
from onnxpipe.generation.pipeline import Writing, WritingPipeline
from onnxpipe.generation.rewriting import RewritingParameters, merged
from onnxpipe.pipeline import Model
from onnxpipe.records import FieldError, Record, parameter
from onnxpipe.text.chat import Message, read_messages

_TASK = "conversational"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conversation(Record):
    """What was said, the user's and the model's turns apart; `text` is the user's newest."""

    text: str = parameter(description="What the user says now.")
    past_user_inputs: tuple[str, ...] = parameter((), description="What the user said before.")
    generated_responses: tuple[str, ...] = parameter((), description="What the model answered to each of them.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.past_user_inputs) != len(self.generated_responses):
            raise FieldError(
                "generated_responses",
                f"expected one for each of the {len(self.past_user_inputs)} `past_user_inputs`, given "
                f"{len(self.generated_responses)}",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters(RewritingParameters):
    """How the answer is written."""


@dataclasses.dataclass(frozen=True)
class Turns:
    """All that was said, the newest answer included."""

    past_user_inputs: list[str]
    generated_responses: list[str]


@dataclasses.dataclass(frozen=True)
class Reply:
    """The answer, and the conversation with it."""

    generated_text: str
    conversation: Turns


@dataclasses.dataclass(frozen=True)
class Continued:
    """The messages with the answer behind them."""

    generated_text: list[Message]


Inputs = Conversation | tuple[Mapping[str, Any], ...]


class Conversational(WritingPipeline[Inputs, Parameters, Reply | list[Continued]]):
    """The answer in a conversation; for a list of messages, the list with the answer.

    >>> onnxpipe.load("DialoGPT-small")({"text": "Does money buy happiness?"}).generated_text
    'It can, but it depends on how much you have.'
    """

    joined = False

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._prompts = ChatPrompts(model)

    @classmethod
    def is_single(cls, inputs: object) -> bool:
        """A list of messages is one conversation."""
        return not isinstance(inputs, list) or all(isinstance(item, Mapping) and "role" in item for item in inputs)

    def preprocess(self, inputs: Inputs, parameters: Parameters) -> Writing[Reply | list[Continued]]:
        """The turns as one prompt, the last tokens of it where they are too many."""
        parameters = merged(parameters)
        messages = _messages(inputs) if isinstance(inputs, Conversation) else read_messages(inputs)
        ids = self._prompts.ids(messages)
        if not ids.size:
            raise InvalidInput("the conversation has no tokens: expected at least one character that this model reads")
        writer, options = self._writer, self._writer.options(parameters, _TASK)
        if writer.has_encoder:
            limit = self.model.tokenizer.text.max_tokens
            source = ids if limit is None else ids[-limit:]
            prompt = np.array(writer.section.decoder_prompt, np.int64)
            composition = writer.compose(
                prompt, options, source=source, clean_up=parameters.clean_up_tokenization_spaces
            )
            cut = len(ids) - len(source)
        else:
            prompt = writer.fitting(ids, options)
            composition = writer.compose(prompt, options, clean_up=parameters.clean_up_tokenization_spaces)
            cut = len(ids) - len(prompt)

        def finish(_: object) -> Reply | list[Continued]:
            answers = [text.text.strip() for text in composition.texts()]
            if isinstance(inputs, Conversation):
                turns = Turns([*inputs.past_user_inputs, inputs.text], [*inputs.generated_responses, answers[0]])
                return Reply(answers[0], turns)
            return [Continued([*messages, {"role": "assistant", "content": answer}]) for answer in answers]

        return Writing(rows=(), finish=finish, truncated_tokens=cut, composition=composition)


def _messages(conversation: Conversation) -> list[Message]:
    turns = zip(conversation.past_user_inputs, conversation.generated_responses, strict=True)
    past = [
        message
        for said, answered in turns
        for message in ({"role": "user", "content": said}, {"role": "assistant", "content": answered})
    ]
    return [*past, {"role": "user", "content": conversation.text}]
