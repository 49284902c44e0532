"""A bundle beside torch, through the real runtime: same tokens, same outputs, and answers as near as the recipe asks.

The torch model takes the place of the onnxruntime session in the runtime's own pipeline, so every figure compares the
two engines on the very same rows, and the reference's answers come out in the shape a user gets them in.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from onnxpipe.arrays import Floats
from onnxpipe.batching import Row, run_batch, run_rows
from onnxpipe.errors import UnsupportedModel
from onnxpipe.load import make_pipeline
from onnxpipe.pipeline import Model
from onnxpipe.session import Array, Arrays
from onnxpipe.tasks.text_classification import Label
from onnxpipe.text.embedding import Embedder
from onnxpipe_export.recipes import SAMPLES, Head, Recipe

# Outputs of a row run alone and of the same row in a padded batch, in units of max(1, magnitude): above this the
# variant is not batch-invariant. fp32 stays near 1e-6, dynamic quantisation lies at 1e-2 and more.
_INVARIANCE = 1e-4

_MORE_IS_BETTER = {"cosine_mean", "cosine_worst", "agreement"}

Figures = dict[str, float]
Advance = Callable[[], None]


class TorchEngine:
    """A torch model with the face of a session."""

    device = "cpu"

    def __init__(self, model: Any, output: str) -> None:  # a torch module: torch is untyped here
        import torch

        self._torch = torch
        self._model = model
        self._output = output
        self.threads: int = torch.get_num_threads()

    def run(self, feeds: Mapping[str, Array]) -> Arrays:
        """The recipe's output for one batch of inputs."""
        with self._torch.inference_mode():
            outputs = self._model(**{name: self._torch.from_numpy(array) for name, array in feeds.items()})
        return {self._output: outputs[self._output].numpy()}


def check_tokens(model: Model, tokenizer: Any) -> None:
    """Raise UnsupportedModel unless the runtime's tokens equal transformers' for single texts and pairs."""
    limit = model.tokenizer.text.max_tokens
    cut = {"truncation": True, "max_length": limit} if limit else {}
    for text, pair in zip(SAMPLES, (None, *SAMPLES), strict=False):
        for second in {None, pair}:
            expected = tokenizer(text, second, **cut)["input_ids"]
            given = model.tokenizer.encode(text, second).ids.tolist()
            if given != expected:
                raise UnsupportedModel(
                    f"{model.bundle.manifest.id}: the converted tokenizer differs from transformers' on {text[:40]!r}: "
                    f"{given[:8]}... instead of {expected[:8]}..."
                )


class Verifier:
    """The reference's outputs on the samples, computed once, and each variant's figures beside them."""

    def __init__(self, reference: Model, recipe: Recipe, advance: Advance) -> None:
        self._recipe = recipe
        self._reference = reference
        graph = reference.graph()
        pipeline = make_pipeline(reference, "feature-extraction" if recipe.head == "embedding" else None)
        works = [pipeline.preprocess(text, pipeline.types()[1]()) for text in SAMPLES]
        self._rows: list[Row] = [work.rows[0] for work in works]
        self._expected: list[Arrays] = []
        for row in self._rows:
            self._expected += run_rows(reference.sessions["model"], graph, [row], together=False)
            advance()

    def measure(self, candidate: Model, advance: Advance) -> tuple[Figures, bool]:
        """The figures of a variant, and whether it is batch-invariant.

        Rows run alone, and in two padded batches: two rows, and the shortest with a middling and the longest.
        """
        engine, graph = candidate.sessions["model"], candidate.graph()
        alone: list[Arrays] = []
        for row in self._rows:
            alone += run_rows(engine, graph, [row], together=False)
            advance()
        output = self._recipe.output
        batch_error = 0.0
        batched = list(alone)
        by_length = sorted(range(len(self._rows)), key=lambda index: self._rows[index]["input_ids"].size)
        for members in (by_length[1:3], [by_length[0], by_length[len(by_length) // 2], by_length[-1]]):
            together = run_batch(engine, graph, [self._rows[index] for index in members])
            for index, outputs in zip(members, together, strict=True):
                batch_error = max(batch_error, relative_error(alone[index][output], outputs[output]))
                batched[index] = outputs
            advance()
        invariant = batch_error <= _INVARIANCE
        errors = [
            relative_error(expected[output], given[output])
            for answers in ((alone, batched) if invariant else (alone,))
            for expected, given in zip(self._expected, answers, strict=True)
        ]
        figures = {"error": max(errors), "batch_error": batch_error}
        return figures | _FIGURES[self._recipe.head](self._reference, self._expected, alone), invariant

    @property
    def steps(self) -> int:
        """How often `measure` advances."""
        return len(self._rows) + 2


def relative_error(expected: Array, given: Array) -> float:
    """The largest difference of two arrays in units of max(1, the largest expected magnitude)."""
    return float(np.abs(given - expected).max() / max(1.0, float(np.abs(expected).max())))


def _embedding_figures(model: Model, expected: Sequence[Arrays], given: Sequence[Arrays]) -> Figures:
    embedder = Embedder(model)
    cosines = [
        _cosine(embedder.vector(left, 0), embedder.vector(right, 0))
        for left, right in zip(expected, given, strict=True)
    ]
    return {"cosine_mean": float(np.mean(cosines)), "cosine_worst": min(cosines)}


def _cosine(left: Floats, right: Floats) -> float:
    # in double: the difference to 1 is the figure
    wide_left, wide_right = left.astype(np.float64), right.astype(np.float64)
    return float(wide_left @ wide_right / (np.linalg.norm(wide_left) * np.linalg.norm(wide_right)))


def _classification_figures(model: Model, expected: Sequence[Arrays], given: Sequence[Arrays]) -> Figures:
    pipeline = make_pipeline(model)
    finish = pipeline.preprocess(SAMPLES[0], pipeline.types()[1]()).finish
    pairs = [
        (cast("list[Label]", finish([left])), cast("list[Label]", finish([right])))
        for left, right in zip(expected, given, strict=True)
    ]
    agreement = np.mean([left[0].label == right[0].label for left, right in pairs])
    references = np.array([[item.score for item in sorted(left, key=_label)] for left, _ in pairs])
    scores = np.array([[item.score for item in sorted(right, key=_label)] for _, right in pairs])
    # probabilities as they are; a regression's scores in units of their spread over the samples
    spread = max(1.0, float(np.ptp(references)))
    return {"agreement": float(agreement), "score_error": float(np.abs(scores - references).mean() / spread)}


def _label(item: Label) -> str:
    return item.label


_FIGURES: dict[Head, Callable[[Model, Sequence[Arrays], Sequence[Arrays]], Figures]] = {
    "embedding": _embedding_figures,
    "classification": _classification_figures,
}


def problems(figures: Figures, tolerance: Mapping[str, float]) -> list[str]:
    """Where figures miss the recipe's tolerance: one line each, with both numbers."""
    found = []
    for name, bound in tolerance.items():
        at_least = name in _MORE_IS_BETTER
        if not (figures[name] >= bound if at_least else figures[name] <= bound):  # a NaN fails too
            found.append(f"{name} is {figures[name]:.4g}, {'at least' if at_least else 'at most'} {bound:g} is allowed")
    return found
