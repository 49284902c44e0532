"""What clients of OpenAI's API get: whole responses and the chunks of streams."""

import dataclasses
import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from onnxpipe.generation.detokenize import token_bytes, token_text
from onnxpipe.generation.results import FinishReason
from onnxpipe.generation.transcript import Token
from onnxpipe.text.tokenizer import Tokenizer
from onnxpipe_server.openai.forms import Usage
from onnxpipe_server.openai.tools import Delta, Reader

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Head:
    """What a response and all chunks of one have in common."""

    model: str
    fingerprint: str
    id: str = ""
    created: int = 0

    @classmethod
    def make(cls, prefix: str, model: str, fingerprint: str) -> "Head":
        """The head of a new response."""
        return cls(model, fingerprint, f"{prefix}-{uuid.uuid4().hex}", int(time.time()))

    def wrap(self, kind: str, choices: Sequence[Json], usage: Json | None) -> Json:
        """A response or a chunk."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": list(choices),
            "usage": usage,
        }


def usage_of(prompt_tokens: int, completion_tokens: int) -> Json:
    """How many tokens it took."""
    return dataclasses.asdict(Usage(prompt_tokens, completion_tokens, prompt_tokens + completion_tokens))


class ChatAnswer:
    """One answer to messages, token by token."""

    def __init__(self, index: int, reader: Reader, tokenizer: Tokenizer, *, logprobs: bool) -> None:
        self._index = index
        self._reader = reader
        self._tokenizer = tokenizer
        self._with_logprobs = logprobs
        self._deltas: list[Delta] = []
        self._told: list[Json] = []
        self._reason: FinishReason | None = None

    def begin(self) -> Json:
        """The choice of the first chunk."""
        return self._choice({"role": "assistant", "content": ""}, None, None)

    def add(self, token: Token) -> list[Json]:
        """The choices of chunks that a token makes."""
        deltas = self._reader.add(token.text)
        told = [describe_token(self._tokenizer, token)] if self._with_logprobs and not token.special else []
        if token.finish_reason is not None:
            self._reason = token.finish_reason
            deltas = deltas + self._reader.finish()
        self._deltas += deltas
        self._told += told
        chunks = []
        for delta in deltas or ([{"content": ""}] if told else []):
            chunks.append(self._choice(delta, {"content": told} if told else None, None))
            told = []
        if self._reason is not None:
            chunks.append(self._choice({}, None, self.finish_reason))
        return chunks

    @property
    def finish_reason(self) -> str:
        """Why the answer ended."""
        if self._reason == "length":
            return "length"
        return "tool_calls" if self._reader.called else "stop"

    def whole(self) -> Json:
        """The choice of a response, with all tokens that were added."""
        return {
            "index": self._index,
            "message": _message(self._deltas),
            "logprobs": {"content": self._told} if self._with_logprobs else None,
            "finish_reason": self.finish_reason,
        }

    def _choice(self, delta: Delta, logprobs: Json | None, reason: str | None) -> Json:
        return {"index": self._index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}


class TextAnswer:
    """One text that goes on from a prompt, token by token."""

    def __init__(self, index: int, tokenizer: Tokenizer, *, logprobs: int | None) -> None:
        self._index = index
        self._tokenizer = tokenizer
        self._top = logprobs
        self._pieces: list[str] = []
        self._length = 0
        self._told: list[Json] = []
        self._reason: FinishReason | None = None

    def add(self, token: Token) -> list[Json]:
        """The choices of chunks that a token makes."""
        told = [] if self._top is None or token.special else [self._describe(token)]
        self._told += told
        self._pieces.append(token.text)
        self._length += len(token.text)
        self._reason = token.finish_reason
        if not token.text and not told and self._reason is None:
            return []
        return [self._choice(token.text, told, self._reason and self.finish_reason)]

    @property
    def finish_reason(self) -> str:
        """Why the text ended."""
        return "length" if self._reason == "length" else "stop"

    def whole(self) -> Json:
        """The choice of a response, with all tokens that were added."""
        return self._choice("".join(self._pieces), self._told, self.finish_reason)

    def _describe(self, token: Token) -> Json:
        named = {token_text(self._tokenizer, number): logprob for number, logprob in token.top}
        return {
            "token": token_text(self._tokenizer, token.id),
            "logprob": token.logprob,
            "top": named,
            "offset": self._length,
        }

    def _choice(self, text: str, told: Sequence[Json], reason: str | None) -> Json:
        logprobs = None
        if self._top is not None:
            logprobs = {
                "tokens": [item["token"] for item in told],
                "token_logprobs": [item["logprob"] for item in told],
                "top_logprobs": [item["top"] for item in told] if self._top else None,
                "text_offset": [item["offset"] for item in told],
            }
        return {"index": self._index, "text": text, "logprobs": logprobs, "finish_reason": reason}


def describe_token(tokenizer: Tokenizer, token: Token) -> Json:
    """A token of an answer and the likeliest ones in its place."""
    top = [_spelled(tokenizer, number, logprob) for number, logprob in token.top]
    return {**_spelled(tokenizer, token.id, token.logprob), "top_logprobs": top}


def _spelled(tokenizer: Tokenizer, number: int, logprob: float | None) -> Json:
    spelled = list(token_bytes(tokenizer, number))
    return {"token": token_text(tokenizer, number), "logprob": logprob, "bytes": spelled}


def _message(deltas: Iterable[Delta]) -> Json:
    """The message that pieces make together."""
    content: list[str] = []
    calls: list[Json] = []
    for delta in deltas:
        content.append(delta.get("content", ""))
        for part in delta.get("tool_calls", ()):
            if "id" in part:
                calls.append({"id": part["id"], "type": "function", "function": {**part["function"]}})
            else:
                calls[part["index"]]["function"]["arguments"] += part["function"]["arguments"]
    text = "".join(content)
    if calls:
        return {"role": "assistant", "content": text or None, "tool_calls": calls}
    return {"role": "assistant", "content": text}
