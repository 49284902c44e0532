"""How near a precision's answers are to a reference's, in the terms of what the outputs are used for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, cast

import numpy as np

from onnxpipe.arrays import Floats
from onnxpipe.labels import Label
from onnxpipe.pipeline import AnyPipeline, Work
from onnxpipe.session import Array, Arrays
from onnxpipe.text.embedding import Embedder
from onnxpipe.verification.found import box_figures, mask_figures
from onnxpipe.vision.boxes import require_detection

Figures = dict[str, float]
# how a precision's answers are judged beside the reference's
Judge = Literal["cosine", "scores", "choices", "boxes", "masks", "tokens"]

_MORE_IS_BETTER = {"cosine_mean", "cosine_worst", "agreement", "same_text"}


def judge(
    how: Judge,
    pipeline: AnyPipeline,
    works: Sequence[Work[object]],
    expected: Sequence[Arrays],
    given: Sequence[Arrays],
) -> Figures:
    """The figures of outputs `given` beside those `expected`, row by row."""
    return _JUDGES[how](pipeline, works, expected, given)


def relative_error(expected: Array, given: Array) -> float:
    """The largest difference of two arrays in units of max(1, the largest expected magnitude)."""
    return float(np.abs(given - expected).max() / max(1.0, float(np.abs(expected).max())))


def problems(figures: Figures, tolerance: Mapping[str, float]) -> list[str]:
    """Where figures miss a tolerance: one line each, with both numbers."""
    found = []
    for name, bound in tolerance.items():
        at_least = name in _MORE_IS_BETTER
        if not (figures[name] >= bound if at_least else figures[name] <= bound):  # a NaN fails too
            found.append(f"{name} is {figures[name]:.4g}, {'at least' if at_least else 'at most'} {bound:g} is allowed")
    return found


def _cosine_figures(
    pipeline: AnyPipeline, _: Sequence[Work[object]], expected: Sequence[Arrays], given: Sequence[Arrays]
) -> Figures:
    """Embeddings: the cosine of each text's vector to the reference's."""
    embedder = Embedder(pipeline.model)
    cosines = [
        _cosine(embedder.vector(left, 0), embedder.vector(right, 0))
        for left, right in zip(expected, given, strict=True)
    ]
    return {"cosine_mean": float(np.mean(cosines)), "cosine_worst": min(cosines)}


def _cosine(left: Floats, right: Floats) -> float:
    # in double: the difference to 1 is the figure
    wide_left, wide_right = left.astype(np.float64), right.astype(np.float64)
    return float(wide_left @ wide_right / (np.linalg.norm(wide_left) * np.linalg.norm(wide_right)))


def _score_figures(
    _: AnyPipeline, works: Sequence[Work[object]], expected: Sequence[Arrays], given: Sequence[Arrays]
) -> Figures:
    """Labels with scores: the share of texts with the same first label, and the mean distance of scores."""
    pairs = [
        (cast("list[Label]", work.finish([left])), cast("list[Label]", work.finish([right])))
        for work, left, right in zip(works, expected, given, strict=True)
    ]
    agreement = np.mean([left[0].label == right[0].label for left, right in pairs])
    references = np.array([_scores(left) for left, _ in pairs])
    scores = np.array([_scores(right) for _, right in pairs])
    # probabilities as they are; a regression's scores in units of their spread over the samples
    spread = max(1.0, float(np.ptp(references)))
    return {"agreement": float(agreement), "score_error": float(np.abs(scores - references).mean() / spread)}


def _scores(labels: list[Label]) -> list[float]:
    return [item.score for item in sorted(labels, key=lambda item: item.label)]


def _choice_figures(
    pipeline: AnyPipeline, _: Sequence[Work[object]], expected: Sequence[Arrays], given: Sequence[Arrays]
) -> Figures:
    """Choices along the last axis, such as a token's label or an answer's start: the share that are the reference's."""
    names = [tensor.name for tensor in pipeline.model.graph().outputs]
    same = [
        np.atleast_1d(left[name].argmax(axis=-1) == right[name].argmax(axis=-1))
        for left, right in zip(expected, given, strict=True)
        for name in names
    ]
    return {"agreement": float(np.concatenate([flags.ravel() for flags in same]).mean())}


def _box_figures(
    pipeline: AnyPipeline, _: Sequence[Work[object]], expected: Sequence[Arrays], given: Sequence[Arrays]
) -> Figures:
    """Labelled boxes: see `box_figures`."""
    return box_figures(require_detection(pipeline.model.bundle.manifest), expected, given)


def _mask_figures(
    _: AnyPipeline, works: Sequence[Work[object]], expected: Sequence[Arrays], given: Sequence[Arrays]
) -> Figures:
    """Labelled masks: see `mask_figures`."""
    return mask_figures(works, expected, given)


_Figurer = Callable[[AnyPipeline, Sequence[Work[object]], Sequence[Arrays], Sequence[Arrays]], Figures]
_JUDGES: dict[Judge, _Figurer] = {
    "cosine": _cosine_figures,
    "scores": _score_figures,
    "choices": _choice_figures,
    "boxes": _box_figures,
    "masks": _mask_figures,
}
