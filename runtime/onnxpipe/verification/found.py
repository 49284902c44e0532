"""How near found objects and segments are to a reference's, and which objects to check again."""

import itertools
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats
from onnxpipe.pipeline import AnyPipeline, Work
from onnxpipe.sections import Detection
from onnxpipe.session import Arrays
from onnxpipe.tasks.image_segmentation import Segment
from onnxpipe.vision.boxes import center_to_corners, choose

# A prediction is the same object when it has the label and shares this part of the area that either covers; or when its
# edges are this near, in units of the picture: tiny boxes share little of their area at once.
_SAME_BOX, _SAME_EDGES = 0.9, 1e-3
# How many objects a golden answer has if the scores behind them are this far from theirs.
_GOLDEN_OBJECTS, _GOLDEN_GAP = 5, 1e-3


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
    """How much of what the reference finds in each picture is found again: the same label in nearly the same place.

    What the reference finds are the predictions that are at least half as likely as the picture's likeliest, whatever
    the weights: so there always are some. `agreement` is the share of those found again, `score_error` the mean
    distance of their scores (the whole score for one that is not found), `box_error` that of their edges in units of
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


def mask_figures(
    works: Sequence[Work[object]], expected: Sequence[Arrays], given: Sequence[Arrays]
) -> dict[str, float]:
    """The share of pixels, mean over pictures, that have the reference's label."""
    shares = []
    for work, left, right in zip(works, expected, given, strict=True):
        labels: dict[str, int] = {}
        shares.append(np.mean(_label_map(work.finish([left]), labels) == _label_map(work.finish([right]), labels)))
    return {"agreement": float(np.mean(shares))}


def _label_map(segments: object, labels: dict[str, int]) -> NDArray[np.int64]:
    """The number of each pixel's label (H, W), as `labels` has it; those that are not there yet are added."""
    found = np.zeros((1, 1), np.int64)  # 0 where there is no segment; equal to any size
    for segment in cast("list[Segment]", segments):
        found = np.where(segment.pixels(), labels.setdefault(segment.label, len(labels) + 1), found)
    return found
