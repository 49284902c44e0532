"""Token ids to text while they come: what is certain at once, never half a character, together exactly the whole text.

The steps that `Tokenizer.decode` takes over all tokens are taken here token by token (`text_steps`), so that the cost
of a token does not grow with the text and nothing is decoded twice.
"""

import copy
from collections.abc import Iterable

from onnxpipe.generation.text_steps import REPLACEMENT, ReplaceText, byte_of, bytes_of, run, steps_of
from onnxpipe.text.tokenizer import SPACES, Tokenizer


class Detokenizer:
    """The text of a growing list of tokens, in pieces.

    The pieces of `add`, and what `finish` gives at last, make `tokenizer.decode(ids)`. Behind a `prompt` they make what
    its text grows by, so that the space between the two is there: `decode(prompt + ids)[len(decode(prompt)):]`.
    `clean_up` joins punctuation to words, by default where the model's tokenizer does that.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        prompt: Iterable[int] = (),
        skip_special_tokens: bool = True,
        clean_up: bool | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._steps = steps_of(tokenizer)
        if tokenizer.text.clean_up_spaces if clean_up is None else clean_up:
            self._steps += [ReplaceText(*pair) for pair in SPACES]
        self._dropped = 0  # characters still to come that the prompt's own text has in their place
        self.extend(prompt)
        self._dropped = len(self._rest())

    def add(self, token: int) -> str:
        """The text that is certain now that this token has come; often empty, U+FFFD only where it will stay."""
        return self.extend((token,))

    def extend(self, tokens: Iterable[int]) -> str:
        """`add` for several tokens."""
        spelled = [
            token
            for number in tokens
            if (token := self._tokenizer.known(number)) is not None
            and not (self._skip_special_tokens and self._tokenizer.is_special(number))
        ]
        return self._cut(run(self._steps, spelled)) if spelled else ""

    @property
    def pending(self) -> str:
        """What `finish` would give now, without an unfinished character at its end. Changes nothing."""
        return self._rest()[self._dropped :].partition(REPLACEMENT)[0]

    def finish(self) -> str:
        """The text held back: the last piece. Nothing may be added then."""
        return self._cut(run(self._steps, [], close=True))

    def _rest(self) -> str:
        if not any(step.held for step in self._steps):
            return ""
        return run([copy.copy(step) for step in self._steps], [], close=True)

    def _cut(self, text: str) -> str:
        if not self._dropped:
            return text
        dropped = min(self._dropped, len(text))
        self._dropped -= dropped
        return text[dropped:]


def continuation(
    tokenizer: Tokenizer, ids: Iterable[int], *, prompt: Iterable[int] = (), clean_up: bool | None = None
) -> str:
    """The whole text of tokens behind a prompt: the pieces of a `Detokenizer`, joined."""
    detokenizer = Detokenizer(tokenizer, prompt=prompt, clean_up=clean_up)
    return detokenizer.extend(ids) + detokenizer.finish()


def token_text(tokenizer: Tokenizer, token: int) -> str:
    """The text of one token inside of a text; a special token's is the token itself, an unknown one's is empty.

    For tokens without a text around them: alternatives, prompts. Bytes that are no whole character give U+FFFD.
    """
    spelled = tokenizer.known(token)
    if spelled is None or tokenizer.is_special(token):
        return spelled or ""
    return run(steps_of(tokenizer, inside=True), [spelled], close=True)


def token_bytes(tokenizer: Tokenizer, token: int) -> bytes:
    """The bytes of one token inside of a text, also where they are only a part of a character."""
    spelled = tokenizer.known(token)
    if spelled is not None and not tokenizer.is_special(token):
        kinds = {step["type"] for step in tokenizer.decoding}
        if "ByteLevel" in kinds:
            return bytes_of(spelled)
        if "ByteFallback" in kinds and (byte := byte_of(spelled)) is not None:
            return bytes([byte])
    return token_text(tokenizer, token).encode()
