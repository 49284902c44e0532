"""A bundle beside torch, through the real runtime: same tokens, same outputs, and answers as near as the recipe asks.

The torch model takes the place of the onnxruntime session in the runtime's own pipeline, so every figure compares the
two engines on the very same rows, and the reference's answers come out in the shape a user gets them in.
"""

from collections.abc import Callable, Mapping
from typing import Any

from onnxpipe.batching import Row, run_batch, run_rows, stackable_rows
from onnxpipe.bundle import Graph
from onnxpipe.errors import UnsupportedModel
from onnxpipe.load import make_pipeline
from onnxpipe.pipeline import Model
from onnxpipe.records import read
from onnxpipe.session import Array, Arrays
from onnxpipe_export.figures import Figures, judge, relative_error
from onnxpipe_export.quiet import quiet
from onnxpipe_export.recipe import Recipe
from onnxpipe_export.samples import TEXTS, with_mask

# Outputs of a row run alone and of the same row in a padded batch, in units of max(1, magnitude): above this the
# variant is not batch-invariant. fp32 stays near 1e-6, dynamic quantisation lies at 1e-2 and more.
INVARIANCE = 1e-4

Advance = Callable[[], None]


class TorchEngine:
    """A torch model with the face of a session."""

    device = "cpu"

    def __init__(self, model: Any, graph: Graph) -> None:  # a torch module: torch is untyped here
        import torch

        self._torch = torch
        self._model = model
        self._outputs = [tensor.name for tensor in graph.outputs]
        self.threads: int = torch.get_num_threads()

    @property
    def model(self) -> Any:
        """The torch model itself."""
        return self._model

    def run(self, feeds: Mapping[str, Array]) -> Arrays:
        """The outputs of the graph it stands for, for one batch of inputs."""
        with self._torch.inference_mode(), quiet():  # WavLM's attention is warned of by torch itself
            outputs = self._model(**{name: self._torch.from_numpy(array) for name, array in feeds.items()})
        return {name: outputs[name].numpy() for name in self._outputs}


def torch_model(reference: Model) -> Any:  # a torch module
    """The torch model in the place of a reference's graphs. Raises TypeError when there is none."""
    for engine in reference.sessions.values():
        if isinstance(engine, TorchEngine):
            return engine.model
    raise TypeError("expected a model with torch in the place of its graphs")


def check_tokens(model: Model, tokenizer: Any) -> None:
    """Raise UnsupportedModel unless the runtime's tokens equal transformers' for single texts and pairs.

    Pairs only where the reference is a fast tokenizer: slow ones cut them in another way, and what has such reads none.
    """
    limit = model.tokenizer.text.max_tokens
    cut = {"truncation": True, "max_length": limit} if limit else {}
    for text, pair in zip(TEXTS, (None, *TEXTS), strict=False):
        for second in {None, pair if tokenizer.is_fast else None}:
            # not verbose: it would warn of texts that are longer than the model's
            expected = tokenizer(text, second, verbose=False, **cut)["input_ids"]
            given = model.tokenizer.encode(text, second).ids.tolist()
            if given != expected:
                raise UnsupportedModel(
                    f"{model.bundle.manifest.id}: the converted tokenizer differs from transformers' on {text[:40]!r}: "
                    f"{given[:8]}... instead of {expected[:8]}..."
                )


class Verifier:
    """The reference's outputs on the samples, computed once, and each variant's figures beside them."""

    def __init__(self, reference: Model, recipe: Recipe) -> None:
        self._recipe = recipe
        self._reference = reference
        self._pipeline = make_pipeline(reference, recipe.verified_as)
        parameters = read(self._pipeline.types()[1], recipe.parameters)
        samples = self._pipeline.check_inputs(with_mask(recipe.samples, reference))
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

    def measure(self, candidate: Model, advance: Advance) -> tuple[Figures, bool]:
        """The figures of a variant, and whether it is batch-invariant.

        Rows run alone, and in two batches: two rows, and the smallest with a middling and the largest. Where rows of
        different shapes cannot share one, of those that can.
        """
        engine, graph = candidate.sessions["model"], candidate.graph()
        alone: list[Arrays] = []
        for row in self._rows:
            alone += run_rows(engine, graph, [row], together=False)
            advance()
        batch_error = 0.0
        batched = list(alone)
        stackable = max(stackable_rows(self._rows, graph), key=len)
        by_size = sorted(stackable, key=lambda index: next(iter(self._rows[index].values())).size)
        for members in (by_size[1:3], [by_size[0], by_size[len(by_size) // 2], by_size[-1]]):
            together = run_batch(engine, graph, [self._rows[index] for index in members])
            for index, outputs in zip(members, together, strict=True):
                batch_error = max(batch_error, self._error(alone[index], outputs))
                batched[index] = outputs
            advance()
        invariant = batch_error <= INVARIANCE
        errors = [
            self._error(expected, given)
            for answers in ((alone, batched) if invariant else (alone,))
            for expected, given in zip(self._expected, answers, strict=True)
        ]
        figures = {"error": max(errors), "batch_error": batch_error}
        return figures | judge(self._recipe.judge, self._pipeline, self._works, self._expected, alone), invariant

    def _error(self, expected: Arrays, given: Arrays) -> float:
        return max(relative_error(expected[name], given[name]) for name in expected)

    @property
    def rows(self) -> int:
        """How many rows there are: how often `ask_reference` advances."""
        return len(self._rows)

    @property
    def steps(self) -> int:
        """How often `measure` advances."""
        return len(self._rows) + 2
