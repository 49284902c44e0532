"""How pictures go into a model, and what its outputs mean: objects, segments."""

import dataclasses
from typing import Literal

from onnxpipe.records import FieldError, Record, parameter, require

BoxFormat = Literal["cxcywh"]
Resample = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
Subtask = Literal["panoptic", "instance", "semantic"]


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
