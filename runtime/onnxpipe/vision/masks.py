"""Outputs of segmentation models to segments of a picture.

Reference: transformers 4.57.6 `post_process_panoptic_segmentation`, `..._instance_...` and `..._semantic_...` of the
image processors of DETR, MaskFormer, Mask2Former and SegFormer, which agree but for the arguments below. Differences:
segments of a fused label come as one, and never share their number with another. Shape letters: Q queries, C labels,
h w the size of the masks, H W that of the picture.
"""

import dataclasses
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats, descending, sigmoid, softmax
from onnxpipe.vision.mask_png import Mask
from onnxpipe.vision.upsampling import HeightWidth, largest_plane, nearest, resize


@dataclasses.dataclass(frozen=True)
class Segment:
    """What is at the pixels with one of its `numbers`: the place of its label, and in [0, 1] how sure that is."""

    numbers: tuple[int, ...]
    label: int
    score: float | None


@dataclasses.dataclass(frozen=True)
class Segments:
    """Segments, and the number at each pixel (H, W); where there is no segment, it is that of none."""

    numbers: NDArray[np.int16]
    found: list[Segment]

    def mask(self, segment: Segment) -> Mask:
        """Where a segment is, (H, W)."""
        first, *others = segment.numbers
        inside: Mask = self.numbers == first
        for number in others:
            inside |= self.numbers == number
        return inside


def find_panoptic(
    logits: Floats,
    masks: Floats,
    size: HeightWidth,
    *,
    threshold: float,
    mask_threshold: float,
    overlap_mask_area_threshold: float,
    mask_size: HeightWidth | None = None,
    fused: Collection[int] = (),
) -> Segments:
    """Segments without overlap, from logits (Q, C + 1) with the null label last and mask logits (Q, h, w).

    A query counts when its best label is not the null one and has a probability above `threshold`. Each pixel goes to
    the query with the largest product of that and its mask's probability there. A query becomes a segment when the
    pixels it got are more than `overlap_mask_area_threshold` of those where its product is at least `mask_threshold`.
    Segments come in the order of queries; those of a label in `fused` become one, in the first's place and with its
    score. `mask_size` is what mask logits are resized to before they become probabilities.
    """
    probabilities = softmax(logits)
    labels, scores = probabilities.argmax(axis=-1), probabilities.max(axis=-1)
    kept = np.flatnonzero((labels < logits.shape[-1] - 1) & (scores > threshold))
    if not len(kept):
        return Segments(np.zeros(size, np.int16), [])
    planes = _mask_probabilities(masks, kept, mask_size)
    planes *= scores[kept, None, None]
    largest = largest_plane(planes, size, mask_threshold)
    found: dict[int, Segment] = {}  # by the number of the first query, which a fused label keeps
    firsts: dict[int, int] = {}
    for number, (query, won, area) in enumerate(zip(kept, largest.won, largest.areas, strict=True)):
        # in float32, as the reference: a share of 4/5 is more than 0.8
        if not won or not area or float(np.float32(won) / np.float32(area)) <= overlap_mask_area_threshold:
            continue
        label = int(labels[query])
        first = firsts.setdefault(label, number) if label in fused else number
        if first in found:
            found[first] = dataclasses.replace(found[first], numbers=(*found[first].numbers, number))
        else:
            found[first] = Segment((number,), label, float(scores[query]))
    return Segments(largest.numbers, list(found.values()))


def find_instances(
    logits: Floats, masks: Floats, size: HeightWidth, *, threshold: float, mask_size: HeightWidth | None = None
) -> Segments:
    """Segments of the Q best pairs of a query and a label, from the same outputs as `find_panoptic`.

    A pair's mask is where the query's logits are positive; its score, the label's probability times the mean
    probability inside of the mask, must be at least `threshold`. They come by falling probability of the label, and a
    pixel goes to the last that wants it, so an earlier one may be left with few pixels or none.
    """
    probabilities = softmax(logits)[:, :-1]
    numbers = np.zeros(size, np.int16)
    found: list[Segment] = []
    for pair in descending(probabilities.ravel(), len(logits)):
        query, label = divmod(int(pair), probabilities.shape[1])
        probability = probabilities[query, label]
        if probability < threshold:  # no mask makes it more
            break
        plane = masks[query].astype(np.float32, copy=False)
        plane = plane if mask_size is None else resize(plane[None], mask_size)[0]
        inside = plane > 0
        score = float(probability * sigmoid(plane)[inside].sum() / (np.float32(inside.sum()) + np.float32(1e-6)))
        rows, columns = (nearest(*edges) for edges in zip(plane.shape, size, strict=True))
        mask = inside[rows[:, None], columns]
        if score >= threshold and mask.any():
            found.append(Segment((len(found) + 1,), label, score))
            numbers[mask] = len(found)
    return Segments(numbers, found)


def label_scores(logits: Floats, masks: Floats, mask_size: HeightWidth | None = None) -> Floats:
    """What all queries together say of each label, (C, h, w): the sum of mask probabilities, by probability of it."""
    planes = _mask_probabilities(masks, np.arange(len(masks)), mask_size)
    scores: Floats = np.tensordot(softmax(logits)[:, :-1], planes, axes=(0, 0))
    return scores


def find_semantic(scores: Floats, size: HeightWidth) -> Segments:
    """A segment per label that is the best of scores (C, h, w) at any pixel, in the order of labels."""
    largest = largest_plane(scores, size)
    return Segments(largest.numbers, [Segment((label,), label, None) for label in np.flatnonzero(largest.won).tolist()])


def _mask_probabilities(masks: Floats, queries: NDArray[np.intp], mask_size: HeightWidth | None) -> Floats:
    """The masks (K, h, w) of some queries as probabilities, resized before. One by one: the steps take memory each."""
    planes = np.empty((len(queries), *(mask_size or masks.shape[1:])), np.float32)
    for plane, query in zip(planes, queries, strict=True):
        logits = masks[query].astype(np.float32, copy=False)
        plane[...] = sigmoid(logits if mask_size is None else resize(logits[None], mask_size)[0])
    return planes
