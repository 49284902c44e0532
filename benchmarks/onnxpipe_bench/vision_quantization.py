"""Ways to 8-bit integers for image models: what each gains over float, and which of them an export takes.

    python -m onnxpipe_bench.vision_quantization [--cache .cache/vision-quantization] [--repeats 25] [--model NAME ...]

Architectures at their usual sizes with random weights, batch 1: speed does not care, and accuracy is measured on
trained ones (`vision_quality`). Quote the ratios.

    products        matrix products in integers, with scales of the run; convolutions in float
    products, conv  both, with scales of the run
    fixed           everything that has an integer form, with fixed scales
    export          what `quantize` makes of it
"""

import argparse
import dataclasses
import functools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnxpipe.batching import Row
from onnxpipe.load import load_model, make_pipeline
from onnxpipe.session import Session
from onnxpipe_bench.measure import interleave, percentiles, write_result
from onnxpipe_export.export import export
from onnxpipe_export.pictures import draw_pictures
from onnxpipe_export.quantize import quantize
from onnxpipe_export.static import find_chains, multiply_adds, prepare

_PICTURES = 8


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A configuration and an image processor by transformers' names; defaults where nothing is said."""

    model_type: str
    processor: str
    config: Mapping[str, object] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, object] = dataclasses.field(default_factory=dict)
    auto_class: str = "AutoModelForImageClassification"


_SMALL = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
_B0 = {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280, "image_size": 224}

ARCHITECTURES = {
    "ViT small": Architecture("vit", "ViTImageProcessor", _SMALL),
    "Swin tiny": Architecture("swin", "ViTImageProcessor"),
    "ConvNeXt tiny": Architecture("convnext", "ConvNextImageProcessor", settings={"size": {"shortest_edge": 224}}),
    "ResNet-50": Architecture("resnet", "ConvNextImageProcessor", settings={"size": {"shortest_edge": 224}}),
    "MobileNetV2 1.0": Architecture("mobilenet_v2", "MobileNetV2ImageProcessor"),
    "EfficientNet B0": Architecture(
        "efficientnet", "EfficientNetImageProcessor", _B0, {"size": {"height": 224, "width": 224}}
    ),
    "MobileViT small": Architecture("mobilevit", "MobileViTImageProcessor"),
}


def main() -> None:
    """Measure the ways of image classifiers."""
    compare("vision_quantization", ARCHITECTURES, repeats=25, about=__doc__)


def compare(result_name: str, architectures: Mapping[str, Architecture], *, repeats: int, about: str | None) -> None:
    """By the command line: make every form of every architecture, time them in turn and store the result."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(".cache") / result_name.replace("_", "-"))
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--model", action="append", choices=list(architectures), help="repeatable; all when absent")
    args = parser.parse_args()
    rows = []
    for name in args.model or architectures:
        bundle = make_bundle(architectures[name], args.cache / name.replace(" ", "-"))
        with tempfile.TemporaryDirectory() as folder:
            row = {"architecture": name, **measure(bundle, Path(folder), args.repeats)}
        rows.append(row)
        speeds = "  ".join(f"{way} {measured['speed']:.2f}x" for way, measured in row["ways"].items())
        print(f"{name:<16} {row['gmac']:5.2f} GMAC, {row['chains']:4.0%} in chains  {speeds}", flush=True)
    result = {"model": "random weights, batch 1", "repeats": args.repeats, "rows": rows}
    print(f"-> {write_result(result_name, result)}")


def measure(bundle: Path, folder: Path, repeats: int) -> dict[str, Any]:
    """Work, time and size of a model, and what each way to integers makes of them; graphs are written to `folder`."""
    pipeline = make_pipeline(load_model(bundle))
    inputs = [pipeline.check_inputs([picture])[0] for picture in draw_pictures(_PICTURES)]
    pictures: list[Row] = [pipeline.preprocess(given, pipeline.types()[1]()).rows[0] for given in inputs]
    base = bundle / "onnx" / "model.onnx"
    files = {"float": base}
    for way, make in WAYS.items():
        files[way] = folder / f"{way}.onnx"
        make(base, files[way], pictures)
    feeds = {name: array[None] for name, array in pictures[0].items()}
    calls = {way: functools.partial(Session(file).run, feeds) for way, file in files.items()}
    times = {way: figures(values) for way, values in interleave(calls, repeats=repeats, warm_up=3).items()}
    graph = prepare(base, folder / "prepared.onnx")
    counts = multiply_adds(folder / "prepared.onnx", pictures[0])
    return {
        "gmac": round(sum(counts.values()) / 1e9, 3),
        "chains": round(sum(counts.get(name, 0) for name in find_chains(graph)) / sum(counts.values()), 3),
        "float_ms": times["float"],
        "float_mb": _megabytes(base),
        "ways": {
            way: {
                "ms": times[way],
                "speed": round(times["float"]["p10"] / times[way]["p10"], 3),
                "mb": _megabytes(files[way]),
            }
            for way in WAYS
        },
    }


def figures(times_ms: list[float]) -> dict[str, float]:
    """Percentiles in milliseconds. Speeds are of p10: other work on the machine only ever makes a run slower."""
    return {"p10": round(float(np.percentile(times_ms, 10)), 3), **percentiles(times_ms)}


def make_bundle(architecture: Architecture, bundle: Path) -> Path:
    """The fp32 bundle of an architecture with random weights, made once."""
    import torch
    import transformers

    if bundle.exists():
        return bundle
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(architecture.model_type, **{"num_labels": 1000, **architecture.config})
    model = getattr(transformers, architecture.auto_class).from_config(config)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            # of about unit gain: numbers that vanish on the way through would be slow ones for the processor
            torch.nn.init.normal_(module.weight, std=1.4 / module.weight[0].numel() ** 0.5)
        elif isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)
    with tempfile.TemporaryDirectory() as folder:
        model.eval().save_pretrained(folder)
        getattr(transformers, architecture.processor)(**architecture.settings).save_pretrained(folder)
        export(folder, bundle, precisions=["fp32"])
    return bundle


def _products(source: Path, target: Path, _: list[Row]) -> None:
    _scales_of_the_run(source, target, ["MatMul", "Gather"])


def _products_and_convolutions(source: Path, target: Path, _: list[Row]) -> None:
    _scales_of_the_run(source, target, ["MatMul", "Gather", "Conv"])


def _scales_of_the_run(source: Path, target: Path, operators: list[str]) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        source,
        target,
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=operators,
    )


def _fixed(source: Path, target: Path, pictures: list[Row]) -> None:
    from onnxruntime.quantization import QuantType, quantize_static

    prepared = target.with_suffix(".prepared.onnx")
    prepare(source, prepared)
    feeds = iter([{name: array[None] for name, array in row.items()} for row in pictures])

    class Reader:
        """What the quantiser asks for its next input, until None."""

        def get_next(self) -> dict[str, Any] | None:
            return next(feeds, None)

    quantize_static(
        prepared,
        target,
        Reader(),
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )


def _export(source: Path, target: Path, pictures: list[Row]) -> None:
    quantize(source, target, "int8", rows=lambda: iter(pictures))


WAYS: dict[str, Callable[[Path, Path, list[Row]], None]] = {
    "products": _products,
    "products, conv": _products_and_convolutions,
    "fixed": _fixed,
    "export": _export,
}


def _megabytes(file: Path) -> float:
    return round(file.stat().st_size / 1e6, 1)


if __name__ == "__main__":
    main()
