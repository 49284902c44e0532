"""question-answering: the words of a context that answer a question.

Models: extractive ones, with a start and an end logit for each token. A context that is longer than the model can take
is read in windows. Reference: transformers 4.57.6 QuestionAnsweringPipeline.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np

from onnxpipe.arrays import Floats, softmax
from onnxpipe.errors import UnsupportedModel
from onnxpipe.pipeline import Model, Pipeline, Work
from onnxpipe.records import FieldError, Record, parameter
from onnxpipe.session import Arrays
from onnxpipe.text.spans import best_spans, whole_words
from onnxpipe.text.tokenizer import Encoding, check_inputs

_LOGITS = ("start_logits", "end_logits")
_MAX_SEQ_LEN = 384  # the reference's, as its _MAX_STRIDE: what most models were trained with
_MAX_STRIDE = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs(Record):
    """A question and the text that holds its answer."""

    question: str = parameter(description="The question; not empty.")
    context: str = parameter(description="The text the answer is taken from; not empty.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("question", "context"):
            if not getattr(self, name):
                raise FieldError(name, "expected a text, given an empty string")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters(Record):
    """How many answers come back, which are allowed, and how a long context is cut into windows."""

    top_k: int = parameter(1, ge=1, description="How many answers come back at most.")
    doc_stride: int | None = parameter(
        None, ge=0, description="Tokens that neighbouring windows share; min(max_seq_len / 2, 128) when absent."
    )
    max_answer_len: int = parameter(15, ge=1, description="Tokens of an answer at most.")
    max_seq_len: int | None = parameter(
        None,
        ge=1,
        description="Tokens of a window with the question; 384 when absent, never more than the model's limit.",
    )
    max_question_len: int | None = parameter(
        None, ge=1, description="Tokens of the question that are read; all when absent."
    )
    handle_impossible_answer: bool = parameter(
        False, description="Whether an empty answer, that there is none, may come back."
    )
    align_to_words: bool = parameter(
        True, description="Widen answers to whole words; false suits languages without spaces between words."
    )


@dataclasses.dataclass(frozen=True)
class Answer:
    """A passage of the context, `context[start:end]`, and its score in [0, 1]; empty when there is no answer."""

    answer: str
    score: float
    start: int
    end: int


class QuestionAnswering(Pipeline[Inputs, Parameters, Answer | list[Answer]]):
    """The answer when there is one, else a list of them by falling score.

    Answers with the same text in any case are one answer, at the place found first, with the sum of their scores.

    >>> answer = onnxpipe.load("minilm-xquad")
    >>> answer({"question": "Who wrote the letter?", "context": "Anna wrote the letter on Friday."})
    Answer(answer='Anna', score=0.9454..., start=0, end=4)
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        manifest = model.bundle.manifest
        self._graph = model.graph()
        if not {tensor.name for tensor in self._graph.outputs}.issuperset(_LOGITS):
            raise UnsupportedModel(f"{manifest.id} finds no answers in texts; it serves: {', '.join(manifest.tasks)}")
        check_inputs(self._graph, manifest.id)
        self._cls_id = model.tokenizer.id(model.tokenizer.special("cls_token") or "")

    def preprocess(self, inputs: Inputs, parameters: Parameters) -> Work[Answer | list[Answer]]:
        """One row per window of the context, each with the question. Raises InvalidInput when they cannot move on."""
        question, cut = self._shorten(inputs.question, parameters.max_question_len)
        size, stride = self._window_size(parameters)
        windows = self.model.tokenizer.windows(question, inputs.context, stride=stride, max_tokens=size)
        finish = functools.partial(self.postprocess, context=inputs.context, windows=windows, parameters=parameters)
        return Work([window.row(self._graph) for window in windows], finish, cut)

    def postprocess(
        self, outputs: list[Arrays], context: str, windows: Sequence[Encoding], parameters: Parameters
    ) -> Answer | list[Answer]:
        """Start and end logits (T,) of each window to the answers of all windows together."""
        answers: dict[str, Answer] = {}
        no_answer = 1.0
        for window, output in zip(windows, outputs, strict=True):
            starts, ends = self._probabilities(window, output)
            no_answer = min(no_answer, float(starts[0] * ends[0]))
            starts[0] = ends[0] = 0  # the first token stands for no answer
            for answer in _answers(context, window, starts, ends, parameters):
                text = answer.answer.lower()
                same = answers.get(text)
                answers[text] = dataclasses.replace(same, score=same.score + answer.score) if same else answer
        found = [*answers.values()]
        if parameters.handle_impossible_answer:
            found.append(Answer("", no_answer, 0, 0))
        found.sort(key=lambda answer: answer.score, reverse=True)
        # the reference does not cap: sums of overlapping windows can exceed 1 there
        best = [dataclasses.replace(answer, score=min(answer.score, 1.0)) for answer in found[: parameters.top_k]]
        if not best:
            return Answer("", 0.0, 0, 0)
        return best[0] if len(best) == 1 else best

    def _shorten(self, question: str, max_tokens: int | None) -> tuple[str, int]:
        """The question up to the end of its last allowed token, and how many tokens that leaves out."""
        if max_tokens is None:
            return question, 0
        encoding = self.model.tokenizer.encode(question, side="right")
        ends = encoding.offsets[encoding.sequences == 0, 1]
        if len(ends) <= max_tokens:
            return question, 0
        return question[: ends[max_tokens - 1]], encoding.cut + len(ends) - max_tokens

    def _window_size(self, parameters: Parameters) -> tuple[int, int]:
        """The tokens of a window, and those it shares with the next."""
        limit = self.model.tokenizer.text.max_tokens
        size = parameters.max_seq_len or _MAX_SEQ_LEN
        if limit is not None:
            size = min(size, limit)
        stride = min(size // 2, _MAX_STRIDE) if parameters.doc_stride is None else parameters.doc_stride
        if stride >= size:
            raise FieldError("doc_stride", f"expected fewer tokens than the {size} of a window, given {stride}")
        return size, stride

    def _probabilities(self, window: Encoding, output: Arrays) -> Floats:
        """How likely each token is the first, and the last, of the answer (2, T).

        0 outside of the context. Classification tokens count, too: there lies the chance of no answer, in models that
        know of it.
        """
        logits = np.stack([output[name].astype(np.float32, copy=False) for name in _LOGITS])
        eligible = (window.sequences == 1) | (window.ids == self._cls_id)
        # the reference puts -10000 here, which wins where the model's own logits lie below
        return softmax(np.where(eligible, logits, np.finfo(np.float32).min))


def _answers(context: str, window: Encoding, starts: Floats, ends: Floats, parameters: Parameters) -> Iterator[Answer]:
    """The likeliest passages of one window by falling score."""
    inside = window.sequences == 1
    offsets, words = window.offsets[inside], window.words[inside]
    # as the reference: spans that are widened to the same words become one answer, so more of them are looked at
    k = 2 * parameters.top_k + 10 if parameters.align_to_words else parameters.top_k
    spans = best_spans(starts[inside], ends[inside], max_tokens=parameters.max_answer_len, k=k)
    if parameters.align_to_words:
        spans = whole_words(words, spans)
    places = zip(offsets[spans.first, 0].tolist(), offsets[spans.last, 1].tolist(), spans.scores.tolist(), strict=True)
    for start, end, score in places:
        yield Answer(context[start:end], score, start, end)
