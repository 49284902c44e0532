"""Long recordings in overlapping windows: each is heard with what surrounds it, and keeps what is its own.

As transformers 4.57.6 does (`chunk_iter` and `rescale_stride` of AutomaticSpeechRecognitionPipeline), but from blocks
as they are decoded, so that a recording of hours is never in memory as a whole.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from onnxpipe.arrays import Floats
from onnxpipe.records import FieldError

# Seconds that windows overlap their neighbours by: at both ends, at each of the two, or None for a sixth of a window.
Strides = float | tuple[float, ...] | None


@dataclasses.dataclass(frozen=True)
class Windows:
    """Samples of each window, and how many at its two ends are there only to be heard.

    The first has nothing to leave out before it, the last nothing behind it.
    """

    size: int
    left: int
    right: int


@dataclasses.dataclass(frozen=True)
class Window:
    """Some consecutive samples (N,), of which `left` and `right` are there only to be heard; `last` of a recording."""

    samples: Floats
    left: int = 0
    right: int = 0
    last: bool = True

    def kept_frames(self, ratio: int) -> slice:
        """The frames that are its own, where each stands for `ratio` samples.

        The end may lie behind the last one: models make a frame less of a window than its length divided by the ratio.
        """
        size = len(self.samples)
        frames = round(size * (1 / ratio))  # in this order: the reference's rounding, halves to even
        return slice(round(self.left / size * frames), frames - round(self.right / size * frames))


def plan_windows(seconds: float, strides: Strides, sample_rate: int, ratio: int) -> Windows:
    """Windows of about that many seconds, in whole frames of `ratio` samples.

    Raises FieldError when they would be shorter than a frame, or when the strides leave nothing of them.
    """
    before, behind = _both_ends(strides, seconds)
    size, left, right = (round(length * sample_rate / ratio) * ratio for length in (seconds, before, behind))
    if not size:
        raise FieldError(
            "chunk_length_s", f"expected at least a frame of {ratio / sample_rate:g} seconds, given {seconds:g}"
        )
    if left + right >= size:
        raise FieldError(
            "stride_length_s",
            f"expected two strides that leave something of chunks of {seconds:g} seconds, given {before:g} and "
            f"{behind:g}",
        )
    return Windows(size, left, right)


def _both_ends(strides: Strides, seconds: float) -> tuple[float, float]:
    if isinstance(strides, tuple):
        return strides[0], strides[-1]
    stride = seconds / 6 if strides is None else strides
    return stride, stride


def cut_windows(blocks: Iterable[Floats], windows: Windows) -> Iterator[Window]:
    """The windows of a recording that comes in consecutive blocks (N,), as soon as each is complete."""
    left, waiting = 0, np.zeros(0, np.float32)
    for block in blocks:
        waiting = np.concatenate([waiting, block])
        # a window that ends with the recording is the last one, so it takes a sample more to know that it is not
        while len(waiting) > windows.size:
            yield Window(waiting[: windows.size], left, windows.right, last=False)
            waiting = waiting[windows.size - windows.left - windows.right :]
            left = windows.left
    if len(waiting) > left:
        yield Window(waiting, left)
