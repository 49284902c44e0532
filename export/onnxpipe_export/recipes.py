"""What each task needs to be exported: one row per task.

A row says which transformers class to load, what to ask the exporter for, which outputs the runtime reads, the inputs
an export is verified on, and how far each precision may be from torch. All else is read from the model's own files.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

from onnxpipe.errors import UnsupportedModel
from onnxpipe_export.samples import TEXTS
from onnxpipe_export.source import SourceModel

# the manifest's sections beside `text`
Section = Literal["embedding", "classification"]
# how a precision's answers are judged beside torch's, see `figures`
Judge = Literal["cosine", "scores", "choices"]

# Bounds for the figures, per precision. error: any output beside torch's, in units of max(1, the largest magnitude).
_EXACT = {"error": 1e-4}
_COSINE = {"fp32": _EXACT | {"cosine_mean": 0.9999}, "int8": {"cosine_mean": 0.97, "cosine_worst": 0.90}}
_SCORES = {"fp32": _EXACT | {"agreement": 1.0, "score_error": 1e-4}, "int8": {"agreement": 0.9, "score_error": 0.05}}
_CHOICES = {"fp32": _EXACT | {"agreement": 0.999}, "int8": {"agreement": 0.85}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How models of one task are exported.

    The task is guessed for classes that end with one of `architectures`, where `applies` (None: always) holds for
    config.json; the first row that fits wins. The model is verified as `verified_as` (its own task when None) on
    `samples` with `parameters`. The bundle's golden request is `golden`, the first sample when None; `golden_tolerance`
    says, per precision, how far any number of a golden answer may be
    from torch's on another machine.
    """

    task: str
    other_tasks: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    applies: Callable[[Mapping[str, Any]], bool] | None = None
    sections: tuple[Section, ...] = ()
    auto_class: str
    exporter_task: str
    outputs: tuple[str, ...] = ("logits",)
    judge: Judge
    verified_as: str | None = None
    samples: tuple[object, ...] = TEXTS
    parameters: Mapping[str, object] = dataclasses.field(default_factory=dict)
    golden: object = None
    tolerance: Mapping[str, Mapping[str, float]]
    golden_tolerance: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"fp32": 1e-4, "int8": 0.2})


def has_entailment(config: Mapping[str, Any]) -> bool:
    """Whether one of a classifier's labels is entailment, in any spelling that starts so."""
    return any(str(label).lower().startswith("entail") for label in (config.get("id2label") or {}).values())


_EMBEDDING = Recipe(
    task="feature-extraction",
    other_tasks=("sentence-similarity",),
    architectures=("Model",),
    sections=("embedding",),
    auto_class="AutoModel",
    exporter_task="feature-extraction",
    outputs=("last_hidden_state",),
    judge="cosine",
    verified_as="feature-extraction",
    tolerance=_COSINE,
    golden_tolerance={"fp32": 1e-4, "int8": 0.1},
)
_CLASSIFIER = Recipe(
    task="text-classification",
    architectures=("ForSequenceClassification",),
    sections=("classification",),
    auto_class="AutoModelForSequenceClassification",
    exporter_task="text-classification",
    judge="scores",
    verified_as="text-classification",
    tolerance=_SCORES,
)

RECIPES = {
    recipe.task: recipe
    for recipe in (
        # the same model under another task of its own: what `/models/{id}` answers first
        dataclasses.replace(
            _EMBEDDING,
            task="sentence-similarity",
            other_tasks=("feature-extraction",),
            architectures=(),
            golden={"source_sentence": TEXTS[0], "sentences": TEXTS[1:5]},
        ),
        _EMBEDDING,
        _CLASSIFIER,
    )
}


def choose_recipe(source: SourceModel, task: str | None) -> Recipe:
    """The row for `task`, or for the task the model's files show when None.

    A sentence-transformers model (modules.json) is a sentence-similarity model; otherwise the architecture tells.
    Raises UnsupportedModel naming the choices.
    """
    choices = ", ".join(sorted(RECIPES))
    if task is not None:
        if task not in RECIPES:
            raise UnsupportedModel(f"cannot export for task {task!r}; tasks: {choices}")
        return RECIPES[task]
    if (source.folder / "modules.json").is_file():
        return RECIPES["sentence-similarity"]
    for recipe in RECIPES.values():
        if source.architecture.endswith(recipe.architectures) and (
            recipe.applies is None or recipe.applies(source.config)
        ):
            return recipe
    known = f"its architecture is {source.architecture}" if source.architecture else "config.json names no architecture"
    raise UnsupportedModel(f"{source.name}: the task cannot be told ({known}); choose one with --task: {choices}")
