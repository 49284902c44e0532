"""Accuracy on a real task: small image classifiers trained here, then torch beside every precision of their bundles.

    python -m onnxpipe_bench.vision_quality [--cache .cache/vision-quality] [--model NAME ...]

A transformer and a convolutional network learn scikit-learn's handwritten digits in about a minute each. Accuracy on
digits held out, in points, with 95 % intervals from resampling them. int8 is calibrated on digits of the training set.
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from onnxpipe.load import load_model, make_pipeline
from onnxpipe_bench.datasets import Dataset, Example
from onnxpipe_bench.measure import write_result
from onnxpipe_bench.quality import Answers, compare
from onnxpipe_export.export import export

_TEST = 797  # of 1797 digits
_BATCH = 32
_CALIBRATION = 64


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A family's configuration and image processor, by transformers' names, and how it is trained."""

    model_type: str
    config: Mapping[str, object]
    processor: str
    settings: Mapping[str, object]
    epochs: int
    learning_rate: float


_EDGE = 48

RECIPES = {
    "ViT": Recipe(
        "vit",
        {
            "hidden_size": 64,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "image_size": _EDGE,
            "patch_size": 8,
        },
        "ViTImageProcessor",
        {"size": {"height": _EDGE, "width": _EDGE}},
        epochs=40,
        learning_rate=2e-3,
    ),
    "MobileNetV2": Recipe(
        "mobilenet_v2",
        {"depth_multiplier": 0.35, "image_size": _EDGE},
        "MobileNetV2ImageProcessor",
        {"size": {"shortest_edge": _EDGE}, "crop_size": {"height": _EDGE, "width": _EDGE}},
        epochs=12,
        learning_rate=3e-3,
    ),
}


@dataclasses.dataclass(frozen=True)
class Digit:
    """A picture of 8 x 8 pixels and the digit on it."""

    picture: Image.Image
    label: str


def main() -> None:
    """Train what is missing, measure every engine and store the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path(".cache/vision-quality"))
    parser.add_argument("--model", action="append", choices=list(RECIPES), help="repeatable; all when absent")
    args = parser.parse_args()
    train, test = split_digits()
    pictures = write_pictures(train[:_CALIBRATION], args.cache / "calibration")
    examples = Dataset([], [Example(str(number), label=digit.label) for number, digit in enumerate(test)])
    rows = []
    for name in args.model or RECIPES:
        model, bundle = args.cache / name / "model", args.cache / name / "bundle"
        if not (model / "model.safetensors").is_file():
            fit(RECIPES[name], train, model)
        export(model, bundle, bundle_id=f"digits-{name}", calibration=pictures, force=True)
        answers = {"torch": torch_answers(model, test)}
        for precision in load_model(bundle).bundle.manifest.variants:
            answers[precision] = bundle_answers(bundle, precision, test)
        for row in compare(examples, answers):
            rows.append({"task": f"digits, {name}", "examples": len(test), **row})
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    print(f"-> {write_result('vision_quality', {'model': 'small classifiers trained on digits', 'rows': rows})}")


def split_digits() -> tuple[list[Digit], list[Digit]]:
    """scikit-learn's digits to train on and others to test on, always the same."""
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = np.round(data.images * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(pixels))
    digits = [Digit(Image.fromarray(pixels[index]), str(data.target[index])) for index in order]
    return digits[_TEST:], digits[:_TEST]


def write_pictures(digits: Sequence[Digit], folder: Path) -> Path:
    """A folder with the pictures as files, which `export` calibrates on."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, digit in enumerate(digits):
        digit.picture.save(folder / f"{number}.png")
    return folder


def fit(recipe: Recipe, digits: Sequence[Digit], out: Path) -> None:
    """Train a classifier on digits from random weights, and write it with its processor to `out` in hub layout.

    AdamW with a linear schedule, seeded; pictures are moved by up to a sixteenth of their edge.
    """
    import torch
    import transformers

    torch.manual_seed(0)
    torch.set_num_threads(1)  # threads that wait for each other cost models this small more than they gain
    labels = sorted({digit.label for digit in digits})
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    config = transformers.AutoConfig.for_model(recipe.model_type, **recipe.config, **names)
    model = transformers.AutoModelForImageClassification.from_config(config)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.05  # some families' own keeps the last batch alone, for training on many machines
    processor = getattr(transformers, recipe.processor)(**recipe.settings)
    pixels = processor([digit.picture.convert("RGB") for digit in digits], return_tensors="pt")["pixel_values"]
    targets = torch.tensor([labels.index(digit.label) for digit in digits])
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=0.05)
    batches = [batch for _ in range(recipe.epochs) for batch in torch.randperm(len(digits)).split(_BATCH)]
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, len(batches) // 10, len(batches))
    model.train()
    for batch in tqdm(batches, desc=f"train {out.parent.name}", disable=None):
        moved = _move(pixels[batch])
        torch.nn.functional.cross_entropy(model(pixel_values=moved).logits, targets[batch]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval().save_pretrained(out, safe_serialization=True)
    processor.save_pretrained(out)


def _move(pixels: Any) -> Any:  # a tensor (B, C, H, W): torch is untyped here
    """The same, each picture moved by some pixels, what leaves on one side coming back on the other."""
    import torch

    reach = _EDGE // 16
    return torch.stack(
        [torch.roll(picture, torch.randint(-reach, reach + 1, (2,)).tolist(), (1, 2)) for picture in pixels]
    )


def torch_answers(folder: Path, digits: Sequence[Digit]) -> Answers:
    """transformers' own pipeline with its Pillow processor, one picture at a time."""
    import transformers

    processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)
    classify = transformers.pipeline("image-classification", str(folder), image_processor=processor, device="cpu")
    return [(classify(digit.picture, top_k=1)[0]["label"],) for digit in digits]


def bundle_answers(bundle: Path, precision: str, digits: Sequence[Digit]) -> Answers:
    """onnxpipe, all pictures in one call."""
    classify = make_pipeline(load_model(bundle, precision=precision))
    answers = classify([digit.picture for digit in digits], top_k=1)
    return [(answer[0].label,) for answer in answers]


if __name__ == "__main__":
    main()
