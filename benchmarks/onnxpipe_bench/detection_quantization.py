"""The same as `vision_quantization` for detectors, at the sizes they see pictures in.

    python -m onnxpipe_bench.detection_quantization [--cache FOLDER] [--repeats 5] [--model NAME ...]

Random weights, batch 1; accuracy is measured on a trained one (`detection_quality`). Quote the ratios.
"""

from onnxpipe_bench.vision_quantization import Architecture, compare

_AUTO_CLASS = "AutoModelForObjectDetection"
_R18 = {
    "model_type": "rt_detr_resnet",
    "hidden_sizes": [64, 128, 256, 512],
    "depths": [2, 2, 2, 2],
    "layer_type": "basic",
    "out_features": ["stage2", "stage3", "stage4"],
}

ARCHITECTURES = {
    "DETR R50": Architecture(
        "detr",
        "DetrImageProcessor",
        {
            "use_timm_backbone": False,
            "use_pretrained_backbone": False,
            "backbone": None,
            "backbone_config": {"model_type": "resnet", "out_features": ["stage4"]},
            "num_labels": 91,
        },
        auto_class=_AUTO_CLASS,
    ),
    "YOLOS tiny": Architecture(
        "yolos",
        "YolosImageProcessor",
        {
            "hidden_size": 192,
            "num_attention_heads": 3,
            "intermediate_size": 768,
            "image_size": [800, 1333],
            "use_mid_position_embeddings": False,
            "num_labels": 91,
        },
        auto_class=_AUTO_CLASS,
    ),
    "RT-DETR R18": Architecture(
        "rt_detr",
        "RTDetrImageProcessor",
        {
            "backbone_config": _R18,
            "encoder_in_channels": [128, 256, 512],
            "decoder_layers": 3,
            "hidden_expansion": 0.5,
            "num_labels": 80,
        },
        auto_class=_AUTO_CLASS,
    ),
}


def main() -> None:
    """Measure the ways of detectors."""
    compare("detection_quantization", ARCHITECTURES, repeats=5, about=__doc__)


if __name__ == "__main__":
    main()
