"""The same as `vision_quantization` for detectors, at the sizes they see pictures in.

    python -m onnxpipe_bench.detection_quantization [--cache .cache/detection-quantization] [--repeats 5]

Random weights, batch 1; accuracy is measured on a trained one (`detection_quality`). Quote the ratios.
"""

import argparse
import tempfile
from pathlib import Path

from onnxpipe_bench.measure import write_result
from onnxpipe_bench.vision_quantization import Architecture, make_bundle, measure

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
    """Make every form of every architecture, time them in turn and store the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path(".cache/detection-quantization"))
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    rows = []
    for name, architecture in ARCHITECTURES.items():
        bundle = make_bundle(architecture, args.cache / name.replace(" ", "-"))
        with tempfile.TemporaryDirectory() as folder:
            row = {"architecture": name, **measure(bundle, Path(folder), args.repeats)}
        rows.append(row)
        speeds = "  ".join(f"{way} {figures['speed']:.2f}x" for way, figures in row["ways"].items())
        print(f"{name:<12} {row['gmac']:6.2f} GMAC, {row['chains']:4.0%} in chains  {speeds}", flush=True)
    result = {"model": "random weights, batch 1", "repeats": args.repeats, "rows": rows}
    print(f"-> {write_result('detection_quantization', result)}")


if __name__ == "__main__":
    main()
