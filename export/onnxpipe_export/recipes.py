"""What each task needs to be exported: one row per task.

A row says which transformers class to load, what to ask the exporter for, which outputs the runtime reads, the inputs
an export is verified on, and how far each precision may be from torch. All else is read from the model's own files.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

from onnxpipe.errors import UnsupportedModel
from onnxpipe_export.samples import CONTEXTS, MASKED, PAIRS, TABLES, TEXTS
from onnxpipe_export.source import SourceModel

# the manifest's sections beside `text`
Section = Literal["embedding", "classification", "table"]
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
    config.json; the first row that fits wins. `outputs` are those of all its models, `optional_outputs` those that only
    some have. The model is verified as `verified_as` (its own task when None) on `samples` with `parameters`. The
    bundle's golden request is `golden` (the first sample when None) with `golden_parameters` (those of the verification
    when None); `golden_tolerance` says, per precision, how far any number of a golden answer may be from the recorded
    one on another machine. `float_narrowing` keeps the products in float that matter most (see quantize), slower and
    larger, for tasks that decide token by token: one wrong token spoils an entity or an answer.
    """

    task: str
    other_tasks: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    applies: Callable[[Mapping[str, Any]], bool] | None = None
    sections: tuple[Section, ...] = ()
    auto_class: str
    tokenizer_class: str = "AutoTokenizer"
    exporter_task: str
    outputs: tuple[str, ...] = ("logits",)
    optional_outputs: tuple[str, ...] = ()
    judge: Judge
    verified_as: str | None = None
    samples: tuple[object, ...] = TEXTS
    parameters: Mapping[str, object] = dataclasses.field(default_factory=dict)
    golden: object = None
    golden_parameters: Mapping[str, object] | None = None
    float_narrowing: bool = False
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
    golden_parameters={"normalize": True},  # of length 1: magnitudes of hidden states differ from model to model
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
    samples=(*TEXTS, *PAIRS),
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
            golden_parameters=None,
        ),
        _EMBEDDING,
        # a classifier too, which the labels of its config tell apart: before all others
        dataclasses.replace(
            _CLASSIFIER,
            task="zero-shot-classification",
            other_tasks=("text-classification",),
            applies=has_entailment,
            golden="Her new book compares the railways of India, Japan and Switzerland.",
            golden_parameters={"candidate_labels": ("travel",)},  # one label: an order of several may change in int8
        ),
        _CLASSIFIER,
        Recipe(
            task="fill-mask",
            architectures=("ForMaskedLM",),
            auto_class="AutoModelForMaskedLM",
            exporter_task="fill-mask",
            judge="choices",
            samples=MASKED,
            golden="That is a happy {mask}.",
            golden_parameters={"targets": ("person",)},  # one word: the likeliest of all may be others in int8
            tolerance=_CHOICES,
        ),
        Recipe(
            task="token-classification",
            architectures=("ForTokenClassification",),
            sections=("classification",),
            auto_class="AutoModelForTokenClassification",
            exporter_task="token-classification",
            judge="choices",
            golden="My name is Sarah Jessica Parker and I live in New York.",
            float_narrowing=True,
            tolerance=_CHOICES,
        ),
        # its architecture ends as those of the next row do: before it
        Recipe(
            task="table-question-answering",
            architectures=("TapasForQuestionAnswering",),
            sections=("table",),
            auto_class="AutoModelForTableQuestionAnswering",
            # the words of a table are BERT's; the model's own class is slow, and the runtime does what else it does
            tokenizer_class="BertTokenizerFast",
            exporter_task="token-classification",
            optional_outputs=("logits_aggregation",),
            judge="choices",
            samples=TABLES,
            float_narrowing=True,
            tolerance=_CHOICES,
        ),
        Recipe(
            task="question-answering",
            architectures=("ForQuestionAnswering",),
            auto_class="AutoModelForQuestionAnswering",
            exporter_task="question-answering",
            outputs=("start_logits", "end_logits"),
            judge="choices",
            samples=CONTEXTS,
            parameters={"doc_stride": 16},  # the default leaves short models no room beside a question
            golden={"question": "Who wrote the letter?", "context": "Anna wrote the letter on Friday."},
            golden_parameters={},
            float_narrowing=True,
            tolerance=_CHOICES,
        ),
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
