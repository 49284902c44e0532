"""Connectionist temporal classification: a likeliest token for each frame of sound, and the text they stand for.

Greedy, as Wav2Vec2CTCTokenizer of transformers 4.57.6 decodes: a token that goes on for several frames counts once,
the blank one not at all.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from onnxpipe.audio.transcript import Chunk, Transcript
from onnxpipe.bundle import Manifest
from onnxpipe.errors import UnsupportedModel
from onnxpipe.sections import Ctc

Frames = NDArray[np.int32]  # (T,) the likeliest token of each
Unit = Literal["char", "word"]


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """A text and the frames it was heard in, the end excluded."""

    text: str
    start: int
    end: int


def require_ctc(manifest: Manifest) -> Ctc:
    """The manifest's section. Raises UnsupportedModel when it has none."""
    if manifest.ctc is None:
        raise UnsupportedModel(f"{manifest.id} does not spell out speech; it serves: {', '.join(manifest.tasks)}")
    return manifest.ctc


class CtcDecoder:
    """Tokens of frames to text, by the vocabulary of a model."""

    def __init__(self, ctc: Ctc, sample_rate: int) -> None:
        self._ctc = ctc
        self._sample_rate = sample_rate
        # ids of one text are one token: those that the vocabulary lacks all stand for the unknown one
        first: dict[str, int] = {}
        self._same = np.array([first.setdefault(text, index) for index, text in enumerate(ctc.vocabulary)], np.int32)
        self._shown = [ctc.space if text == ctc.delimiter else text for text in ctc.vocabulary]
        self._blank = first.get(ctc.blank, -1)

    def decode(self, frames: Frames, unit: Unit | None = None) -> Transcript:
        """The text of a recording, with its characters or words and when they were said where a `unit` is given.

        A chunk's text is spelled as in the vocabulary; the whole text is in lower case where the model wants that.
        """
        same = self._same[frames]
        starts = np.flatnonzero(np.diff(same, prepend=-1))
        kept = same[starts] != self._blank
        tokens = [self._shown[token] for token in same[starts[kept]]]
        text = "".join(tokens).strip()
        if self._ctc.lower_case:
            text = text.lower()
        if self._ctc.clean_up_spaces:
            # here, not above: it would load the tokenizers library, of which nothing else is needed
            from onnxpipe.text.tokenizer import clean_up_spaces

            text = clean_up_spaces(text)
        if unit is None:
            return Transcript(text)
        ends = np.append(starts[1:], len(same))
        runs = zip(tokens, starts[kept].tolist(), ends[kept].tolist(), strict=True)
        spans = [Span(*run) for run in runs]
        if unit == "word":
            spans = join_words(spans, self._ctc.space)
        return Transcript(
            text, [Chunk(span.text, (self._seconds(span.start), self._seconds(span.end))) for span in spans]
        )

    def _seconds(self, frame: int) -> float:
        return frame * self._ctc.frame_samples / self._sample_rate


def join_words(tokens: Sequence[Span], space: str) -> list[Span]:
    """Neighbours between spaces joined to words."""
    words: list[Span] = []
    inside = False
    for token in tokens:
        if token.text == space:
            inside = False
        elif inside:
            words[-1] = Span(words[-1].text + token.text, words[-1].start, token.end)
        else:
            words.append(token)
            inside = True
    return words
