"""Tokens to a text as a request wants it: with each token's share, up to a stop string, the end included or not."""

import dataclasses
from collections.abc import Sequence

from onnxpipe.generation.detokenize import Detokenizer, token_text
from onnxpipe.generation.results import FinishReason
from onnxpipe.generation.scores import Tokens
from onnxpipe.generation.stopping import StopStrings
from onnxpipe.text.tokenizer import Tokenizer

Top = tuple[tuple[int, float], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """A token of a text: `text` is what the text grows by with it, which for a special token mostly is nothing.

    `shown` is the same, but a special token itself. `top` are the likeliest ones with their log probabilities;
    `finish_reason` is that of the text's last token.
    """

    id: int
    text: str
    shown: str
    special: bool
    logprob: float | None
    top: Top
    finish_reason: FinishReason | None


@dataclasses.dataclass(frozen=True)
class Manner:
    """How tokens become a text: behind which `prompt`, up to which `stops`, and whether with them at the end."""

    tokenizer: Tokenizer
    prompt: Sequence[int] = ()
    stops: tuple[str, ...] = ()
    include_stop: bool = True
    clean_up: bool | None = None


class Transcript:
    """One text, token by token. The texts of all tokens together are the whole."""

    def __init__(self, manner: Manner) -> None:
        self._tokenizer = manner.tokenizer
        self._detokenizer = Detokenizer(manner.tokenizer, prompt=manner.prompt, clean_up=manner.clean_up)
        self._stops = StopStrings(manner.stops, include=manner.include_stop) if manner.stops else None

    @property
    def stopped(self) -> bool:
        """Whether a stop string has been found."""
        return self._stops is not None and self._stops.found is not None

    def add(self, token: int, *, last: bool = False) -> str:
        """What the text grows by with a token; with the `last` one all that was held back."""
        piece = self._detokenizer.add(token)
        if self._stops is not None:
            piece = self._stops.add(piece, self._detokenizer.pending)
        if not last or self.stopped:
            return piece
        rest = self._detokenizer.finish()
        return piece + (rest if self._stops is None else self._stops.add(rest) + self._stops.finish())

    def describe(self, token: int, logprob: float | None, top: Top, finish_reason: FinishReason | None) -> Token:
        """`add`, with all that is told of a token."""
        text = self.add(token, last=finish_reason is not None)
        special = self._tokenizer.is_special(token)
        shown = token_text(self._tokenizer, token) if special else text
        return Token(token, text, shown, special, logprob, top, finish_reason)


class StopWatch:
    """Says of the texts of one search whether they end with their newest token because of a stop string."""

    def __init__(self, manner: Manner) -> None:
        self._manner = manner
        self._running: dict[int, Transcript] = {}

    def __call__(self, sequence: int | None, ids: Tokens) -> bool:
        """See `results.Stops`."""
        if sequence is None:  # one of many candidates: from the beginning
            transcript = Transcript(self._manner)
            for token in ids.tolist():
                transcript.add(token)
            return transcript.stopped
        if sequence not in self._running:
            self._running[sequence] = Transcript(self._manner)
        self._running[sequence].add(int(ids[-1]))
        return self._running[sequence].stopped
