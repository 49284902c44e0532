"""The steps of a tokenizer's decoder, each taking tokens as they come (tokenizers 0.22 and 0.23, src/decoders).

A step gives at once what no later token can change and holds the rest back: bytes of an unfinished character; a run of
byte tokens, for one wrong byte makes U+FFFD of all of it; the beginning of what it replaces.
"""

import codecs
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from onnxpipe.text.tokenizer import SPACES, Tokenizer

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# as the library reads one: two hexadecimal digits, or one behind a plus
_BYTE_TOKEN = re.compile(r"<0x([0-9a-fA-F]{2}|\+[0-9a-fA-F])>")
_WORDPIECE_SPACES = (*SPACES[:7], (" do not", " don't"), *SPACES[7:])


class Step:
    """One step of decoding: takes tokens as they come and gives those that no later one can change.

    `held` is what it keeps back, never changed in place, so that a shallow copy of a step is independent.
    """

    held: str | bytes | tuple[str, ...] = ""

    def push(self, tokens: list[str]) -> list[str]:
        """What is certain of these tokens and those held back."""
        return tokens

    def close(self) -> list[str]:
        """What was held back, when nothing more comes."""
        return []


def run(steps: Sequence[Step], tokens: list[str], *, close: bool = False) -> str:
    """The text that comes out of the steps for these tokens; with `close` also all that they held back."""
    for step in steps:
        tokens = step.push(tokens)
        if close:
            tokens = tokens + step.close()
    return "".join(tokens)


def steps_of(tokenizer: Tokenizer, *, inside: bool = False) -> list[Step]:
    """The steps of a tokenizer's decoder; with `inside` as if a token had come before."""
    decoding = tokenizer.decoding
    steps: list[Step] = [] if decoding else [_Words("", begun=inside)]
    fused = False  # from here on there is one token, the text, that comes in pieces
    for step in decoding:
        kind = step["type"]
        if kind == "ByteLevel":
            steps.append(_ByteLevel())
        elif kind != "Fuse":
            made = _text_step(step, inside=inside) if fused else _token_step(step, inside=inside)
            if made is None:
                return [_Whole(tokenizer.join)]
            steps.append(made)
        fused = fused or kind in ("ByteLevel", "Fuse")
    return steps


def _token_step(step: Mapping[str, Any], *, inside: bool) -> Step | None:
    match step:
        case {"type": "Replace", "pattern": {"String": str(pattern)}, "content": str(content)}:
            return _Each(lambda token: token.replace(pattern, content))
        case {"type": "Strip", "content": str(content), "start": int(start), "stop": int(stop)}:
            return _Each(lambda token: _strip(token, content, start, stop))
        case {"type": "ByteFallback"}:
            return _ByteFallback()
        case {"type": "Metaspace", "replacement": str(mark), "prepend_scheme": str(scheme)}:
            return _Metaspace(mark, begun=inside or scheme == "never")
        case {"type": "WordPiece", "prefix": str(prefix), "cleanup": bool(cleanup)}:
            return _Words(prefix, begun=inside, spaces=_WORDPIECE_SPACES if cleanup else ())
        case {"type": "BPEDecoder", "suffix": str(suffix)} if suffix:
            return _Suffixes(suffix)
    return None


def _text_step(step: Mapping[str, Any], *, inside: bool) -> Step | None:
    match step:
        case {"type": "Replace", "pattern": {"String": str(pattern)}, "content": str(content)} if pattern:
            return ReplaceText(pattern, content)
        case {"type": "Strip", "content": str(content), "start": int(start), "stop": int(stop)}:
            return _StripText(content, 0 if inside else start, stop)
    return None


class _Whole(Step):
    """A decoder that cannot be followed token by token: all text comes at the end."""

    held: tuple[str, ...] = ()

    def __init__(self, join: Callable[[Sequence[str]], str]) -> None:
        self._join = join

    def push(self, tokens: list[str]) -> list[str]:
        self.held += tuple(tokens)
        return []

    def close(self) -> list[str]:
        return [self._join(self.held)]


class _Each(Step):
    """A change of each token by itself."""

    def __init__(self, change: Callable[[str], str]) -> None:
        self._change = change

    def push(self, tokens: list[str]) -> list[str]:
        return [self._change(token) for token in tokens]


class _ByteLevel(Step):
    """Tokens that spell bytes as letters, to text; what is no UTF-8 gives U+FFFD as soon as that is certain."""

    held: bytes = b""

    def push(self, tokens: list[str]) -> list[str]:
        data = self.held + b"".join(map(bytes_of, tokens))
        text, used = codecs.utf_8_decode(data, "replace", False)  # noqa: FBT003 - its arguments have no names
        self.held = data[used:]
        return [text]

    def close(self) -> list[str]:
        return [self.held.decode("utf-8", "replace")]


class _ByteFallback(Step):
    """Runs of tokens like <0x0A> to the text that their bytes spell, or to a U+FFFD for each when they spell none."""

    held: bytes = b""

    def push(self, tokens: list[str]) -> list[str]:
        done: list[str] = []
        for token in tokens:
            if (byte := byte_of(token)) is not None:
                self.held += bytes([byte])
            else:
                done += [*self.close(), token]
                self.held = b""
        return done

    def close(self) -> list[str]:
        try:
            return [self.held.decode()] if self.held else []
        except UnicodeDecodeError:
            return [REPLACEMENT] * len(self.held)


class _Metaspace(Step):
    """A mark to a space, and to nothing in the first token."""

    def __init__(self, mark: str, *, begun: bool) -> None:
        self._mark = mark
        self._begun = begun

    def push(self, tokens: list[str]) -> list[str]:
        done = [token.replace(self._mark, " ") for token in tokens]
        if tokens and not self._begun:
            self._begun = True
            done[0] = tokens[0].replace(self._mark, "")
        return done


class _Words(Step):
    """A space before each token but the first and those that go on with a word, which lose the prefix that says so."""

    def __init__(self, prefix: str, *, begun: bool, spaces: Sequence[tuple[str, str]] = ()) -> None:
        self._prefix = prefix
        self._begun = begun
        self._spaces = spaces

    def push(self, tokens: list[str]) -> list[str]:
        done = []
        for token in tokens:
            text = token
            if self._begun:
                goes_on = self._prefix and token.startswith(self._prefix)
                text = token[len(self._prefix) :] if goes_on else f" {token}"
            self._begun = True
            for spaced, joined in self._spaces:
                text = text.replace(spaced, joined)
            done.append(text)
        return done


class _Suffixes(Step):
    """A mark at the end of words to a space, but not in the last token."""

    held: str = ""

    def __init__(self, suffix: str) -> None:
        self._suffix = suffix

    def push(self, tokens: list[str]) -> list[str]:
        if not tokens:
            return []
        *done, held = [self.held, *tokens] if self.held else tokens
        self.held = held
        return [token.replace(self._suffix, " ") for token in done]

    def close(self) -> list[str]:
        return [self.held.replace(self._suffix, "")]


class ReplaceText(Step):
    """`str.replace` on a text that comes in pieces."""

    held: str = ""

    def __init__(self, pattern: str, content: str) -> None:
        self._pattern = pattern
        self._content = content

    def push(self, tokens: list[str]) -> list[str]:
        """The text so far, its pattern replaced, up to where one may begin."""
        text = self.held + "".join(tokens)
        if self._pattern[0] not in text:
            return [text]
        *done, last = text.split(self._pattern)
        # the longest end that may be a beginning of the pattern
        sizes = range(min(len(self._pattern) - 1, len(last)), 0, -1)
        size = next((size for size in sizes if last.endswith(self._pattern[:size])), 0)
        cut = len(last) - size
        self.held = last[cut:]
        return [self._content.join([*done, last[:cut]])]

    def close(self) -> list[str]:
        """The beginning of a pattern that did not come."""
        return [self.held]


class _StripText(Step):
    """A text that comes in pieces without up to `start` of a character at its start and `stop` at its end."""

    held: str = ""

    def __init__(self, content: str, start: int, stop: int) -> None:
        self._content = content
        self._start = start
        self._stop = stop

    def push(self, tokens: list[str]) -> list[str]:
        text = "".join(tokens)
        if self._start and text:
            kept = _strip(text, self._content, self._start, 0)
            self._start = 0 if kept else self._start - len(text)
            text = kept
        if not self._stop:
            return [text]
        text = self.held + text
        kept = _strip(text, self._content, 0, self._stop)
        self.held = text[len(kept) :]
        return [kept]


def _strip(text: str, content: str, start: int, stop: int) -> str:
    first = min(len(text) - len(text.lstrip(content)), start)
    last = len(text) - min(len(text) - len(text.rstrip(content)), stop)
    return text[first:last]


def byte_of(token: str) -> int | None:
    """The byte that a token like <0x0A> stands for."""
    match = _BYTE_TOKEN.fullmatch(token)
    return int(match[1], 16) if match else None


def bytes_of(token: str) -> bytes:
    """The bytes of a byte-level token; one with any other character stands for itself."""
    try:
        return token.translate(_letters()).encode("latin-1")
    except UnicodeEncodeError:
        return token.encode()


@functools.cache
def _letters() -> dict[int, int]:
    """The byte for each letter of a byte-level vocabulary: printable Latin-1 spells itself, then come the others.

    What is no such letter is beyond Latin-1, or made so, that it can be told.
    """
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in plain]
    return {256 + index: byte for index, byte in enumerate(others)} | dict.fromkeys(others, 0xFFFF)
