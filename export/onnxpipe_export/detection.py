"""Detectors: how their predictions become objects, how near a precision's are to torch's, and which to check again."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from onnxpipe.arrays import Floats
from onnxpipe.errors import UnsupportedModel
from onnxpipe.pipeline import AnyPipeline
from onnxpipe.sections import Detection
from onnxpipe.session import Arrays
from onnxpipe.vision.boxes import center_to_corners, choose
from onnxpipe_export.source import SourceModel

# The post-processing that transformers 4.57.6 gives each image processor: rule, and how many objects it keeps.
_RULES: Mapping[str, tuple[Literal["softmax_without_last", "sigmoid_top_k"], int | None]] = {
    "ConditionalDetrImageProcessor": ("sigmoid_top_k", 100),
    "DeformableDetrImageProcessor": ("sigmoid_top_k", 100),
    "DetrImageProcessor": ("softmax_without_last", None),
    "RTDetrImageProcessor": ("sigmoid_top_k", None),
    "YolosImageProcessor": ("softmax_without_last", None),
}

# A prediction is the same object when it has the label and shares this part of the area that either covers; or when its
# edges are this near, in units of the picture: tiny boxes share little of their area at once.
_SAME_BOX, _SAME_EDGES = 0.9, 1e-3
# How many objects a golden answer has if the scores behind them are this far from theirs.
_GOLDEN_OBJECTS, _GOLDEN_GAP = 5, 1e-3


def detection_section(source: SourceModel, model: Any, processor: Any) -> Detection:  # transformers is untyped here
    """Which predictions are objects, as the image processor's own post-processing has it, and the labels by class.

    A class without a label gets transformers' own name for such, LABEL_7. Where the config says that an RT-DETR was
    trained without focal loss, its last class is none; transformers' pipeline does not look.
    Raises UnsupportedModel for a processor without post-processing that we have.
    """
    kind = type(processor).__name__
    if kind not in _RULES:
        names = ", ".join(sorted(_RULES))
        raise UnsupportedModel(f"{source.name}: cannot find objects as {kind} does; supported are: {names}")
    config = model.config
    scores, count = _RULES[kind]
    if not getattr(config, "use_focal_loss", True):
        scores, count = "softmax_without_last", None
    labels = tuple(str(config.id2label.get(index, f"LABEL_{index}")) for index in range(config.num_labels))
    return Detection(labels=labels, scores=scores, count=count)


def golden_parameters(pipeline: AnyPipeline, inputs: object) -> dict[str, object]:
    """A threshold with a few objects above it: in the middle of the widest gap between the highest scores.

    Where these are all but one score, with more objects, maybe all: another machine must find as many.
    """
    scores = sorted((item.score for item in pipeline(inputs, threshold=0.0)), reverse=True)
    pairs = list(itertools.pairwise([*scores, 0.0, 0.0]))
    for choice in (pairs[:_GOLDEN_OBJECTS], pairs):
        above, below = max(choice, key=lambda pair: pair[0] - pair[1])
        if above - below >= _GOLDEN_GAP:
            break
    return {"threshold": (above + below) / 2}


def box_figures(detection: Detection, expected: Sequence[Arrays], given: Sequence[Arrays]) -> dict[str, float]:
    """How much of what torch finds in each picture is found again: the same label in nearly the same place.

    What torch finds are the predictions that are at least half as likely as the picture's likeliest, whatever the
    weights: so there always are some. `agreement` is the share of those found again, `score_error` the mean distance of
    their scores (the whole score for one that is not found), `box_error` the mean distance of their edges in units of
    the picture. The order of predictions does not matter: where a model sorts its own proposals, it is that of noise.
    """
    found, score_errors, box_errors = [], [], []
    for left, right in zip(expected, given, strict=True):
        classes, scores, boxes = _predictions(detection, left)
        other_classes, other_scores, other_boxes = _predictions(detection, right)
        kept = scores >= 0.5 * scores.max()
        classes, scores, boxes = classes[kept], scores[kept], boxes[kept]
        near = np.abs(boxes[:, None] - other_boxes).max(axis=-1) <= _SAME_EDGES
        same = (near | (overlaps(boxes, other_boxes) >= _SAME_BOX)) & (classes[:, None] == other_classes)
        # several predictions in one place: the one whose score is nearest
        apart = np.where(same, np.abs(scores[:, None] - other_scores), np.inf)
        best = apart.argmin(axis=1)
        matched = np.isfinite(apart[np.arange(len(best)), best])
        found.append(matched)
        score_errors.append(np.where(matched, np.abs(scores - other_scores[best]), scores))
        box_errors.append(np.abs(boxes - other_boxes[best])[matched].ravel())
    return {
        "agreement": _mean(found),
        "score_error": _mean(score_errors),
        "box_error": _mean(box_errors),
    }


def overlaps(boxes: Floats, others: Floats) -> Floats:
    """Intersection over union (N, M) of boxes (N, 4) and others (M, 4), given by their corners; 0 for empty ones."""
    corners = np.maximum(boxes[:, None, :2], others[:, :2]), np.minimum(boxes[:, None, 2:], others[:, 2:])
    intersections = np.clip(corners[1] - corners[0], 0, None).prod(axis=-1)
    areas, other_areas = ((items[:, 2:] - items[:, :2]).prod(axis=-1) for items in (boxes, others))
    unions = areas[:, None] + other_areas - intersections
    ratios: Floats = np.divide(intersections, unions, out=np.zeros_like(intersections), where=unions > 0)
    return ratios


def _predictions(detection: Detection, outputs: Arrays) -> tuple[np.ndarray[Any, Any], Floats, Floats]:
    logits, boxes = outputs["logits"], outputs["pred_boxes"]
    queries, classes, scores = choose(logits, detection)
    return classes, scores, center_to_corners(boxes[queries])


def _mean(parts: Sequence[Any]) -> float:  # arrays of flags or numbers
    values = np.concatenate(parts)
    # nothing was found again: as far away as can be
    return float(values.mean()) if values.size else 1.0
