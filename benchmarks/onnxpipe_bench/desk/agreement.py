"""How far a precision answers as fp32 does, for models nobody has labelled anything for."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from onnxpipe.pipeline import AnyPipeline
from onnxpipe.records import plain
from onnxpipe_bench.desk import scores
from onnxpipe_bench.desk.requests import Requests
from onnxpipe_bench.desk.scores import Score

_TEXTS = 24
_MEDIA = 6
_LENGTHS = {"tokens": (12, 32, 64), "pixels": (224,), "seconds": (3,), "requests": (1,)}

Answer = Any  # JSON data, or an array of a vector


@dataclasses.dataclass(frozen=True)
class Example:
    """An input with what is right for it; `label` is None where that is not known."""

    inputs: Any  # of the task's own type
    label: Any = None  # JSON
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def agreement_inputs(pipeline: AnyPipeline, task: str) -> list[Example]:
    """Inputs without labels: the golden requests, and texts, pictures or sound made for the purpose."""
    requests = Requests(pipeline, task)
    golden = [
        Example(golden.inputs, parameters=golden.parameters) for golden in pipeline.model.golden if golden.task == task
    ]
    lengths = [length for length in _LENGTHS[requests.unit] if length <= max(requests.lengths)]
    count = _TEXTS if requests.unit == "tokens" else _MEDIA
    if requests.unit == "requests":
        return golden
    made = [requests.make(lengths[number % len(lengths)], number) for number in range(count)]
    return golden + [Example(request.inputs, parameters=request.parameters) for request in made]


def answers(pipeline: AnyPipeline, examples: Sequence[Example]) -> list[Answer]:
    """What a pipeline says to each."""
    given = [pipeline(example.inputs, **example.parameters) for example in examples]
    return [answer if isinstance(answer, np.ndarray) else plain(answer) for answer in given]


def score_agreement(reference: Sequence[Answer], given: Sequence[Answer]) -> Score:
    """How far answers are those of the reference, from 0 to 1; the metric's name says in which way."""
    telling = (answer for answer in reference if isinstance(answer, np.ndarray) or answer)
    metric, compare = _comparison(next(telling, reference[0]))
    rows = [[compare(one, other)] for one, other in zip(given, reference, strict=True)]
    return Score(metric, np.asarray(rows, np.float64), scores.mean)


def texts_of(answer: Any) -> str:
    """The text of an answer, under whatever name."""
    items = answer if isinstance(answer, list) else [answer]
    return " ".join(item[name] for item in items for name in item if name == "text" or name.endswith("_text"))


def spans(answer: Any, label: str) -> list[tuple[int, int, str]]:
    """Where each of its entities begins and ends, and the label that it has under this name."""
    return [(item["start"], item["end"], item[label]) for item in answer]


def _comparison(answer: Answer) -> tuple[str, Callable[[Any, Any], float]]:
    """How two answers of this kind are compared."""
    if isinstance(answer, np.ndarray):
        return "cosine to fp32", scores.cosine
    first = answer[0] if isinstance(answer, list) and answer else answer
    if isinstance(first, int | float):
        return "closeness to fp32", lambda one, other: 1 - float(np.abs(np.subtract(one, other)).max())
    if isinstance(first, list):
        return "cosine to fp32", scores.cosine
    if not isinstance(first, Mapping):
        return "same answers as fp32", lambda one, other: float(one == other)
    for names, metric, compare in _COMPARISONS:
        if names <= first.keys():
            return metric, compare
    return "same answers as fp32", lambda one, other: float(one == other)


def _first(answer: Any, name: str) -> object:
    return answer[0][name] if answer else None


def _labels(answer: Any) -> list[str]:
    return [item["label"] for item in answer]


def _error_rate(given: str, expected: str) -> float:
    errors, count = scores.word_errors(given, expected)
    return errors / count if count else float(bool(given.strip()))


def _same_first(name: str) -> Callable[[Any, Any], float]:
    return lambda one, other: float(_first(one, name) == _first(other, name))


def _entities(one: Any, other: Any) -> float:
    return scores.set_f1(spans(one, "entity_group"), spans(other, "entity_group"))


def _same_beginning(one: Any, other: Any) -> float:
    return scores.common_beginning(texts_of(one), texts_of(other))


# what an answer has -> its name and the comparison; the first that fits
_COMPARISONS: list[tuple[set[str], str, Callable[[Any, Any], float]]] = [
    ({"box"}, "object F1 to fp32", scores.box_f1),
    ({"mask"}, "same labels as fp32", lambda one, other: scores.set_f1(_labels(one), _labels(other))),
    ({"entity_group"}, "entity F1 to fp32", _entities),
    ({"token_str"}, "same first tokens as fp32", _same_first("token_str")),
    ({"label", "score"}, "same first labels as fp32", _same_first("label")),
    (
        {"labels", "scores"},
        "same first labels as fp32",
        lambda one, other: float(one["labels"][0] == other["labels"][0]),
    ),
    ({"answer"}, "word F1 to fp32", lambda one, other: scores.word_f1(one["answer"], other["answer"])),
    ({"text"}, "same words as fp32", lambda one, other: max(0.0, 1 - _error_rate(texts_of(one), texts_of(other)))),
    *(
        ({f"{what}_text"}, "same beginning as fp32", _same_beginning)
        for what in ("generated", "summary", "translation")
    ),
]
