"""How good a precision is by labelled rows.

A file of labelled rows has one JSON object in each line: {"inputs": ..., "label": ...}. What the label is depends on
the task; `parameters` of the row go to the task. Paths in `inputs` begin at the file's folder.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnxpipe.errors import InvalidInput
from onnxpipe.load import make_pipeline
from onnxpipe.pipeline import Model
from onnxpipe.records import plain, show
from onnxpipe_bench.desk import scores
from onnxpipe_bench.desk.agreement import Answer, Example, spans, texts_of
from onnxpipe_bench.desk.scores import Score


@dataclasses.dataclass(frozen=True)
class Judge:
    """How a task's answers are held against labels: the label's form in words, and the row of figures of one answer."""

    metric: str
    label: str
    row: Callable[[Answer, Any], Sequence[float]]
    total: Callable[[Any], float] = scores.mean
    lower: bool = False


def score_labelled(model: Model, task: str, examples: Sequence[Example]) -> Score:
    """What the labels say of a model. Raises InvalidInput for a task without such a measure, or a label of no use."""
    if task in ("feature-extraction", "sentence-similarity"):
        return _score_pairs(model, examples)
    if task == "text-generation":
        return _score_perplexity(model, examples)
    judge = _JUDGES[task]
    rows = []
    pipeline = make_pipeline(model, task)
    for number, example in enumerate(examples):
        answer = plain(pipeline(example.inputs, **_asked(task, example)))
        try:
            rows.append(judge.row(answer, example.label))
        except (TypeError, KeyError, ValueError, AttributeError, IndexError):
            given = show(example.label)
            raise InvalidInput(f"--data, row {number + 1}: expected {judge.label} as label, given {given}") from None
    return Score(judge.metric, np.asarray(rows, np.float64), judge.total, judge.lower)


def check_task(task: str) -> None:
    """Raise InvalidInput unless labels of this task can be scored."""
    known = ["feature-extraction", "sentence-similarity", "text-generation", *_JUDGES]
    if task not in known:
        raise InvalidInput(
            f"--data: labels of {task} are not scored here; they are of {', '.join(sorted(known))}. Without --data the "
            "precisions are held against fp32"
        )


def read_examples(file: Path, task: str, *, media: bool = False, most: int | None = None) -> list[Example]:
    """The labelled rows of a file, at most so many, evenly taken. Raises InvalidInput for one that is none."""
    check_task(task)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"--data: {file} cannot be read ({error})") from None
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if most is not None and len(numbered) > most:
        numbered = [numbered[place * len(numbered) // most] for place in range(most)]
    examples = [_read_row(line, f"{file}, line {number}", task) for number, line in numbered]
    if len(examples) < 2:
        raise InvalidInput(f"--data: {file} has {len(examples)} rows; at least 2 are needed, some hundreds are better")
    if media:
        examples = [dataclasses.replace(one, inputs=_place(one.inputs, file.parent)) for one in examples]
    return examples


def _read_row(line: str, where: str, task: str) -> Example:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{where}: not JSON ({error})") from None
    if not isinstance(row, dict) or "inputs" not in row:
        raise InvalidInput(f'{where}: expected an object such as {{"inputs": ..., "label": ...}}, given {show(row)}')
    label = next((row[name] for name in ("label", "score", "labels", "answers", "answer", "text") if name in row), None)
    if label is None and task != "text-generation":
        expected = _JUDGES[task].label if task in _JUDGES else "a number"
        raise InvalidInput(f"{where}: no `label`; expected {expected}")
    parameters = row.get("parameters", {})
    if not isinstance(parameters, dict):
        raise InvalidInput(f"{where}: `parameters`: expected an object, given {show(parameters)}")
    return Example(row["inputs"], label, parameters)


def _right_label(answer: Any, label: Any) -> list[float]:
    if not isinstance(label, str):
        raise TypeError
    return [float(answer[0]["label"] == label)]


def _best_f1(answer: Any, label: Any) -> list[float]:
    texts = [label] if isinstance(label, str) else list(label)
    return [max(scores.word_f1(answer["answer"], text) for text in texts)]


def _right_entities(answer: Any, label: Any) -> list[float]:
    """Twice the entities found, and those told and expected together: their quotient is F1."""
    told = spans(answer, "entity_group")
    expected = [(item["start"], item["end"], item.get("entity_group", item.get("label"))) for item in label]
    hits = len(set(told) & set(expected))
    return [2 * hits, len(told) + len(expected)]


def _text_f1(answer: Any, label: Any) -> list[float]:
    if not isinstance(label, str):
        raise TypeError
    return [scores.word_f1(texts_of(answer), label)]


_TEXT = "the text that is right"
_JUDGES = {
    "text-classification": Judge("accuracy", "the label that is right", _right_label),
    "image-classification": Judge("accuracy", "the label that is right", _right_label),
    "audio-classification": Judge("accuracy", "the label that is right", _right_label),
    "zero-shot-classification": Judge(
        "accuracy",
        "the label that is right (and `parameters` with `candidate_labels`)",
        lambda answer, label: [float(answer["labels"][0] == label)],
    ),
    "fill-mask": Judge(
        "accuracy", "the token that is right", lambda answer, label: [float(answer[0]["token_str"].strip() == label)]
    ),
    "question-answering": Judge("F1", "the answer that is right, or a list of them", _best_f1),
    "token-classification": Judge(
        "entity F1",
        'a list of {"start": ..., "end": ..., "label": ...}, places in characters',
        _right_entities,
        scores.quotient,
    ),
    "automatic-speech-recognition": Judge(
        "word error rate",
        "the text that is said",
        lambda answer, label: scores.word_errors(answer["text"], label),
        scores.quotient,
        lower=True,
    ),
    "summarization": Judge("word F1", _TEXT, _text_f1),
    "translation": Judge("word F1", _TEXT, _text_f1),
    "text2text-generation": Judge("word F1", _TEXT, _text_f1),
    "object-detection": Judge(
        "object F1",
        'a list of {"label": ..., "box": {"xmin": ..., "ymin": ..., "xmax": ..., "ymax": ...}}',
        lambda answer, label: [scores.box_f1(answer, label)],
    ),
}


def _asked(task: str, example: Example) -> dict[str, Any]:
    return ({"top_k": 1} if task == "fill-mask" else {}) | dict(example.parameters)


def _score_pairs(model: Model, examples: Sequence[Example]) -> Score:
    """Spearman's correlation of similarities with people's judgement of them."""
    pairs, judged = [], []
    for number, example in enumerate(examples):
        pair = _pair(example.inputs)
        if pair is None or isinstance(example.label, bool) or not isinstance(example.label, int | float):
            raise InvalidInput(
                f"--data, row {number + 1}: expected two sentences as inputs and a number as label, given "
                f"{show(example.inputs)} and {show(example.label)}"
            )
        pairs.append(pair)
        judged.append(float(example.label))
    alike = _similarities(model, pairs)
    return Score("Spearman", np.stack([np.asarray(alike), np.asarray(judged)], axis=1), scores.rank_correlation)


def _similarities(model: Model, pairs: Sequence[Sequence[str]]) -> list[float]:
    """As the bundle tells them itself, or else the cosines of its vectors, over tokens where it gives those."""
    if "sentence-similarity" in model.bundle.manifest.tasks:
        asked = [{"source_sentence": one, "sentences": [other]} for one, other in pairs]
        return [cosine for (cosine,) in make_pipeline(model, "sentence-similarity")(asked)]
    vectors = make_pipeline(model, "feature-extraction")([text for pair in pairs for text in pair])
    pooled = [np.asarray(vector).reshape(-1, np.shape(vector)[-1]).mean(axis=0) for vector in vectors]
    return [scores.cosine(*pooled[place : place + 2]) for place in range(0, len(pooled), 2)]


def _pair(inputs: Any) -> list[str] | None:
    """The two texts in a list of two, or in the inputs of sentence-similarity with one sentence."""
    if isinstance(inputs, Mapping):
        sentences = inputs.get("sentences")
        inputs = [inputs.get("source_sentence"), *(sentences if isinstance(sentences, list) else [])]
    if isinstance(inputs, list) and len(inputs) == 2 and all(isinstance(text, str) for text in inputs):
        return inputs
    return None


def _score_perplexity(model: Model, examples: Sequence[Example]) -> Score:
    """What the model makes of given texts: the less they surprise it, the better."""
    pipeline = make_pipeline(model, "text-generation")
    rows = []
    for number, example in enumerate(examples):
        asked = {"max_new_tokens": 1, "details": True, "decoder_input_details": True}
        answer: Any = plain(pipeline(example.inputs, **asked))
        told = [token["logprob"] for token in answer[0]["details"]["prefill"] if token["logprob"] is not None]
        if not told:
            raise InvalidInput(f"--data, row {number + 1}: the text has fewer than two tokens")
        rows.append([-sum(told), len(told)])
    return Score("perplexity", np.asarray(rows, np.float64), scores.perplexity, lower=True)


def _place(inputs: Any, folder: Path) -> Any:  # of the task's own type
    """A path as seen from the file's folder."""
    if isinstance(inputs, str) and inputs[:5].lower() != "data:":
        return str(folder / inputs)
    return inputs
