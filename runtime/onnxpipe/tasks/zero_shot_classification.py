"""zero-shot-classification: how well each of the caller's own labels fits a text.

Models: classifiers trained on natural language inference, which tell whether a text entails a hypothesis.
Reference: transformers 4.57.6 ZeroShotClassificationPipeline.
"""

import dataclasses
import functools
import string

import numpy as np

from onnxpipe.arrays import softmax
from onnxpipe.errors import InvalidInput, UnsupportedModel
from onnxpipe.pipeline import Model, Pipeline, WireForm, Work
from onnxpipe.records import FieldError, Record, parameter, show
from onnxpipe.session import Arrays
from onnxpipe.text.tokenizer import check_inputs

# a label is a row to run, and its hypothesis a text to tokenise: a short request must not ask for hours of work
MAX_LABELS = 1000
MAX_HYPOTHESIS_CHARACTERS = 100_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters(Record):
    """The labels, and how they are put to the model."""

    candidate_labels: str | tuple[str, ...] = parameter(
        description=f"The labels, at most {MAX_LABELS}: a list, or a string with commas between them.",
        aliases=("candidateLabels",),
    )
    hypothesis_template: str = parameter(
        "This example is {}.", description="The sentence that claims a label, which takes the place of `{}`."
    )
    multi_label: bool = parameter(
        False, description="Several labels may fit: each gets a probability of its own; else they share 1."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        labels = self.labels
        if not labels:
            raise FieldError("candidate_labels", f"expected at least one, given {show(self.candidate_labels)}")
        if len(labels) > MAX_LABELS:
            raise FieldError("candidate_labels", f"expected at most {MAX_LABELS}, given {len(labels)}")
        places = _count_places(self.hypothesis_template)
        if len(self.hypothesis_template) + places * max(map(len, labels)) > MAX_HYPOTHESIS_CHARACTERS:
            raise FieldError(
                "hypothesis_template", f"with a label in it: expected at most {MAX_HYPOTHESIS_CHARACTERS} characters"
            )

    @property
    def labels(self) -> tuple[str, ...]:
        """The candidate labels one by one."""
        if isinstance(self.candidate_labels, str):
            return tuple(label.strip() for label in self.candidate_labels.split(",") if label.strip())
        return self.candidate_labels


def _count_places(template: str) -> int:
    """How often a label stands in the template: `{}` once, or `{0}` any number of times.

    Nothing else of Python's format language, in which a few characters can ask for any amount of memory.
    """
    try:
        places = [part[1:] for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError:
        places = []
    if places == [("", "", None)] or set(places) == {("0", "", None)}:
        return len(places)
    raise FieldError("hypothesis_template", f"expected a text with {{}} for the label, given {show(template)}")


@dataclasses.dataclass(frozen=True)
class Ranking:
    """The text, the labels by falling score, and their scores."""

    sequence: str
    labels: list[str]
    scores: list[float]


@dataclasses.dataclass(frozen=True)
class Label:
    """A label and its score."""

    label: str
    score: float


def list_labels(ranking: Ranking) -> list[Label]:
    """The labels with their scores, one by one."""
    return [Label(label, score) for label, score in zip(ranking.labels, ranking.scores, strict=True)]


class ZeroShotClassification(Pipeline[str, Parameters, Ranking]):
    """The labels by falling score: together 1, or each in [0, 1] with `multi_label` or when there is only one.

    >>> text = "I have a problem with my iphone that needs to be resolved asap!!"
    >>> onnxpipe.load("bart-large-mnli")(text, candidate_labels=["english", "german"])
    Ranking(sequence='I have a problem ...', labels=['english', 'german'], scores=[0.81..., 0.18...])
    """

    tasks_form = WireForm(list_labels, {"hf_hub": (1, 1, 5)})

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        manifest = model.bundle.manifest
        if manifest.classification is None:
            raise UnsupportedModel(f"{manifest.id} has no labels; it serves: {', '.join(manifest.tasks)}")
        self._graph = model.graph()
        check_inputs(self._graph, manifest.id)
        names = manifest.classification.labels
        entailing = [index for index, name in enumerate(names) if name.lower().startswith("entail")]
        # both choices as in the reference
        self._entailment = entailing[0] if entailing else len(names) - 1
        self._contradiction = len(names) - 1 if self._entailment == 0 else 0
        self._warnings = () if entailing else (f"the model has no label for entailment: {names[-1]!r} is taken",)

    def preprocess(self, inputs: str, parameters: Parameters) -> Work[Ranking]:
        """One row per label: the text and the label's hypothesis; of the two only the text is cut."""
        if not inputs:
            raise InvalidInput("the text is empty; expected at least one character to classify")
        labels = parameters.labels
        hypotheses = (parameters.hypothesis_template.format(label) for label in labels)
        encodings = self.model.tokenizer.encode_pairs(inputs, hypotheses)
        finish = functools.partial(
            self.postprocess, text=inputs, labels=labels, multi_label=parameters.multi_label or len(labels) == 1
        )
        rows = [encoding.row(self._graph) for encoding in encodings]
        return Work(rows, finish, sum(encoding.cut for encoding in encodings), self._warnings)

    def postprocess(self, outputs: list[Arrays], text: str, labels: tuple[str, ...], *, multi_label: bool) -> Ranking:
        """Logits (C,) of each label's row to ranked labels, the later of two with one score first."""
        logits = np.stack([output[self._graph.outputs[0].name] for output in outputs]).astype(np.float32, copy=False)
        if multi_label:
            scores = softmax(logits[:, [self._contradiction, self._entailment]])[:, 1]
        else:
            scores = softmax(logits[:, self._entailment])
        order = np.argsort(scores, kind="stable")[::-1]
        return Ranking(text, [labels[index] for index in order], scores[order].tolist())
