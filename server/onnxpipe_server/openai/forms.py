"""The forms of OpenAI's responses, as the document of the API shows them; `responses` makes them."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is wrong; `param` is the field, `code` a word for its kind."""

    message: str
    type: str
    param: str | None
    code: str
    http_status_code: int


@dataclasses.dataclass(frozen=True)
class ProblemReport:
    """The body of every error on these routes."""

    error: Problem


@dataclasses.dataclass(frozen=True)
class FunctionCall:
    """A function and its arguments as JSON."""

    name: str
    arguments: str


@dataclasses.dataclass(frozen=True)
class ToolCall:
    """A call that the answer asks for."""

    id: str
    type: Literal["function"]
    function: FunctionCall


@dataclasses.dataclass(frozen=True)
class AnswerMessage:
    """The answer."""

    role: Literal["assistant"]
    content: str | None
    tool_calls: list[ToolCall] | None = None


@dataclasses.dataclass(frozen=True)
class TopLogprob:
    """A token that was likely."""

    token: str
    logprob: float
    bytes: list[int]


@dataclasses.dataclass(frozen=True)
class TokenLogprob:
    """A token of the answer."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


@dataclasses.dataclass(frozen=True)
class ChatLogprobs:
    """The tokens of the answer."""

    content: list[TokenLogprob]


@dataclasses.dataclass(frozen=True)
class ChatChoice:
    """One of the answers."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]


@dataclasses.dataclass(frozen=True)
class Usage:
    """How many tokens it took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@dataclasses.dataclass(frozen=True)
class ChatCompletion:
    """The answers to messages."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage


@dataclasses.dataclass(frozen=True)
class TextLogprobs:
    """The tokens of a text, and where in it each begins."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


@dataclasses.dataclass(frozen=True)
class TextChoice:
    """One of the texts."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length"]


@dataclasses.dataclass(frozen=True)
class Completion:
    """How texts go on."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: Usage
