"""Mean average precision of a detector trained here: torch beside every precision of its bundle.

    python -m onnxpipe_bench.detection_quality [--cache .cache/detection-quality] [--steps 1500]

A small RT-DETR learns to find circles, squares and triangles on noise, in some minutes. Scored on pictures it has not
seen as COCO scores: precision at 101 recalls, the mean over shapes, at an overlap of 0.5 and over those from 0.5 to
0.95; in points. int8 is calibrated on other pictures of the kind. torch's boxes are clipped to the picture as the
bundle's are, or its guesses beyond the edge would count for less; `same_boxes` says in how many then all is torch's.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxpipe.load import load_model, make_pipeline
from onnxpipe.records import plain
from onnxpipe.verification.found import overlaps
from onnxpipe_bench.measure import write_result
from onnxpipe_bench.shapes import SHAPES, Scene, draw_scenes, train_detector
from onnxpipe_export.export import export

# per picture, what was found: {"score": 0.9, "label": "circle", "box": {"xmin": ...}}, any number of them
Answers = Sequence[Sequence[Mapping[str, Any]]]

_OVERLAPS = tuple(np.arange(0.5, 1.0, 0.05).round(2).tolist())
_RECALLS = np.linspace(0, 1, 101)
_TEST, _CALIBRATION = 400, 64


def main() -> None:
    """Train what is missing, measure every engine and store the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path(".cache/detection-quality"))
    parser.add_argument("--steps", type=int, default=1500, help="of training")
    args = parser.parse_args()
    model, bundle = args.cache / "model", args.cache / "bundle"
    if not (model / "model.safetensors").is_file():
        train_detector(model, steps=args.steps)
    pictures = write_pictures(draw_scenes(2, _CALIBRATION), args.cache / "calibration")
    export(model, bundle, bundle_id="shapes", calibration=pictures, force=True)
    scenes = draw_scenes(1, _TEST)
    reference = torch_answers(model, scenes)
    answers: dict[str, Answers] = {"torch": [clip(*pair) for pair in zip(reference, scenes, strict=True)]}
    for precision in load_model(bundle).bundle.manifest.variants:
        answers[precision] = bundle_answers(bundle, precision, scenes)
    rows = []
    for engine, given in answers.items():
        precisions = [mean_average_precision(scenes, given, overlap) for overlap in _OVERLAPS]
        rows.append(
            {
                "engine": engine,
                "examples": len(scenes),
                "boxes": sum(map(len, given)),
                "same_boxes": count_same(answers["torch"], given),
                "map_50": round(100 * precisions[0], 2),
                "map_50_95": round(100 * float(np.mean(precisions)), 2),
            }
        )
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    result = {"model": "a small RT-DETR trained on drawn shapes", "rows": rows}
    print(f"-> {write_result('detection_quality', result)}")


def mean_average_precision(scenes: Sequence[Scene], answers: Answers, overlap: float) -> float:
    """The mean over shapes of the average precision, in 0..1; shapes that are on no picture do not count.

    An answer is right when it overlaps a shape of its label by at least `overlap` that no surer one has found.
    """
    return float(np.mean([_average_precision(scenes, answers, label, overlap) for label in _present(scenes)]))


def clip(answer: Sequence[Mapping[str, Any]], scene: Scene) -> list[Mapping[str, Any]]:
    """What was found, with the boxes' edges inside the picture."""
    limits = {"xmin": scene.picture.width, "xmax": scene.picture.width}
    limits |= {"ymin": scene.picture.height, "ymax": scene.picture.height}
    return [
        {**item, "box": {edge: min(max(value, 0), limits[edge]) for edge, value in item["box"].items()}}
        for item in answer
    ]


def count_same(answers: Answers, others: Answers) -> int:
    """How many of what was found are the same in both, in label, box and order."""
    return sum(
        (one["label"], one["box"]) == (two["label"], two["box"])
        for answer, other in zip(answers, others, strict=True)
        for one, two in zip(answer, other, strict=False)
    )


def _present(scenes: Sequence[Scene]) -> list[str]:
    return [label for label in SHAPES if any(label in scene.labels for scene in scenes)]


def _average_precision(scenes: Sequence[Scene], answers: Answers, label: str, overlap: float) -> float:
    """The mean over 101 recalls of the best precision that is reached at that recall or beyond."""
    scores: list[float] = []
    hits: list[bool] = []
    wanted = 0
    for scene, answer in zip(scenes, answers, strict=True):
        targets = scene.boxes[[name == label for name in scene.labels]]
        wanted += len(targets)
        found = sorted((item for item in answer if item["label"] == label), key=lambda item: -item["score"])
        scores += [item["score"] for item in found]
        hits += _hits(np.array([_corners(item) for item in found], np.float32).reshape(-1, 4), targets, overlap)
    right = np.array(hits)[np.argsort(-np.array(scores), kind="stable")].cumsum()
    if not len(right):
        return 0.0
    recalls, precisions = right / wanted, right / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precisions[::-1])[::-1]  # at this recall or beyond
    places = np.searchsorted(recalls, _RECALLS)
    return float(np.append(best, 0.0)[places].mean())


def _hits(found: NDArray[np.float32], targets: NDArray[np.float32], overlap: float) -> list[bool]:
    """For each box found, surest first, whether it finds a target that is still free: the one it overlaps most."""
    shares = overlaps(found, targets)
    hits = []
    for row in shares:
        best = int(row.argmax()) if row.size else 0
        hits.append(bool(row.size) and bool(row[best] >= overlap))
        if hits[-1]:
            shares[:, best] = -1.0
    return hits


def _corners(item: Mapping[str, Any]) -> list[float]:
    return [item["box"][edge] for edge in ("xmin", "ymin", "xmax", "ymax")]


def write_pictures(scenes: Sequence[Scene], folder: Path) -> Path:
    """A folder with the pictures as files, which `export` calibrates on."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, scene in enumerate(scenes):
        scene.picture.save(folder / f"{number}.png")
    return folder


def torch_answers(folder: Path, scenes: Sequence[Scene]) -> Answers:
    """transformers' own pipeline with its Pillow processor, one picture at a time."""
    import transformers

    processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)
    detect = transformers.pipeline("object-detection", str(folder), image_processor=processor, device="cpu")
    return [detect(scene.picture, threshold=0.0) for scene in scenes]


def bundle_answers(bundle: Path, precision: str, scenes: Sequence[Scene]) -> Answers:
    """onnxpipe, all pictures in one call."""
    detect = make_pipeline(load_model(bundle, precision=precision))
    answers: Answers = plain(detect([scene.picture for scene in scenes], threshold=0.0))
    return answers


if __name__ == "__main__":
    main()
