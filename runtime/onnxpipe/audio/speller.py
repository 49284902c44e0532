"""Models that spell out sound, frame by frame: a recording of any length to its text, window by window."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from onnxpipe.arrays import Floats
from onnxpipe.audio.chunks import Strides, Window, cut_windows, plan_windows
from onnxpipe.audio.ctc import CtcDecoder, Frames, Unit, require_ctc
from onnxpipe.audio.features import FeatureReader, require_audio
from onnxpipe.audio.transcript import Transcript
from onnxpipe.audio.waveform import Audio
from onnxpipe.batching import Row
from onnxpipe.pipeline import Model, Work
from onnxpipe.session import Array, Arrays

# What a model hears as a whole where nothing was said: its memory grows with the square. Longer recordings are cut.
LONGEST_SECONDS = 60.0
_WINDOW_SECONDS = 30.0

# What is decoded at a time.
_BLOCK_SECONDS = 5

# Of shorter windows, as many as last this long share a run.
_TOGETHER_SECONDS = 30.0

Infer = Callable[[Sequence[Row]], Iterator[tuple[int, Arrays]]]


class Speller:
    """Hears with a model, whose rows `infer` runs. Raises UnsupportedModel when the bundle has none that spells."""

    def __init__(self, model: Model, infer: Infer) -> None:
        manifest = model.bundle.manifest
        self._ctc = require_ctc(manifest)
        audio = require_audio(manifest)
        self._rate = audio.sampling_rate
        self._longest = int(LONGEST_SECONDS * self._rate)
        if audio.max_samples is not None:
            self._longest = min(self._longest, audio.max_samples)
        self._reader = FeatureReader(audio, model.graph())
        self._decoder = CtcDecoder(self._ctc, self._rate)
        self._output = model.graph().outputs[0].name
        self._infer = infer

    def work(
        self,
        audio: Audio,
        *,
        unit: Unit | None,
        seconds: float | None,
        strides: Strides,
        warnings: tuple[str, ...] = (),
    ) -> Work[Transcript]:
        """The first window, which may be all; when it has run, the others are decoded and run, a few at a time.

        Windows of so many `seconds`, or None for a whole where it is not too long; `strides` as `plan_windows` has
        them. Raises FieldError when the strides leave nothing of a window, and what `Audio.blocks` does.
        """
        windows = self._cut(audio, seconds, strides)
        first = next(windows)
        finish = functools.partial(self._finish, first=first, others=windows, unit=unit)
        return Work([self._row(first)], finish, warnings=warnings)

    def _finish(self, outputs: list[Arrays], first: Window, others: Iterator[Window], unit: Unit | None) -> Transcript:
        """Logits (T, V) of the first window to the text of all."""
        frames = [self._own_frames(first, outputs[0][self._output])]
        for windows in _together(others, int(_TOGETHER_SECONDS * self._rate)):
            rows = [self._row(window) for window in windows]
            # the tokens alone are kept: logits are hundreds of times larger
            heard = {index: self._own_frames(windows[index], out[self._output]) for index, out in self._infer(rows)}
            frames += [heard[index] for index in range(len(rows))]
        return self._decoder.decode(np.concatenate(frames), unit)

    def _cut(self, audio: Audio, seconds: float | None, strides: Strides) -> Iterator[Window]:
        blocks: Iterator[Floats]
        if seconds is None and (audio.seconds is None or audio.seconds * self._rate <= self._longest):
            # the header may not tell, or not the truth
            blocks = audio.blocks(self._rate, self._longest)
            beginning = [*itertools.islice(blocks, 2)]
            if len(beginning) == 1:
                return iter([Window(beginning[0])])
            blocks = itertools.chain(beginning, blocks)
        else:
            blocks = audio.blocks(self._rate, _BLOCK_SECONDS * self._rate)
        if seconds is None:
            seconds = min(_WINDOW_SECONDS, self._longest / self._rate)
        return cut_windows(blocks, plan_windows(seconds, strides, self._rate, self._ctc.frame_samples))

    def _row(self, window: Window) -> Row:
        return self._reader.row(window.samples)

    def _own_frames(self, window: Window, logits: Array) -> Frames:
        """The likeliest tokens of the frames that are a window's own.

        A model makes a frame less of a window than its length has. Where no stride at the end makes up for that, the
        last one lasts longer; in the reference, all that follows comes 20 ms too early, with every such window.
        """
        own = window.kept_frames(self._ctc.frame_samples)
        tokens: Frames = logits[own].argmax(axis=-1).astype(np.int32)
        missing = own.stop - own.start - len(tokens)
        return tokens if window.last or missing <= 0 else np.pad(tokens, (0, missing), mode="edge")


def _together(windows: Iterator[Window], samples: int) -> Iterator[list[Window]]:
    """The windows in lists of at most that many samples, but at least one window."""
    waiting: list[Window] = []
    size = 0
    for window in windows:
        if waiting and size + len(window.samples) > samples:
            yield waiting
            waiting, size = [], 0
        waiting.append(window)
        size += len(window.samples)
    if waiting:
        yield waiting
