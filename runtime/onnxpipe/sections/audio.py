"""How sound goes into a model, and how what is said in it comes out."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from onnxpipe.records import FieldError, Record, parameter, require

MelScale = Literal["slaney", "kaldi", "htk"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mel(Record):
    """How sound becomes logarithms of the energies in bins of frequency, frame by frame.

    Frames of `frame_length` samples begin every `hop_length`; when `centered`, around every such sample, with mirrored
    ends. Of each, its mean is subtracted (`remove_offset`) and a part of the sample before (`preemphasis`); then come a
    Hann window, `periodic` or symmetric, and a Fourier transform of `fft_length`. Bins are triangles of equal widths on
    the mel scale, straight in "hertz" or in "mel", of heights 1 or of `equal_areas`.
    """

    bins: int = parameter(ge=1, description="Bins of frequency.")
    frame_length: int = parameter(400, ge=2, description="Samples of a frame.")
    hop_length: int = parameter(160, ge=1, description="Samples from one frame to the next.")
    fft_length: int = parameter(400, ge=2, description="Samples of a Fourier transform; zeros after those of a frame.")
    centered: bool = False
    remove_offset: bool = False
    preemphasis: float = 0.0
    periodic: bool = True
    scale: MelScale = "slaney"
    min_frequency: float = parameter(0.0, ge=0, description="Where the first triangle begins, in hertz.")
    max_frequency: float = parameter(8000.0, gt=0, description="Where the last one ends.")
    triangles: Literal["hertz", "mel"] = "hertz"
    equal_areas: bool = False
    floor: float = parameter(1e-10, gt=0, description="The least energy.")
    log: Literal["log10", "ln"] = "ln"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fft_length < self.frame_length:
            raise FieldError(
                "fft_length", f"expected {self.frame_length} (`frame_length`) or more, given {self.fft_length}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audio(Record):
    """How mono sound of `sampling_rate` becomes the numbers a graph takes, in the order of the fields.

    Samples are cut or padded with zeros to `samples`, brought to mean 0 and variance 1 (`normalize`), and where there
    is `mel` become energies. Of these the last frame is left out (`drop_last`), those more than `dynamic_range` below
    the loudest are raised to it, `frames` cuts or pads them with zeros, and each becomes (value - `mean`) / `std`. They
    go in as (frames, bins), or when `bins_first` as (bins, frames).
    """

    sampling_rate: int = parameter(ge=1000, description="Samples a second.")
    samples: int | None = parameter(None, ge=1, description="Samples of every input; as many as there are when absent.")
    normalize: bool = False
    mel: Mel | None = None
    drop_last: bool = False
    dynamic_range: float | None = None
    frames: int | None = parameter(None, ge=1, description="Frames of every input; as many as there are when absent.")
    mean: float = 0.0
    std: float = 1.0
    bins_first: bool = False
    min_samples: int = parameter(1, ge=1, description="The fewest samples the graph takes; shorter sound gets zeros.")
    max_samples: int | None = parameter(None, ge=1, description="Samples of which it takes no more at once.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.std:
            raise FieldError("std", "expected a number other than 0, given 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ctc(Record):
    """How the likeliest tokens of a recording's frames become a text: one for each frame, `vocabulary` by their ids.

    A token that goes on counts once, and `blank` not at all; `delimiter` stands between words and is written as
    `space`. A frame begins every `frame_samples`.
    """

    vocabulary: tuple[str, ...]
    blank: str
    delimiter: str | None
    space: str = " "
    lower_case: bool = False
    clean_up_spaces: bool = False
    frame_samples: int = parameter(ge=1, description="Samples from the beginning of a frame to that of the next.")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "vocabulary")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transcription(Record):
    """How a model writes down what it hears in windows of `window_seconds`, for models told by tokens what to write.

    A text begins with `start`; where there are several languages, their token and that of the task follow: `languages`
    by code, `names` of them in English, each code's own name first, `tasks` by name. Then `no_timestamps`, or else
    times: each token from the one behind it on means `time_precision` seconds more, counted from the window's
    beginning. `max_initial_timestamp` is the highest the first may be, as a number of such steps.

    Before `start` may stand `previous` and what was said before. `no_speech` is likely there where nothing is said.
    `defaults` are parameters beyond those of `generation`. `alignment_heads` are the (layer, head) pairs whose
    attention follows the sound: the decoder gives the queries of those layers. Times of tokens come from it behind a
    median filter over `median_filter_width` frames.
    """

    start: int
    languages: Mapping[str, int] = dataclasses.field(default_factory=dict)
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tasks: Mapping[str, int] = dataclasses.field(default_factory=dict)
    no_timestamps: int
    no_speech: int
    previous: int | None = None
    max_initial_timestamp: int | None = None
    window_seconds: float = 30.0
    time_precision: float = 0.02
    alignment_heads: tuple[tuple[int, ...], ...] = ()
    median_filter_width: int = 7
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if unnamed := [name for name, code in self.names.items() if code not in self.languages]:
            raise FieldError("names", f"expected names of the languages, given {unnamed[0]!r}")
        if self.languages and "transcribe" not in self.tasks:
            raise FieldError("tasks", "expected 'transcribe' among them where there are languages, given none")
        if self.median_filter_width % 2 != 1:
            raise FieldError("median_filter_width", f"expected an odd number, given {self.median_filter_width}")

    @property
    def first_timestamp(self) -> int:
        """The token that means the beginning of a window; the larger ones mean later."""
        return self.no_timestamps + 1
