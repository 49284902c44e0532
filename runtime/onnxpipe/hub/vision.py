"""The manifest's `image`, `detection` and `segmentation` sections, from preprocessor_config.json and config.json.

What each class does with its settings, and in what order, is checked against transformers 4.57.6.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from onnxpipe.errors import UnsupportedModel
from onnxpipe.hub.labels import label_names
from onnxpipe.hub.processors import DEFAULTS, Settings, complete
from onnxpipe.hub.source import SourceModel
from onnxpipe.sections import Detection, Image, Pad, Resample, Resize, Segmentation, Size, Subtask

Shape = tuple[Resize | None, Size | None]  # how a picture is scaled, and what is cropped of it

_FILTERS: tuple[Resample, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
# post-processing of each processor: the rule, and how many objects it keeps
_DETECTIONS: Mapping[str, tuple[Literal["softmax_without_last", "sigmoid_top_k"], int | None]] = {
    "ConditionalDetrImageProcessor": ("sigmoid_top_k", 100),
    "DeformableDetrImageProcessor": ("sigmoid_top_k", 100),
    "DetrImageProcessor": ("softmax_without_last", None),
    "RTDetrImageProcessor": ("sigmoid_top_k", None),
    "YolosImageProcessor": ("softmax_without_last", None),
}
_SEMANTIC = (
    "BeitImageProcessor",
    "DPTImageProcessor",
    "MobileNetV2ImageProcessor",
    "MobileViTImageProcessor",
    "SegformerImageProcessor",
)
_ALL: tuple[Subtask, ...] = ("panoptic", "instance", "semantic")
# which instances there are, and what masks are resized to before anything else
_SEGMENTATIONS: Mapping[str, tuple[Literal["queries", "pairs"], Size | None]] = {
    "DetrImageProcessor": ("queries", None),
    "MaskFormerImageProcessor": ("pairs", None),
    "Mask2FormerImageProcessor": ("pairs", Size(height=384, width=384)),
}


def processor_kind(source: SourceModel) -> str:
    """The class of the model's slow image processor. Raises UnsupportedModel for one we do not have."""
    settings = source.read_json("preprocessor_config.json")
    if settings is None:
        raise UnsupportedModel(f"{source.name}: no preprocessor_config.json, which says how pictures are made")
    named = str(settings.get("image_processor_type") or settings.get("feature_extractor_type") or "")
    kind = named.replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast")  # as they were called before
    check_kind(source.name, kind)
    return kind


def check_kind(name: str, kind: str) -> None:
    """Raise UnsupportedModel, for the model `name`, unless we have that class of image processor."""
    if kind not in DEFAULTS:
        names = ", ".join(sorted(known.removesuffix("ImageProcessor") for known in DEFAULTS))
        raise UnsupportedModel(
            f"{name}: image processor {kind or 'of no name'} is not supported; supported are: {names}"
        )


def image_section(source: SourceModel, *, fixed_size: tuple[int, int] | None = None) -> Image:
    """How the model's pictures are made: see `processed_image`. Raises UnsupportedModel as that does."""
    kind = processor_kind(source)
    return processed_image(source.name, kind, source.read_json("preprocessor_config.json"), fixed_size=fixed_size)


def processed_image(name: str, kind: str, given: Settings, *, fixed_size: tuple[int, int] | None = None) -> Image:
    """How a slow image processor of the class `kind` with these settings makes the pictures of the model `name`.

    `fixed_size` is the only (height, width) the graph takes: unless the processor makes just that, pictures are scaled
    to it with the processor's filter, and neither cropped nor padded.
    Raises UnsupportedModel for a class we do not have, or a size it could not use itself.
    """
    check_kind(name, kind)
    try:
        settings = complete(kind, given)
        resize, crop = _SHAPES[kind](settings)
        section = Image(
            resize=resize if settings["do_resize"] else None,
            crop=crop,
            channels="bgr" if settings.get("do_flip_channel_order") else "rgb",
            pad=_pad(settings),
            **_levels(settings),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UnsupportedModel(f"{name}: the settings of its {kind} are not supported ({error})") from error
    return section if fixed_size is None else _fix(section, settings, Size(height=fixed_size[0], width=fixed_size[1]))


def detection_section(source: SourceModel) -> Detection:
    """Which predictions are objects, as the processor's own post-processing has it, and the labels by class.

    Raises UnsupportedModel for a processor without post-processing that we have.
    """
    kind = processor_kind(source)
    if kind not in _DETECTIONS:
        raise UnsupportedModel(
            f"{source.name}: cannot find objects as {kind} does; supported are: {', '.join(sorted(_DETECTIONS))}"
        )
    scores, count = _DETECTIONS[kind]
    if not source.config.get("use_focal_loss", True):
        scores, count = "softmax_without_last", None
    return Detection(labels=label_names(source.config), scores=scores, count=count)


def segmentation_section(source: SourceModel, outputs: Sequence[str]) -> Segmentation:
    """How outputs become segments, as the processor's own post-processing has it, and the labels by class.

    Raises UnsupportedModel for a processor without post-processing that we have.
    """
    kind, labels = processor_kind(source), label_names(source.config)
    if len(outputs) == 1:
        if kind not in _SEMANTIC and kind not in _SEGMENTATIONS and kind != "ConditionalDetrImageProcessor":
            raise UnsupportedModel(f"{source.name}: its {kind} has no post-processing for segmentation")
        return Segmentation(labels=labels, subtasks=("semantic",), predicts="pixels")
    if kind not in _SEGMENTATIONS:
        names = ", ".join(sorted(_SEGMENTATIONS))
        raise UnsupportedModel(f"{source.name}: cannot find segments as {kind} does; supported are: {names}")
    instances, mask_size = _SEGMENTATIONS[kind]
    fused = source.config.get("label_ids_to_fuse") or ()
    return Segmentation(
        labels=labels,
        subtasks=_ALL,
        predicts="queries",
        instances=instances,
        mask_size=mask_size,
        fused_labels=tuple(labels[index] for index in fused),
    )


def _fix(section: Image, settings: Settings, size: Size) -> Image:
    made = section.crop
    if made is None and section.resize is not None and section.resize.mode == "exact":
        made = section.resize.size
    if section.pad is not None and section.pad.size is not None:
        made = section.pad.size
    if made == size:
        return section
    return dataclasses.replace(section, resize=_exact(settings, size), crop=None, pad=None)


def _levels(settings: Settings) -> dict[str, Any]:
    """The fields that say what values become."""
    fields: dict[str, Any] = {}
    if settings["do_rescale"]:
        fields["factor"] = float(settings["rescale_factor"])
        if settings.get("rescale_offset"):
            fields["offset"] = -1.0
    # a classifier's extra division by the deviation, after any normalisation
    again = _channels(settings["image_std"]) if settings.get("include_top") else _channels(1.0)
    if not settings.get("do_normalize"):
        return {**fields, "std": again}
    deviations = zip(_channels(settings["image_std"]), again, strict=True)
    return {
        **fields,
        "mean": _channels(settings["image_mean"]),
        "std": tuple(one * other for one, other in deviations),
    }


def _channels(value: Any) -> tuple[float, ...]:  # a number for all channels, or one each
    return (float(value),) * 3 if isinstance(value, int | float) else tuple(map(float, value))


def _pad(settings: Settings) -> Pad | None:
    """Zeros that the processor adds to a single picture; those that fill a batch are no matter of the manifest."""
    size = settings.get("pad_size")
    if not settings.get("do_pad", size is not None):
        return None
    if size is not None:
        return Pad(size=_size(size))
    divisor = settings.get("size_divisor")
    return Pad(multiple_of=divisor, centered=True) if divisor is not None else None


def _size(size: Mapping[str, int]) -> Size:
    return Size(height=size["height"], width=size["width"])


def _crop(settings: Settings) -> Size | None:
    return _size(settings["crop_size"]) if settings.get("do_center_crop") else None


def _filter(settings: Settings) -> Resample:
    return "bilinear" if settings["resample"] is None else _FILTERS[int(settings["resample"])]


def _exact(settings: Settings, size: Size) -> Resize:
    return Resize(mode="exact", size=size, resample=_filter(settings))


def _shortest(settings: Settings, edge: int) -> Resize:
    return Resize(mode="shortest_edge", shortest_edge=edge, resample=_filter(settings))


def _exact_shape(settings: Settings) -> Shape:
    return _exact(settings, _size(settings["size"])), _crop(settings)


def _edge_shape(settings: Settings, margin: float = 1.0) -> Shape:
    if "shortest_edge" not in settings["size"]:
        return _exact_shape(settings)
    return _shortest(settings, int(margin * settings["size"]["shortest_edge"])), _crop(settings)


def _convnext_shape(settings: Settings) -> Shape:
    """Small sizes are cropped out of a larger picture, those from 384 on are squeezed; both as part of resizing."""
    edge = settings["size"]["shortest_edge"]
    square = Size(height=edge, width=edge)
    if edge >= 384:
        return _exact(settings, square), None
    return _shortest(settings, int(edge / settings["crop_pct"])), square if settings["do_resize"] else None


def _poolformer_shape(settings: Settings) -> Shape:
    part, size = settings["crop_pct"], settings["size"]
    if part is None:
        return _edge_shape(settings)
    if "shortest_edge" in size or size["height"] == size["width"]:
        edge = size["shortest_edge"] if "shortest_edge" in size else size["height"]
        return _shortest(settings, int(edge / part)), _crop(settings)
    larger = Size(height=int(size["height"] / part), width=int(size["width"] / part))
    return _exact(settings, larger), _crop(settings)


def _detr_shape(settings: Settings, limit: Literal["round", "round_tall"] = "round", multiple_of: int = 1) -> Shape:
    size, filter_ = settings["size"], _filter(settings)
    if "max_height" in size:
        bounds = Size(height=size["max_height"], width=size["max_width"])
        return Resize(mode="within", size=bounds, resample=filter_), None
    if "height" in size:
        return _exact(settings, _size(size)), None
    resize = Resize(
        mode="shortest_edge",
        shortest_edge=size["shortest_edge"],
        longest_edge=size["longest_edge"],
        limit=limit,
        multiple_of=multiple_of,
        resample=filter_,
    )
    return resize, None


def _maskformer_shape(settings: Settings) -> Shape:
    size, divisor = settings["size"], settings["size_divisor"] or 1
    if "height" in size:
        return _exact(settings, _round_size(size, divisor, math.ceil)), None
    resize = Resize(
        mode="shortest_edge",
        shortest_edge=size["shortest_edge"],
        longest_edge=size["longest_edge"],
        limit="floor",
        multiple_of=divisor,
        multiple="ceil",
        resample=_filter(settings),
    )
    return resize, None


def _dpt_shape(settings: Settings) -> Shape:
    multiple_of = settings["ensure_multiple_of"]
    if not settings["keep_aspect_ratio"]:
        return _exact(settings, _round_size(settings["size"], multiple_of, round)), None
    resize = Resize(
        mode="closest",
        size=_size(settings["size"]),
        multiple_of=multiple_of,
        multiple="nearest",
        resample=_filter(settings),
    )
    return resize, None


def _round_size(size: Mapping[str, int], step: int, to_integer: Callable[[float], int]) -> Size:
    return Size(height=to_integer(size["height"] / step) * step, width=to_integer(size["width"] / step) * step)


# those that are not here make pictures of just their size
_SHAPES: Mapping[str, Callable[[Settings], Shape]] = {
    **dict.fromkeys(DEFAULTS, _exact_shape),
    "BitImageProcessor": _edge_shape,
    "CLIPImageProcessor": _edge_shape,
    "ConditionalDetrImageProcessor": _detr_shape,
    "ConvNextImageProcessor": _convnext_shape,
    "DPTImageProcessor": _dpt_shape,
    "DeformableDetrImageProcessor": _detr_shape,
    "DetrImageProcessor": _detr_shape,
    "LevitImageProcessor": functools.partial(_edge_shape, margin=256 / 224),
    "Mask2FormerImageProcessor": _maskformer_shape,
    "MaskFormerImageProcessor": _maskformer_shape,
    "MobileNetV1ImageProcessor": _edge_shape,
    "MobileNetV2ImageProcessor": _edge_shape,
    "MobileViTImageProcessor": _edge_shape,
    "PoolFormerImageProcessor": _poolformer_shape,
    "RTDetrImageProcessor": _detr_shape,
    "YolosImageProcessor": functools.partial(_detr_shape, limit="round_tall", multiple_of=16),
}
