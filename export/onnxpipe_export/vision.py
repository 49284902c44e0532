"""The manifest's `image` section, read from a model's slow image processor.

The processor's class knows the defaults and the old spellings of preprocessor_config.json, so its attributes are read
and not the file. What each class does with its settings, and in what order, is checked against transformers 4.57.6.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

from onnxpipe.errors import UnsupportedModel
from onnxpipe.sections import Image, Pad, Resample, Resize, Size
from onnxpipe_export.source import SourceModel

Processor = Any  # a slow image processor: transformers is untyped here
Shape = tuple[Resize | None, Size | None]  # how a picture is scaled, and what is cropped of it

# Pillow's numbers, as preprocessor_config.json has them
_FILTERS: tuple[Resample, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")


def image_section(source: SourceModel, processor: Processor, *, fixed_size: tuple[int, int] | None = None) -> Image:
    """How the model's pictures are made.

    `fixed_size` is the only (height, width) the graph takes: unless the processor makes just that, pictures are scaled
    to it with the processor's filter, and neither cropped nor padded.
    Raises UnsupportedModel for a processor we do not have, or a size it could not use itself.
    """
    kind = type(processor).__name__
    if kind not in _SHAPES:
        names = ", ".join(sorted(name.removesuffix("ImageProcessor") for name in _SHAPES))
        raise UnsupportedModel(f"{source.name}: image processor {kind} is not supported; supported are: {names}")
    try:
        resize, crop = _SHAPES[kind](processor)
        section = Image(
            resize=resize if processor.do_resize else None,
            crop=crop,
            channels="bgr" if _setting(processor, "do_flip_channel_order") else "rgb",
            pad=_pad(processor),
            **_levels(processor),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UnsupportedModel(f"{source.name}: the settings of its {kind} are not supported ({error})") from error
    return section if fixed_size is None else _fix(section, processor, Size(height=fixed_size[0], width=fixed_size[1]))


def _setting(processor: Processor, name: str, default: Any = None) -> Any:  # JSON of any shape
    """A setting that not every class has. Those unknown to a class become attributes too, which it does not look at."""
    known = name in inspect.signature(type(processor).__init__).parameters
    return getattr(processor, name) if known else default


def _fix(section: Image, processor: Processor, size: Size) -> Image:
    made = section.crop
    if made is None and section.resize is not None and section.resize.mode == "exact":
        made = section.resize.size
    if section.pad is not None and section.pad.size is not None:
        made = section.pad.size
    if made == size:
        return section
    return dataclasses.replace(section, resize=_exact(processor, size), crop=None, pad=None)


def _levels(processor: Processor) -> dict[str, Any]:
    """The fields that say what values become."""
    fields: dict[str, Any] = {}
    if processor.do_rescale:
        fields["factor"] = float(processor.rescale_factor)
        if _setting(processor, "rescale_offset"):
            fields["offset"] = -1.0
    # a classifier's extra division by the deviation, after any normalisation
    again = _channels(processor.image_std) if _setting(processor, "include_top") else _channels(1.0)
    if _setting(processor, "do_normalize"):
        fields["mean"] = _channels(processor.image_mean)
        deviations = zip(_channels(processor.image_std), again, strict=True)
        fields["std"] = tuple(one * other for one, other in deviations)
    else:
        fields["std"] = again
    return fields


def _channels(value: Any) -> tuple[float, ...]:  # a number for all channels, or one each
    return (float(value),) * 3 if isinstance(value, int | float) else tuple(map(float, value))


def _pad(processor: Processor) -> Pad | None:
    """Zeros that the processor adds to a single picture; those that fill a batch are no matter of the manifest."""
    size = _setting(processor, "pad_size")
    if not _setting(processor, "do_pad", size is not None):
        return None
    if size is not None:
        return Pad(size=_size(size))
    divisor = _setting(processor, "size_divisor")
    return Pad(multiple_of=divisor, centered=True) if divisor is not None else None


def _size(size: Mapping[str, int]) -> Size:
    return Size(height=size["height"], width=size["width"])


def _crop(processor: Processor) -> Size | None:
    return _size(processor.crop_size) if _setting(processor, "do_center_crop") else None


def _filter(processor: Processor) -> Resample:
    return "bilinear" if processor.resample is None else _FILTERS[int(processor.resample)]


def _exact(processor: Processor, size: Size) -> Resize:
    return Resize(mode="exact", size=size, resample=_filter(processor))


def _shortest(processor: Processor, edge: int) -> Resize:
    return Resize(mode="shortest_edge", shortest_edge=edge, resample=_filter(processor))


def _exact_shape(processor: Processor) -> Shape:
    return _exact(processor, _size(processor.size)), _crop(processor)


def _edge_shape(processor: Processor) -> Shape:
    if "shortest_edge" not in processor.size:
        return _exact_shape(processor)
    return _shortest(processor, processor.size["shortest_edge"]), _crop(processor)


def _levit_shape(processor: Processor) -> Shape:
    if "shortest_edge" not in processor.size:
        return _exact_shape(processor)
    return _shortest(processor, int(256 / 224 * processor.size["shortest_edge"])), _crop(processor)


def _convnext_shape(processor: Processor) -> Shape:
    """Small sizes are cropped out of a larger picture, those from 384 on are squeezed; both as part of resizing."""
    edge = processor.size["shortest_edge"]
    square = Size(height=edge, width=edge)
    if edge >= 384:
        return _exact(processor, square), None
    return _shortest(processor, int(edge / processor.crop_pct)), square if processor.do_resize else None


def _poolformer_shape(processor: Processor) -> Shape:
    part, size = processor.crop_pct, processor.size
    if part is None:
        return _edge_shape(processor)
    if "shortest_edge" in size or size["height"] == size["width"]:
        edge = size["shortest_edge"] if "shortest_edge" in size else size["height"]
        return _shortest(processor, int(edge / part)), _crop(processor)
    larger = Size(height=int(size["height"] / part), width=int(size["width"] / part))
    return _exact(processor, larger), _crop(processor)


def _detr_shape(processor: Processor, limit: Literal["round", "round_tall"] = "round", multiple_of: int = 1) -> Shape:
    size, filter_ = processor.size, _filter(processor)
    if "max_height" in size:
        bounds = Size(height=size["max_height"], width=size["max_width"])
        return Resize(mode="within", size=bounds, resample=filter_), None
    if "height" in size:
        return _exact(processor, _size(size)), None
    resize = Resize(
        mode="shortest_edge",
        shortest_edge=size["shortest_edge"],
        longest_edge=size["longest_edge"],
        limit=limit,
        multiple_of=multiple_of,
        resample=filter_,
    )
    return resize, None


def _yolos_shape(processor: Processor) -> Shape:
    return _detr_shape(processor, "round_tall", 16)


def _maskformer_shape(processor: Processor) -> Shape:
    size, divisor = processor.size, processor.size_divisor or 1
    if "height" in size:
        return _exact(processor, _round_size(size, divisor, math.ceil)), None
    resize = Resize(
        mode="shortest_edge",
        shortest_edge=size["shortest_edge"],
        longest_edge=size["longest_edge"],
        limit="floor",
        multiple_of=divisor,
        multiple="ceil",
        resample=_filter(processor),
    )
    return resize, None


def _dpt_shape(processor: Processor) -> Shape:
    multiple_of = processor.ensure_multiple_of
    if not processor.keep_aspect_ratio:
        return _exact(processor, _round_size(processor.size, multiple_of, round)), None
    resize = Resize(
        mode="closest",
        size=_size(processor.size),
        multiple_of=multiple_of,
        multiple="nearest",
        resample=_filter(processor),
    )
    return resize, None


def _round_size(size: Mapping[str, int], step: int, to_integer: Callable[[float], int]) -> Size:
    return Size(height=to_integer(size["height"] / step) * step, width=to_integer(size["width"] / step) * step)


_SHAPES: dict[str, Callable[[Processor], Shape]] = {
    "BeitImageProcessor": _exact_shape,
    "BitImageProcessor": _edge_shape,
    "CLIPImageProcessor": _edge_shape,
    "ConditionalDetrImageProcessor": _detr_shape,
    "ConvNextImageProcessor": _convnext_shape,
    "DPTImageProcessor": _dpt_shape,
    "DeformableDetrImageProcessor": _detr_shape,
    "DeiTImageProcessor": _exact_shape,
    "DetrImageProcessor": _detr_shape,
    "EfficientNetImageProcessor": _exact_shape,
    "LevitImageProcessor": _levit_shape,
    "Mask2FormerImageProcessor": _maskformer_shape,
    "MaskFormerImageProcessor": _maskformer_shape,
    "MobileNetV1ImageProcessor": _edge_shape,
    "MobileNetV2ImageProcessor": _edge_shape,
    "MobileViTImageProcessor": _edge_shape,
    "PoolFormerImageProcessor": _poolformer_shape,
    "PvtImageProcessor": _exact_shape,
    "RTDetrImageProcessor": _detr_shape,
    "SegformerImageProcessor": _exact_shape,
    "SiglipImageProcessor": _exact_shape,
    "ViTImageProcessor": _exact_shape,
    "YolosImageProcessor": _yolos_shape,
}
