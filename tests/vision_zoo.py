"""Tiny random vision models in hub layout, with the slow image processor their family has on the hub."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
import transformers
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from vision_sizes import (
    ALL_STAGES,
    DETR_SIZES,
    MASK2FORMER_SIZES,
    MASKFORMER_SIZES,
    RT_DETR_SIZES,
    SWIN_STAGES,
    VIT_SIZES,
)
from vision_weights import draw_masks, draw_queries, draw_weights, see_pictures

LABELS = ("cat", "remote", "couch", "table", "dog", "tree", "car")


@dataclasses.dataclass(frozen=True)
class VisionFamily:
    """One kind of model: the processor's class and settings, and the sizes of the tiny config.

    `architecture` is the class where the auto class has several for that model type.
    """

    model_type: str
    processor: type[BaseImageProcessor]
    settings: Mapping[str, object]
    config: Mapping[str, object]
    heads: tuple[str, ...]
    architecture: str | None = None


def build_vision_model(family: str, head: str, folder: Path, **config: object) -> Path:
    """Write a model of a family into `folder`; `head` is a transformers auto class without its `AutoModel` prefix."""
    row = VISION_ZOO[family]
    row.processor(**row.settings).save_pretrained(folder)
    torch.manual_seed(sum(map(ord, family + head)))
    settings = {**row.config, **config}
    if not settings.keys() & {"num_labels", "id2label"}:
        settings |= {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}
    drawn = transformers.AutoConfig.for_model(row.model_type, **settings)
    if row.architecture is not None:
        model = getattr(transformers, row.architecture)(drawn)
    else:
        model = getattr(transformers, f"AutoModel{head}").from_config(drawn)
    draw_weights(model)
    if head in _CLASSIFIER:
        see_pictures(model)
    if head == "ForObjectDetection":
        draw_queries(model)
    if head == "ForInstanceSegmentation":
        see_pictures(model)
    if head in _QUERY_SEGMENTERS:
        draw_masks(model)
    model.eval().save_pretrained(folder, safe_serialization=True)
    return folder


def vision_families(head: str) -> tuple[str, ...]:
    """The families that have models with a head."""
    return tuple(name for name, row in VISION_ZOO.items() if head in row.heads)


_SMALL = {"size": {"height": 64, "width": 64}}
# a margin is cut off after resizing, as 224 of 256 pixels usually
_CROPPED = {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}}
_IMAGENET = {"image_mean": IMAGENET_DEFAULT_MEAN, "image_std": IMAGENET_DEFAULT_STD}
_CLASSIFIER = ("ForImageClassification",)
_QUERY_SEGMENTERS = ("ForImageSegmentation", "ForInstanceSegmentation", "ForUniversalSegmentation")
_DEIT = {**_CROPPED, **_IMAGENET, "size": {"height": 73, "width": 73}, "resample": 3}

_EDGES = {"size": {"shortest_edge": 64, "longest_edge": 107}}
_DETECTION = ("ForObjectDetection",)
# as many labels as released models have at least: below 64, the reference gives instances no order
_MANY_LABELS = {"id2label": {place: f"{LABELS[place % len(LABELS)]} {place}" for place in range(70)}}

VISION_ZOO = {
    "vit": VisionFamily("vit", transformers.ViTImageProcessor, _SMALL, VIT_SIZES, ("ForImageClassification",)),
    "detr": VisionFamily("detr", transformers.DetrImageProcessor, _EDGES, DETR_SIZES | {"d_model": 32}, _DETECTION),
    "table-transformer": VisionFamily(
        "table-transformer", transformers.DetrImageProcessor, _EDGES, DETR_SIZES | {"d_model": 32}, _DETECTION
    ),
    "conditional-detr": VisionFamily(
        "conditional_detr",
        transformers.ConditionalDetrImageProcessor,
        _EDGES,
        DETR_SIZES | {"d_model": 32},
        _DETECTION,
    ),
    "dab-detr": VisionFamily(
        "dab-detr", transformers.ConditionalDetrImageProcessor, _EDGES, DETR_SIZES | {"hidden_size": 32}, _DETECTION
    ),
    "yolos": VisionFamily(
        "yolos",
        transformers.YolosImageProcessor,
        _EDGES,
        VIT_SIZES | {"image_size": [64, 96], "num_detection_tokens": 10},
        _DETECTION,
    ),
    "rt-detr": VisionFamily("rt_detr", transformers.RTDetrImageProcessor, _SMALL, RT_DETR_SIZES, _DETECTION),
    "rt-detr-v2": VisionFamily("rt_detr_v2", transformers.RTDetrImageProcessor, _SMALL, RT_DETR_SIZES, _DETECTION),
    "d-fine": VisionFamily(
        "d_fine", transformers.RTDetrImageProcessor, _SMALL, RT_DETR_SIZES | {"lqe_hidden_dim": 16}, _DETECTION
    ),
    "deit": VisionFamily(
        "deit",
        transformers.DeiTImageProcessor,
        _DEIT,
        VIT_SIZES,
        _CLASSIFIER,
        architecture="DeiTForImageClassification",
    ),
    "deit-teacher": VisionFamily(
        "deit",
        transformers.DeiTImageProcessor,
        _DEIT,
        VIT_SIZES,
        _CLASSIFIER,
        architecture="DeiTForImageClassificationWithTeacher",
    ),
    "beit": VisionFamily(
        "beit",
        transformers.BeitImageProcessor,
        _SMALL | {"do_center_crop": False, "resample": 2},
        VIT_SIZES | {"use_relative_position_bias": True, "layer_scale_init_value": 0.1},
        _CLASSIFIER,
    ),
    # two stages of shifted windows
    "swin": VisionFamily(
        "swin",
        transformers.ViTImageProcessor,
        _SMALL | _IMAGENET | {"resample": 3},
        {"image_size": 64, "patch_size": 4, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
        _CLASSIFIER,
    ),
    "resnet": VisionFamily(
        "resnet",
        transformers.ConvNextImageProcessor,
        {"size": {"shortest_edge": 64}, "crop_pct": 0.875, "resample": 3, **_IMAGENET},
        {"embedding_size": 16, "hidden_sizes": [32, 64], "depths": [2, 2]},
        _CLASSIFIER,
    ),
    "convnext": VisionFamily(
        "convnext",
        transformers.ConvNextImageProcessor,
        {"size": {"shortest_edge": 64}, "crop_pct": 0.95, "resample": 3, **_IMAGENET},
        {"hidden_sizes": [16, 32], "depths": [2, 2], "num_stages": 2, "image_size": 64},
        _CLASSIFIER,
    ),
    "mobilenet-v1": VisionFamily(
        "mobilenet_v1",
        transformers.MobileNetV1ImageProcessor,
        _CROPPED,
        {"depth_multiplier": 0.25, "image_size": 64},
        _CLASSIFIER,
    ),
    # an odd size, and not the one that the config speaks of: the padding depends on it
    "mobilenet-v2": VisionFamily(
        "mobilenet_v2",
        transformers.MobileNetV2ImageProcessor,
        _CROPPED | {"crop_size": {"height": 65, "width": 65}},
        {"depth_multiplier": 0.25, "image_size": 96},
        _CLASSIFIER,
    ),
    # blue first, and not normalised
    "mobilevit": VisionFamily(
        "mobilevit",
        transformers.MobileViTImageProcessor,
        _CROPPED,
        {
            "image_size": 64,
            "hidden_sizes": [16, 24, 32],
            "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32],
            "num_attention_heads": 2,
            "expand_ratio": 2.0,
        },
        _CLASSIFIER,
    ),
    # the nearest pixel, and a second division by the deviation
    "efficientnet": VisionFamily(
        "efficientnet",
        transformers.EfficientNetImageProcessor,
        _SMALL | {"resample": 0, "image_std": [0.47853944, 0.4732864, 0.47434163]},
        {"width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320, "image_size": 64},
        _CLASSIFIER,
    ),
    "segformer": VisionFamily(
        "segformer",
        transformers.SegformerImageProcessor,
        {"size": {"height": 64, "width": 96}, **_IMAGENET},
        {
            "depths": [1, 1, 1, 1],
            "hidden_sizes": [8, 16, 16, 32],
            "num_attention_heads": [1, 2, 2, 4],
            "decoder_hidden_size": 16,
        },
        ("ForSemanticSegmentation",),
    ),
    "detr-panoptic": VisionFamily(
        "detr",
        transformers.DetrImageProcessor,
        {"size": {"shortest_edge": 64, "longest_edge": 96}},
        {
            **DETR_SIZES,
            "backbone_config": transformers.ResNetConfig(**ALL_STAGES),
            "d_model": 64,
            "encoder_attention_heads": 8,
        },
        ("ForImageSegmentation",),
    ),
    "maskformer": VisionFamily(
        "maskformer",
        transformers.MaskFormerImageProcessor,
        {"size": {"shortest_edge": 60, "longest_edge": 100}},
        MASKFORMER_SIZES | _MANY_LABELS | {"backbone_config": transformers.SwinConfig(**SWIN_STAGES)},
        ("ForInstanceSegmentation",),
    ),
    "maskformer-resnet": VisionFamily(
        "maskformer",
        transformers.MaskFormerImageProcessor,
        {"size": {"height": 64, "width": 64}},
        MASKFORMER_SIZES | _MANY_LABELS | {"backbone_config": transformers.ResNetConfig(**ALL_STAGES)},
        ("ForInstanceSegmentation",),
    ),
    **{
        name: VisionFamily(
            "mask2former",
            transformers.Mask2FormerImageProcessor,
            {"size": size},
            MASK2FORMER_SIZES | _MANY_LABELS,
            ("ForUniversalSegmentation",),
        )
        for name, size in (
            ("mask2former", {"shortest_edge": 60, "longest_edge": 100}),
            ("mask2former-exact", {"height": 64, "width": 96}),
        )
    },
}
