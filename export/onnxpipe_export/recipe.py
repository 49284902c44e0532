"""What a task or a family needs to be exported: the columns of the tables in `text_recipes`, `vision_recipes` ..."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

from onnxpipe.pipeline import AnyPipeline
from onnxpipe.verification.figures import Judge
from onnxpipe.verification.samples import TEXTS
from onnxpipe_export.source import SourceModel

# the manifest's sections; "text" brings a tokenizer with it, "image" an image processor, "audio" a feature extractor
Section = Literal[
    "text",
    "embedding",
    "classification",
    "table",
    "image",
    "audio",
    "detection",
    "segmentation",
    "generation",
    "transcription",
    "translation",
    "chat",
    "ctc",
]
# what makes the graphs: optimum-onnx, or torch's tracer around the decoders of `generation`
Backend = Literal["optimum", "generation"]

# Bounds for the figures, per precision. error: any output beside torch's, in units of max(1, the largest magnitude).
EXACT = {"error": 1e-4}
COSINE = {
    "fp32": EXACT | {"cosine_mean": 0.9999},
    "fp16": {"cosine_mean": 0.9999, "cosine_worst": 0.999},
    "int8": {"cosine_mean": 0.97, "cosine_worst": 0.90},
    "int8-static": {"cosine_mean": 0.995, "cosine_worst": 0.97},
    "int8-weights": {"cosine_mean": 0.999, "cosine_worst": 0.995},
    "int4-weights": {"cosine_mean": 0.97, "cosine_worst": 0.90},
}
SCORES = {
    "fp32": EXACT | {"agreement": 1.0, "score_error": 1e-4},
    "fp16": {"agreement": 0.95, "score_error": 0.005},
    "int8": {"agreement": 0.9, "score_error": 0.05},
    "int8-static": {"agreement": 0.9, "score_error": 0.05},
    "int8-weights": {"agreement": 0.95, "score_error": 0.02},
    "int4-weights": {"agreement": 0.85, "score_error": 0.08},
}
CHOICES = {
    "fp32": EXACT | {"agreement": 0.999},
    "fp16": {"agreement": 0.98},
    "int8": {"agreement": 0.85},
    "int8-static": {"agreement": 0.85},
    "int8-weights": {"agreement": 0.95},
    "int4-weights": {"agreement": 0.8},
}
# without `error`: a model that sorts its own proposals puts those of nearly one score in the order of noise
BOXES = {
    "fp32": {"agreement": 0.999, "score_error": 1e-4, "box_error": 1e-4},
    "fp16": {"agreement": 0.95, "score_error": 0.02, "box_error": 0.01},
    "int8": {"agreement": 0.8, "score_error": 0.1, "box_error": 0.03},
    "int8-static": {"agreement": 0.8, "score_error": 0.1, "box_error": 0.03},
    "int8-weights": {"agreement": 0.9, "score_error": 0.05, "box_error": 0.02},
    "int4-weights": {"agreement": 0.7, "score_error": 0.15, "box_error": 0.05},
}
# Of texts: how far the distributions of the next token are from torch's (mean Kullback-Leibler divergence in nats), how
# often both have the same likeliest token, and how much of a text is the same up to where the two part.
TOKENS = {
    # a few hundred places: one of them may lie within rounding of a tie
    "fp32": EXACT | {"divergence": 1e-6, "agreement": 0.99, "same_text": 0.95},
    "int8": {"divergence": 0.02, "agreement": 0.9},
    "int4": {"divergence": 0.25, "agreement": 0.7},
}
MASKS = CHOICES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Head:
    """What some of a task's architectures are loaded and traced as, instead of what its row says."""

    auto_class: str
    exporter_task: str
    outputs: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How models of one task are exported.

    The task is guessed for classes that end with one of `architectures`, where `applies` (None: always) holds for
    config.json; the first row that fits wins. `more_tasks` tells from a model's files what else it serves. `outputs`
    are those of all its models, `optional_outputs` those that only some have. The model is verified as `verified_as`
    (its own task when None) on `samples` with `parameters`. The bundle's golden request is `golden` (the first sample
    when None) with `golden_parameters` (those of the verification when None), which may be made of the precision's own
    pipeline and the inputs; `golden_tolerance` says, per precision, how far any number of a golden answer may be from
    the recorded one on another machine.
    `float_narrowing` keeps the products in float that matter most (see quantize), slower and larger, for tasks that
    decide token by token: one wrong token spoils an entity or an answer. `heads` are by the end of an architecture's
    name.
    """

    task: str
    other_tasks: tuple[str, ...] = ()
    more_tasks: Callable[[SourceModel], tuple[str, ...]] | None = None
    architectures: tuple[str, ...] = ()
    applies: Callable[[Mapping[str, Any]], bool] | None = None
    sections: tuple[Section, ...] = ("text",)
    auto_class: str
    tokenizer_class: str = "AutoTokenizer"
    exporter_task: str
    outputs: tuple[str, ...] = ("logits",)
    optional_outputs: tuple[str, ...] = ()
    judge: Judge
    exporter: Backend = "optimum"
    verified_as: str | None = None
    samples: tuple[object, ...] = TEXTS
    parameters: Mapping[str, object] = dataclasses.field(default_factory=dict)
    golden: object = None
    golden_parameters: Mapping[str, object] | Callable[[AnyPipeline, object], Mapping[str, object]] | None = None
    float_narrowing: bool = False
    heads: Mapping[str, Head] = dataclasses.field(default_factory=dict)
    tolerance: Mapping[str, Mapping[str, float]]
    golden_tolerance: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"fp32": 1e-4, "int8": 0.2})

    def golden_bound(self, precision: str) -> float:
        """How far a golden answer may be off in a precision: as in int8 where the row does not say."""
        return self.golden_tolerance.get(precision, self.golden_tolerance["int8"])

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every task a model serves, its own first."""
        return (self.task, *self.other_tasks)

    def fit(self, source: SourceModel) -> "Recipe":
        """The row for one model."""
        fitted = self
        for name, head in self.heads.items():
            if source.architecture.endswith(name):
                fitted = dataclasses.replace(fitted, **vars(head))
                break
        if self.more_tasks is None:
            return fitted
        others = dict.fromkeys((*self.other_tasks, *self.more_tasks(source)))
        others.pop(self.task, None)
        fitted = dataclasses.replace(fitted, other_tasks=tuple(others), more_tasks=None)
        if "translation" in fitted.tasks:
            fitted = dataclasses.replace(fitted, sections=(*fitted.sections, "translation"))
        return fitted
