"""What ready-made graphs of each task give, and what they are measured on: one row per task, by architecture."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

from onnxpipe.errors import UnsupportedModel
from onnxpipe.hub.labels import has_entailment
from onnxpipe.hub.source import SourceModel
from onnxpipe.pipeline import AnyPipeline
from onnxpipe.verification.figures import Judge
from onnxpipe.verification.found import golden_parameters
from onnxpipe.verification.pictures import DRAWN
from onnxpipe.verification.samples import CONTEXTS, MASKED, PAIRS, TEXTS
from onnxpipe.verification.sounds import SOUNDS

Section = Literal["text", "embedding", "classification", "image", "detection", "segmentation", "audio", "ctc"]
# how near a precision should be: to the weights as they were trained, in halves of their bits, or in fewer
Closeness = Literal["exact", "half", "coarse"]

_CLOSENESS: Mapping[str, Closeness] = {
    "fp32": "exact",
    "o1": "exact",
    "o2": "exact",
    "o3": "half",  # its GELU is an approximation
    "fp16": "half",
    "o4": "half",
}
_TOLERANCES: Mapping[Judge, Mapping[Closeness, Mapping[str, float]]] = {
    "cosine": {
        "exact": {"cosine_mean": 0.9999},
        "half": {"cosine_mean": 0.999, "cosine_worst": 0.99},
        "coarse": {"cosine_mean": 0.97, "cosine_worst": 0.90},
    },
    "scores": {
        "exact": {"agreement": 1.0, "score_error": 1e-4},
        "half": {"agreement": 0.95, "score_error": 0.01},
        "coarse": {"agreement": 0.9, "score_error": 0.05},
    },
    "choices": {"exact": {"agreement": 0.999}, "half": {"agreement": 0.98}, "coarse": {"agreement": 0.85}},
    "boxes": {
        "exact": {"agreement": 0.999, "score_error": 1e-4, "box_error": 1e-4},
        "half": {"agreement": 0.9, "score_error": 0.02, "box_error": 0.01},
        "coarse": {"agreement": 0.8, "score_error": 0.1, "box_error": 0.03},
    },
    "masks": {"exact": {"agreement": 0.999}, "half": {"agreement": 0.98}, "coarse": {"agreement": 0.85}},
}
# Ends of names of models that write, word by word: their graphs want a loop around them.
_WRITERS = ("ForCausalLM", "ForConditionalGeneration", "ForSpeechSeq2Seq", "LMHeadModel", "MarianMTModel")
# classifiers of texts have the ends of these names too
SOUND_CLASSIFIERS = (
    "ASTForAudioClassification",
    "Data2VecAudioForSequenceClassification",
    "HubertForSequenceClassification",
    "SEWForSequenceClassification",
    "UniSpeechForSequenceClassification",
    "UniSpeechSatForSequenceClassification",
    "Wav2Vec2ForSequenceClassification",
    "WavLMForSequenceClassification",
    "WhisperForAudioClassification",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """Models of one task: the ends of their architectures' names, where `applies` (None: always) holds for config.json.

    `outputs` are alternatives, the first that a graph has being read. A model is measured as `verified_as` (its own
    task when None) on `samples` with `parameters`, by the figures of `judge`. The golden request is `golden` (the first
    sample when None) with `golden_parameters` (those of the measurement when None), which may be made of the pipeline
    and the inputs; its numbers may be off by `golden_tolerance` on another machine, by closeness.
    """

    task: str
    other_tasks: tuple[str, ...] = ()
    ends: tuple[str, ...]
    applies: Callable[[Mapping[str, Any]], bool] | None = None
    sections: tuple[Section, ...]
    outputs: tuple[tuple[str, ...], ...] = (("logits",),)
    judge: Judge
    verified_as: str | None = None
    samples: tuple[object, ...] = TEXTS
    parameters: Mapping[str, object] = dataclasses.field(default_factory=dict)
    golden: object = None
    golden_parameters: Mapping[str, object] | Callable[[AnyPipeline, object], Mapping[str, object]] | None = None
    golden_tolerance: Mapping[Closeness, float] = dataclasses.field(
        default_factory=lambda: {"exact": 1e-4, "half": 0.01, "coarse": 0.2}
    )

    @property
    def per_token(self) -> bool:
        """Whether the graph answers for each token of a text."""
        return "text" in self.sections and self.judge in ("cosine", "choices")

    def tolerance(self, precision: str) -> Mapping[str, float]:
        """Bounds for the figures of a precision."""
        return _TOLERANCES[self.judge][closeness(precision)]


def closeness(precision: str) -> Closeness:
    """How near a precision should be to the weights as they were trained."""
    return _CLOSENESS.get(precision, "coarse")


def choose_row(source: SourceModel, task: str | None) -> Row:
    """The row for `task`, or for the task the model's files show when None.

    Raises UnsupportedModel naming the choices, and for models that write, naming what exports them.
    """
    check_one_graph(source.name, (source.architecture,))
    choices = ", ".join(dict.fromkeys(row.task for row in ROWS))
    fitting = [row for row in ROWS if _fits(row, source)]
    if task is not None:
        rows = [row for row in fitting if row.task == task] or [row for row in ROWS if row.task == task]
        if not rows:
            raise UnsupportedModel(f"cannot pull for task {task!r}; tasks: {choices}")
        return rows[0]
    if (source.folder / "modules.json").is_file():
        return next(row for row in ROWS if row.task == "sentence-similarity")
    if not fitting:
        known = source.architecture or "none is named"
        raise UnsupportedModel(
            f"{source.name}: the task cannot be told by the architecture in config.json ({known}); choose one with "
            f"--task: {choices}"
        )
    return fitting[0]


def check_one_graph(name: str, parts: tuple[str, ...]) -> None:
    """Raise UnsupportedModel where the graphs, or the architecture, are those of a model that writes."""
    if any(part.endswith(_WRITERS) or "decoder" in part for part in parts):
        raise UnsupportedModel(
            f"{name}: models that write have graphs of their own here (keys and values stay in place), which "
            f"ready-made ones cannot stand for; from the weights, `onnxpipe export {name} OUT` makes them"
        )


def _fits(row: Row, source: SourceModel) -> bool:
    return source.architecture.endswith(row.ends or ("\0",)) and (row.applies is None or row.applies(source.config))


_EMBEDDING = Row(
    task="feature-extraction",
    other_tasks=("sentence-similarity",),
    ends=("Model",),
    sections=("text", "embedding"),
    outputs=(("last_hidden_state",), ("token_embeddings",)),
    judge="cosine",
    verified_as="feature-extraction",
    golden_parameters={"normalize": True},  # of length 1: magnitudes of hidden states differ from model to model
    golden_tolerance={"exact": 1e-4, "half": 0.005, "coarse": 0.1},
)
_CLASSIFIER = Row(
    task="text-classification",
    ends=("ForSequenceClassification",),
    sections=("text", "classification"),
    judge="scores",
    verified_as="text-classification",
    samples=(*TEXTS, *PAIRS),
)

# the first that fits wins: those on sound before the classifiers of texts whose names end alike
ROWS = (
    Row(
        task="audio-classification",
        ends=SOUND_CLASSIFIERS,
        sections=("audio", "classification"),
        judge="scores",
        samples=SOUNDS,
    ),
    Row(
        task="automatic-speech-recognition",
        ends=("ForCTC",),
        sections=("audio", "ctc"),
        judge="choices",
        samples=SOUNDS,
    ),
    dataclasses.replace(
        _EMBEDDING,
        task="sentence-similarity",
        other_tasks=("feature-extraction",),
        ends=(),
        golden={"source_sentence": TEXTS[0], "sentences": TEXTS[1:5]},
        golden_parameters=None,
    ),
    _EMBEDDING,
    dataclasses.replace(
        _CLASSIFIER,
        task="zero-shot-classification",
        other_tasks=("text-classification",),
        applies=has_entailment,
        golden="Her new book compares the railways of India, Japan and Switzerland.",
        golden_parameters={"candidate_labels": ("travel",)},  # one label: an order of several may change in int8
    ),
    _CLASSIFIER,
    Row(
        task="fill-mask",
        ends=("ForMaskedLM",),
        sections=("text",),
        judge="choices",
        samples=MASKED,
        golden="That is a happy {mask}.",
        golden_parameters={"targets": ("person",)},  # one word: the likeliest of all may be others in int8
    ),
    Row(
        task="token-classification",
        ends=("ForTokenClassification",),
        sections=("text", "classification"),
        judge="choices",
        golden="My name is Sarah Jessica Parker and I live in New York.",
    ),
    Row(
        task="question-answering",
        ends=("ForQuestionAnswering",),
        sections=("text",),
        outputs=(("start_logits", "end_logits"),),
        judge="choices",
        samples=CONTEXTS,
        parameters={"doc_stride": 16},  # the default leaves short models no room beside a question
        golden={"question": "Who wrote the letter?", "context": "Anna wrote the letter on Friday."},
        golden_parameters={},
    ),
    Row(
        task="image-classification",
        ends=("ForImageClassification", "ForImageClassificationWithTeacher"),
        sections=("image", "classification"),
        judge="scores",
        samples=DRAWN,
    ),
    Row(
        task="object-detection",
        ends=("ForObjectDetection",),
        sections=("image", "detection"),
        outputs=(("logits", "pred_boxes"),),
        judge="boxes",
        samples=DRAWN,
        golden=DRAWN[7],
        golden_parameters=golden_parameters,
        # pixels, as the integers of a box have them
        golden_tolerance={"exact": 1.0, "half": 1.0, "coarse": 3.0},
    ),
    Row(
        task="image-segmentation",
        ends=("ForSemanticSegmentation", "ForSegmentation", "ForInstanceSegmentation", "ForUniversalSegmentation"),
        sections=("image", "segmentation"),
        outputs=(("class_queries_logits", "masks_queries_logits"), ("logits", "pred_masks"), ("logits",)),
        judge="masks",
        samples=DRAWN,
        parameters={"subtask": "semantic"},  # every model can do it, and it gives each pixel a label
        # of masks: the share of their pixels
        golden_tolerance={"exact": 0.005, "half": 0.02, "coarse": 0.2},
    ),
)
