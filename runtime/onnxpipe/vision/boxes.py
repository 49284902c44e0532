"""What a set of predictions says of a picture: which queries saw what, how surely, and in which box of whole pixels.

A detector answers with logits (Q, C) and boxes (Q, 4) of Q queries. Functions that choose return three arrays (N,): the
queries, the classes they stand for, and their scores.
Reference: `post_process_object_detection` of transformers 4.57.6's slow image processors, and its pipeline's rounding.
Differences: of equal scores the one with the lower index comes first, and boxes are clipped to the picture.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats, descending, sigmoid, softmax
from onnxpipe.bundle import Manifest
from onnxpipe.errors import UnsupportedModel
from onnxpipe.sections import BoxFormat, Detection

Indices = NDArray[np.intp]
Choice = tuple[Indices, Indices, Floats]


def require_detection(manifest: Manifest) -> Detection:
    """The manifest's `detection` section. Raises UnsupportedModel when the model finds no objects."""
    if manifest.detection is None:
        raise UnsupportedModel(f"{manifest.id} finds no objects; it serves: {', '.join(manifest.tasks)}")
    return manifest.detection


def choose(logits: Floats, detection: Detection) -> Choice:
    """The predictions the manifest's rule makes of logits (Q, C), in the model's order."""
    if detection.scores == "softmax_without_last":
        return likeliest_classes(logits)
    return best_pairs(logits, detection.count)


def likeliest_classes(logits: Floats) -> Choice:
    """Every query in order with its likeliest class but the last, which means that there is no object (DETR)."""
    probabilities = softmax(logits)[:, :-1]
    classes = probabilities.argmax(axis=-1)
    queries = np.arange(len(logits))
    return queries, classes, probabilities[queries, classes]


def best_pairs(logits: Floats, count: int | None = None) -> Choice:
    """The `count` (as many as queries when None) best pairs of a query and a class, best first (RT-DETR).

    Each class is a yes or no of its own, so that one query may come several times.
    """
    scores = sigmoid(logits).ravel()
    best = descending(scores, len(logits) if count is None else count)
    queries, classes = np.divmod(best, logits.shape[1])
    return queries, classes, scores[best]


def center_to_corners(boxes: Floats) -> Floats:
    """Boxes (..., 4) as center x, center y, width, height to left, top, right, bottom."""
    centers, halves = boxes[..., :2], boxes[..., 2:] * np.float32(0.5)
    return np.concatenate([centers - halves, centers + halves], axis=-1)


# what each format's numbers become corners by
_TO_CORNERS: Mapping[BoxFormat, Callable[[Floats], Floats]] = {"cxcywh": center_to_corners}


def pixel_boxes(boxes: Floats, box_format: BoxFormat, size: tuple[int, int]) -> NDArray[np.intp]:
    """Left, top, right and bottom (N, 4) in pixels of a picture of `size` (width, height), for boxes relative to it.

    Fractions are cut off; 0 <= left <= right <= width, and the same from top to bottom.
    """
    edges = np.array(size * 2, np.float32)
    corners: NDArray[np.intp] = np.clip(_TO_CORNERS[box_format](boxes) * edges, 0, edges).astype(np.intp)
    return corners
