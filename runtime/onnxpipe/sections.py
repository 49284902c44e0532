"""What a manifest says of a model's inputs and outputs: one section for each kind of pre- and post-processing."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from onnxpipe.records import FieldError, Record, parameter

Pooling = Literal["cls", "max", "mean", "mean_sqrt_len", "weighted_mean", "last_token"]
Activation = Literal["softmax", "sigmoid", "none"]
BoxFormat = Literal["cxcywh"]
Resample = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
Subtask = Literal["panoptic", "instance", "semantic"]
SourcePart = Literal["source", "target", "text", "eos"]
MelScale = Literal["slaney", "kaldi", "htk"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text(Record):
    """How text becomes `input_ids` and back: the tokenizer, its limits, and the prompts that may go before a text.

    `special_tokens` names tokens by role ("mask_token"); `clean_up_spaces` joins punctuation to words after decoding.
    Ids from `unknown_from` on are the tokenizer's own: the model knows them as "unk_token".
    """

    tokenizer: str
    max_tokens: int | None = parameter(None, ge=1, description="Tokens of one input, special ones included.")
    truncation_side: Literal["left", "right"] = "right"
    special_tokens: Mapping[str, str] = dataclasses.field(default_factory=dict)
    clean_up_spaces: bool = False
    unknown_from: int | None = None
    prompts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    default_prompt: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.default_prompt is not None and self.default_prompt not in self.prompts:
            raise FieldError("default_prompt", f"expected one of the prompts, given {self.default_prompt!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embedding(Record):
    """How hidden states become one vector: poolings (several are concatenated), then length 1 when `normalize`.

    `keep_tokens` makes feature-extraction answer with the hidden states of all tokens, as models without a pooling of
    their own do; pooling then serves sentence-similarity alone.
    """

    pooling: tuple[Pooling, ...]
    include_prompt: bool = True
    normalize: bool = False
    keep_tokens: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "pooling")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification(Record):
    """How logits become labelled scores; `labels` in the order of the logits."""

    labels: tuple[str, ...]
    activation: Activation

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "labels")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table(Record):
    """How a question and a table become one row of tokens, and what the outputs make of the cells.

    `type_sizes` are the entries of the model's seven token-type tables: segment, column, row, previous label, rank,
    inverse rank and numeric relation. `max_columns` and `max_rows` are as many as it can tell apart, the header not
    counted; words that begin beyond `max_cell_tokens` are left out of a cell, and questions outside of the two bounds
    altogether. A cell is an answer when the mean of its tokens' scores is above `threshold`. `aggregations` name what
    the second output chooses from, `no_aggregation` the place of the one that leaves the cells as they are.
    """

    empty_token: str
    type_sizes: tuple[int, ...]
    max_columns: int
    max_rows: int
    max_cell_tokens: int | None = parameter(None, ge=1, description="Tokens of one cell; all when absent.")
    min_question_tokens: int | None = None
    max_question_tokens: int | None = None
    read_header: bool = True
    threshold: float = 0.5
    aggregations: tuple[str, ...] = ()
    no_aggregation: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.type_sizes) != 7:
            raise FieldError("type_sizes", f"expected 7 sizes, given {len(self.type_sizes)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size(Record):
    """Height and width in pixels."""

    height: int = parameter(ge=1, description="Pixels from top to bottom.")
    width: int = parameter(ge=1, description="Pixels from left to right.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resize(Record):
    """The size that a picture is scaled to, and the filter. Fractions of a pixel are cut off.

    exact          `size`
    within         the largest of the picture's own shape inside of `size`
    closest        as `size` wants the edge that changes less, the other by the same factor
    shortest_edge  its shortest edge gets `shortest_edge` pixels, its longest at most `longest_edge`

    `limit` says how a longest edge beyond its limit gets there: "floor" scales what came out once more, "round" scales
    the picture itself and rounds the shortest edge; where that has this length already, the picture stays as it is (not
    with "round_tall" when it is taller than wide). At last, edges become multiples of `multiple_of`.
    """

    mode: Literal["exact", "within", "closest", "shortest_edge"]
    size: Size | None = None
    shortest_edge: int | None = parameter(None, ge=1, description="Pixels of the shortest edge.")
    longest_edge: int | None = parameter(None, ge=1, description="Pixels the longest edge may have.")
    limit: Literal["floor", "round", "round_tall"] = "round"
    multiple_of: int = parameter(1, ge=1, description="What edges are multiples of.")
    multiple: Literal["floor", "ceil", "nearest"] = "floor"
    resample: Resample

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "shortest_edge" if self.mode == "shortest_edge" else "size")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pad(Record):
    """Zeros around a finished picture: up to `size`, or until its edges are multiples of `multiple_of`.

    On the right and at the bottom, or when `centered` on all sides.
    """

    size: Size | None = None
    multiple_of: int = parameter(1, ge=1, description="What edges are multiples of.")
    centered: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Image(Record):
    """How a picture in RGB becomes the numbers a graph takes, in the order of the fields; what is absent is not done.

    `crop` cuts out the middle, with zeros around a smaller picture; then each value in 0..255 becomes
    (value * `factor` + `offset` - `mean`) / `std`, the last two by channel, red first, whatever order `channels` puts
    them in.
    """

    resize: Resize | None = None
    crop: Size | None = None
    factor: float = 1.0
    offset: float = 0.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    channels: Literal["rgb", "bgr"] = "rgb"
    pad: Pad | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("mean", "std"):
            if len(getattr(self, name)) != 3:
                raise FieldError(name, f"expected 3 numbers, given {len(getattr(self, name))}")
        if 0.0 in self.std:
            raise FieldError("std", "expected numbers other than 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detection(Record):
    """How a set of predictions becomes objects; `labels` in the order of the logits, boxes relative to the picture.

    softmax_without_last  one object per query, of its likeliest class; the last class has no label: there is no object
    sigmoid_top_k         each class of each query for itself, the `count` likeliest; as many as queries when null
    """

    labels: tuple[str, ...]
    scores: Literal["softmax_without_last", "sigmoid_top_k"]
    count: int | None = parameter(None, ge=1, description="How many objects come out of sigmoid_top_k.")
    box_format: BoxFormat = "cxcywh"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "labels")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segmentation(Record):
    """How outputs become segments; `labels` in the order of the scores, the first of `subtasks` by default.

    `predicts` says what the outputs are:
    pixels   scores of each label at each pixel (C, h, w)
    queries  logits of each query's label (Q, C + 1), the null label last, and those of its mask (Q, h, w)

    Of queries, `instances` are either their best labels without overlap, or the best pairs of a "query" and a "label".
    Mask logits are resized to `mask_size` before anything else; segments of `fused_labels` become one in panoptic ones.
    """

    labels: tuple[str, ...]
    subtasks: tuple[Subtask, ...]
    predicts: Literal["pixels", "queries"]
    instances: Literal["queries", "pairs"] = "queries"
    mask_size: Size | None = None
    fused_labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "labels", "subtasks")
        if self.predicts == "pixels" and self.subtasks != ("semantic",):
            raise FieldError("subtasks", f"expected 'semantic' alone of pixels, given {', '.join(self.subtasks)}")


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
class Generation(Record):
    """How a model writes text, where a request does not say.

    `defaults` are parameters by the names of a request; `task_defaults` lay others over them, by task and, for one pair
    of languages, by "translation_en_to_de". `prefixes` go before an input, by task. A text that an encoder has read
    begins with `decoder_prompt`; without an encoder, the input itself is what is continued. A row may have `max_length`
    tokens, those it begins with included; any number when null. One that grows past `reread_at` tokens is read anew,
    for its rotary frequencies change there.
    """

    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    task_defaults: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    prefixes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    decoder_prompt: tuple[int, ...] = ()
    max_length: int | None = parameter(None, ge=1, description="Most tokens of a row.")
    reread_at: int | None = parameter(None, ge=1, description="A row that gets longer is read anew.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Translation(Record):
    """The languages of a model and how it is told of them; one that is for a single pair need not be told.

    `languages` are the tokens of those it has tokens for, by the names that users have for them. What the encoder reads
    is `template`, in this order: the tokens of the two languages, the tokens of the text, the token that ends one. The
    token of the target is where `target` says: the decoder's first ("start"), the one after it ("forced"), or nowhere
    but in the template ("source"). `prefixes` are for models that are told in words: what goes before a text, by pair
    ("en_to_de"); no others are known then.

    The defaults are what an input is translated from and to when nothing is said; null where it has to be said, or
    where it is not known.
    """

    languages: Mapping[str, int] = dataclasses.field(default_factory=dict)
    template: tuple[SourcePart, ...] = ("text", "eos")
    target: Literal["start", "forced", "source"] = "source"
    prefixes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    default_source: str | None = None
    default_target: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if "text" not in self.template:
            raise FieldError("template", "expected 'text' among its parts, given none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chat(Record):
    """How messages become a prompt: the model's Jinja templates by name, "default" and maybe "tool_use" and others."""

    templates: Mapping[str, str]


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
    by code, `names` of them in English, each code's own name first, `tasks` by name. Then `no_timestamps`, or else times:
    each token from the one behind it on means `time_precision` seconds more, counted from the window's beginning.
    `max_initial_timestamp` is the highest the first may be, as a number of such steps.

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


def require(record: Record, *names: str) -> None:
    """Raise FieldError unless each of these fields has something in it."""
    for name in names:
        if not getattr(record, name):
            raise FieldError(name, "expected at least one, given none")
