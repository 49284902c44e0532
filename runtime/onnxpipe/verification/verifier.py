"""A model's precisions beside a reference, through the real pipeline, on the very same rows.

Any engine may stand for the reference: torch at export, another precision later.
"""

import math
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from onnxpipe.batching import Row, run_batch, run_rows, stackable_rows
from onnxpipe.bundle import Graph
from onnxpipe.load import make_pipeline
from onnxpipe.pipeline import Model
from onnxpipe.records import read
from onnxpipe.session import Array, Arrays, Engine
from onnxpipe.verification.figures import Figures, Judge, judge, relative_error
from onnxpipe.verification.samples import with_mask

# Outputs of a row run alone and of the same row in a padded batch, in units of max(1, magnitude): above this the
# variant is not batch-invariant. fp32 stays near 1e-6, dynamic quantisation lies at 1e-2 and more.
INVARIANCE = 1e-4

Advance = Callable[[], None]


class Trial(Protocol):
    """What a model is verified on: `samples` of a task (its own when None) with `parameters`, and by which figures."""

    @property
    def verified_as(self) -> str | None:
        """The task."""

    @property
    def samples(self) -> tuple[object, ...]:
        """Inputs, in the shape of the task; "{mask}" in texts stands for the model's own mask token."""

    @property
    def parameters(self) -> Mapping[str, object]:
        """The task's parameters."""

    @property
    def judge(self) -> Judge:
        """Which figures tell how near answers are."""


class Verifier:
    """The reference's outputs on the samples of a trial, computed once, and each variant's figures beside them."""

    def __init__(self, reference: Model, trial: Trial) -> None:
        self._judge = trial.judge
        self._reference = reference
        self._pipeline = make_pipeline(reference, trial.verified_as)
        parameters = read(self._pipeline.types()[1], trial.parameters)
        samples = self._pipeline.check_inputs(with_mask(trial.samples, reference))
        self._works = [self._pipeline.preprocess(sample, parameters) for sample in samples]
        self._rows: list[Row] = [row for work in self._works for row in work.rows]
        self._expected: list[Arrays] = []

    def ask_reference(self, advance: Advance) -> None:
        """Compute the reference's outputs, row by row."""
        for row in self._rows:
            self._expected += run_rows(
                self._reference.sessions["model"], self._reference.graph(), [row], together=False
            )
            advance()

    def measure(self, candidate: Model, advance: Advance, *, batches: bool = True) -> tuple[Figures, bool]:
        """The figures of a variant, and whether it is batch-invariant.

        Rows run alone, and in two batches: two rows, and the smallest with a middling and the largest. Where rows of
        different shapes cannot share one, of those that can. Not in batches where `batches` is false.
        """
        engine, graph = candidate.sessions["model"], candidate.graph()
        alone: list[Arrays] = []
        for row in self._rows:
            alone += run_rows(engine, graph, [row], together=False)
            advance()
        batched = self._batch(engine, graph) if batches else []
        advance()
        batch_error = max((self._error(alone[index], outputs) for index, outputs in batched), default=math.inf)
        invariant = batch_error <= INVARIANCE
        answers = [*enumerate(alone), *(batched if invariant else [])]
        figures = {"error": max(self._error(self._expected[index], outputs) for index, outputs in answers)}
        if math.isfinite(batch_error):
            figures["batch_error"] = batch_error
        return figures | judge(self._judge, self._pipeline, self._works, self._expected, alone), invariant

    def noise(self, candidate: Model, most: int = 16) -> float:
        """How far outputs are off on some of the rows, in squares, as a share of what was expected."""
        engine, graph, total = candidate.sessions["model"], candidate.graph(), 0.0
        chosen = range(0, len(self._rows), -(-len(self._rows) // most))
        for index in chosen:
            (given,) = run_rows(engine, graph, [self._rows[index]], together=False)
            total += float(
                np.mean([_share(given[name] - array, array) for name, array in self._expected[index].items()])
            )
        return float(total / len(chosen))

    @property
    def inputs(self) -> list[Row]:
        """The rows that precisions are compared on."""
        return self._rows

    def _batch(self, engine: Engine, graph: Graph) -> list[tuple[int, Arrays]]:
        """The outputs of some rows with their number, run in batches."""
        stackable = max(stackable_rows(self._rows, graph), key=len)
        by_size = sorted(stackable, key=lambda index: next(iter(self._rows[index].values())).size)
        outputs: list[tuple[int, Arrays]] = []
        for members in (by_size[1:3], [by_size[0], by_size[len(by_size) // 2], by_size[-1]]):
            together = run_batch(engine, graph, [self._rows[index] for index in members])
            outputs += zip(members, together, strict=True)
        return outputs

    def _error(self, expected: Arrays, given: Arrays) -> float:
        """The largest difference of any output; infinite where padding was not cut off."""
        if any(expected[name].shape != given[name].shape for name in expected):
            return math.inf
        return max(relative_error(expected[name], given[name]) for name in expected)

    @property
    def rows(self) -> int:
        """How many rows there are: how often `ask_reference` advances."""
        return len(self._rows)

    @property
    def steps(self) -> int:
        """How often `measure` advances."""
        return len(self._rows) + 1


def _share(error: Array, expected: Array) -> float:
    wide = expected.astype(np.float64)
    return float(np.square(error, dtype=np.float64).sum() / max(np.square(wide).sum(), 1e-30))
