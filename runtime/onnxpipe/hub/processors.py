"""What transformers' slow image processors do where preprocessor_config.json is silent (release 4.57.6).

A setting that is not listed for a class is one that the class does not know, and does not look at.
"""

from collections.abc import Mapping
from typing import Any

Settings = Mapping[str, Any]  # JSON of any shape

_HALF = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}
_IMAGENET = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}
_OPENAI = {
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
}
_SCALE = {"do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255}
_LEVELS = {**_SCALE, "do_normalize": True}
# Pillow's numbers
_NEAREST, _BILINEAR, _BICUBIC = ({"resample": number} for number in (0, 2, 3))


def _square(edge: int) -> dict[str, Any]:
    return {"size": {"height": edge, "width": edge}}


def _shortest(edge: int) -> dict[str, Any]:
    return {"size": {"shortest_edge": edge}}


def _crop(edge: int, *, done: bool = True) -> dict[str, Any]:
    return {"do_center_crop": done, "crop_size": {"height": edge, "width": edge}}


_EDGES = {"size": {"shortest_edge": 800, "longest_edge": 1333}}
_DETR = {**_LEVELS, **_IMAGENET, **_EDGES, **_BILINEAR, "do_pad": True, "pad_size": None}
_MASKS = {**_LEVELS, **_IMAGENET, **_EDGES, **_BILINEAR, "size_divisor": 32, "pad_size": None}
_CLIP = {**_LEVELS, **_OPENAI, **_shortest(224), **_crop(224), **_BICUBIC}
_MOBILENET = {**_LEVELS, **_HALF, **_shortest(256), **_crop(224), **_BILINEAR}
_DEIT = {**_LEVELS, **_HALF, **_square(256), **_crop(224), **_BICUBIC}

DEFAULTS: Mapping[str, Settings] = {
    "BeitImageProcessor": _DEIT,
    "BitImageProcessor": _CLIP,
    "CLIPImageProcessor": _CLIP,
    "ConditionalDetrImageProcessor": _DETR,
    "ConvNextImageProcessor": {**_LEVELS, **_HALF, **_shortest(384), **_BILINEAR, "crop_pct": 0.875},
    "DPTImageProcessor": {
        **_LEVELS,
        **_HALF,
        **_square(384),
        **_BICUBIC,
        "keep_aspect_ratio": False,
        "ensure_multiple_of": 1,
        "do_pad": False,
        "size_divisor": None,
    },
    "DeformableDetrImageProcessor": _DETR,
    "DeiTImageProcessor": _DEIT,
    "DetrImageProcessor": _DETR,
    "EfficientNetImageProcessor": {
        **_LEVELS,
        **_HALF,
        **_square(346),
        **_crop(289, done=False),
        **_NEAREST,
        "rescale_offset": False,
        "include_top": True,
    },
    "LevitImageProcessor": {**_LEVELS, **_IMAGENET, **_shortest(224), **_crop(224), **_BICUBIC},
    "Mask2FormerImageProcessor": _MASKS,
    "MaskFormerImageProcessor": _MASKS,
    "MobileNetV1ImageProcessor": _MOBILENET,
    "MobileNetV2ImageProcessor": _MOBILENET,
    "MobileViTImageProcessor": {
        **_SCALE,
        **_shortest(224),
        **_crop(256),
        **_BILINEAR,
        "do_flip_channel_order": True,
    },
    "PoolFormerImageProcessor": {
        **_LEVELS,
        **_IMAGENET,
        **_shortest(224),
        **_crop(224),
        **_BICUBIC,
        "crop_pct": 0.9,
    },
    "PvtImageProcessor": {**_LEVELS, **_IMAGENET, **_square(224), **_BILINEAR},
    "RTDetrImageProcessor": {**_DETR, **_square(640), "do_normalize": False, "do_pad": False},
    "SegformerImageProcessor": {**_LEVELS, **_IMAGENET, **_square(512), **_BILINEAR},
    "SiglipImageProcessor": {**_LEVELS, **_HALF, **_square(224), **_BICUBIC},
    "ViTImageProcessor": {**_LEVELS, **_HALF, **_square(224), **_BILINEAR},
    "YolosImageProcessor": _DETR,
}
# where a single number is not an edge of a square, though the class makes squares by itself
_BY_SHORTEST = ("RTDetrImageProcessor",)
# null means the class's own value; elsewhere it is a value of its own
_NEVER_NULL = ("size", "crop_size", "image_mean", "image_std")


def complete(kind: str, given: Settings) -> dict[str, Any]:
    """All settings of a processor: the given ones that its class knows, in today's spelling, over the class's own.

    Raises ValueError for a size of no known spelling.
    """
    defaults = DEFAULTS[kind]
    said = {name: value for name, value in given.items() if value is not None or name not in _NEVER_NULL}
    made = {name: said.get(name, value) for name, value in defaults.items()}
    square = "height" in defaults["size"] and kind not in _BY_SHORTEST
    made["size"] = _read_size(made["size"], square=square, longest=_longest(defaults, said))
    if "crop_size" in made:
        made["crop_size"] = _read_size(made["crop_size"], square=True)
    return made


def _longest(defaults: Settings, said: Settings) -> int | None:
    """The bound on the longest edge that goes with a shortest one, in the old spelling, of those that have one."""
    if "longest_edge" not in defaults["size"]:
        return None
    return int(said.get("max_size", defaults["size"]["longest_edge"]))


def _read_size(size: Any, *, square: bool, longest: int | None = None) -> dict[str, int]:  # JSON of any shape
    """A size as a mapping: an old one is a number, or a pair of height and width."""
    if isinstance(size, Mapping):
        return dict(size)
    if isinstance(size, int):
        if square:
            return {"height": size, "width": size}
        return {"shortest_edge": size, **({} if longest is None else {"longest_edge": longest})}
    if isinstance(size, list | tuple) and len(size) == 2:
        return {"height": size[0], "width": size[1]}
    raise ValueError(f"size is {size!r}")
