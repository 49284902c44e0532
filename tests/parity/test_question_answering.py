"""question-answering beside transformers 4.57.6 on the same weights.

Which of two spans is the likelier can hang on a logit's last digit, and with it which candidates are added up. So all
answers are compared on torch's own logits, and the bundle's where nothing is added up.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import onnxpipe
from onnxpipe.errors import InvalidInput
from onnxpipe.pipeline import AnyPipeline
from onnxpipe.tasks.question_answering import Answer

pytest.importorskip("optimum", reason="parity needs the export extra")
from transformers import pipeline as reference_pipeline

from torch_engine import with_torch
from zoo import families

# transformers 4.57.6 makes arrays of torch's tensors the way numpy 1 wanted it
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HEAD = "ForQuestionAnswering"
QUESTIONS = ("Who?", "What is it about?", "何时?", "Почему?", "Ne zaman?")
PARAMETERS = (
    {},
    {"top_k": 3},
    {"top_k": 3, "align_to_words": False, "handle_impossible_answer": True, "doc_stride": 8},
    {"align_to_words": False, "max_answer_len": 100},
    {"handle_impossible_answer": True, "max_seq_len": 40, "doc_stride": 0, "max_answer_len": 3},
)
Reference = Callable[..., object]
Pair = dict[str, str]


@pytest.fixture(scope="module")
def pairs(texts: list[str], test_data: Path) -> list[Pair]:
    """Questions about naughty strings, blanks, lines in many scripts, and passages that span several windows."""
    contexts = [text for text in texts if 0 < len(text) < 1000]
    contexts = contexts[:-90:4] + contexts[-90:]
    for language in ("en", "zh", "ru", "tr"):
        articles = json.loads((test_data / f"text/qa/xquad.{language}.json").read_text(encoding="utf-8"))["data"]
        contexts += [article["paragraphs"][0]["context"] for article in articles[::16]]
    return with_questions(contexts)


@pytest.fixture(scope="module")
def load(
    tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path]
) -> Callable[[str], tuple[AnyPipeline, Reference]]:
    """Our pipeline and the reference's over the same weights."""

    def build(family: str) -> tuple[AnyPipeline, Reference]:
        reference = reference_pipeline("question-answering", str(tiny_model(family, HEAD)), device="cpu")
        return onnxpipe.load(tiny_bundle(family, HEAD)), reference

    return build


def with_questions(contexts: list[str]) -> list[Pair]:
    return [
        {"question": QUESTIONS[index % len(QUESTIONS)], "context": context} for index, context in enumerate(contexts)
    ]


def ask(reference: Reference, pairs: list[Pair], **parameters: object) -> list[list[dict]]:
    """The reference's answers as lists, by our rules: none of score 0 beside others, and no score above 1."""
    columns = {name: [pair[name] for pair in pairs] for name in ("question", "context")}
    results = reference(**columns, **parameters)
    return [
        [item | {"score": min(item["score"], 1.0)} for item in listed(result) if item["score"]]
        or [{"answer": "", "score": 0.0, "start": 0, "end": 0}]
        for result in results
    ]


def listed(result: object) -> list:
    return result if isinstance(result, list) else [result]


def places(answers: list[Answer | dict]) -> list[tuple[str, int, int]]:
    plain = [one if isinstance(one, dict) else dataclasses.asdict(one) for one in answers]
    return [(one["answer"], one["start"], one["end"]) for one in plain]


def same_answers(pairs: list[Pair], given: list[Answer | list[Answer]], expected: list[list[dict]]) -> None:
    """Same answers at the same places in the same order with the same scores."""
    for pair, ours, theirs in zip(pairs, map(listed, given), expected, strict=True):
        assert places(ours) == places(theirs), pair
        assert [one.score for one in ours] == pytest.approx([one["score"] for one in theirs], rel=1e-5), pair
        assert all(pair["context"][one.start : one.end] == one.answer for one in ours)


@pytest.mark.parametrize("family", families(HEAD))
@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
def test_answers_offsets_order_and_scores_equal_the_reference(
    family: str, parameters: dict[str, object], load: Callable[[str], tuple[AnyPipeline, Reference]], pairs: list[Pair]
) -> None:
    assert len(pairs) >= 200
    ours, reference = load(family)
    same_answers(pairs, with_torch(ours, reference.model)(pairs, **parameters), ask(reference, pairs, **parameters))


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_hundreds_of_windows_equal_the_reference(
    family: str, load: Callable[[str], tuple[AnyPipeline, Reference]], texts: list[str]
) -> None:
    ours, reference = load(family)
    pairs = with_questions([text for text in texts if len(text) >= 1000])
    same_answers(pairs, with_torch(ours, reference.model)(pairs, top_k=2), ask(reference, pairs, top_k=2))


@pytest.mark.parametrize("family", families(HEAD))
def test_answers_of_the_bundle_equal_the_reference(
    family: str, load: Callable[[str], tuple[AnyPipeline, Reference]], pairs: list[Pair]
) -> None:
    ours, reference = load(family)
    given = ours(pairs, align_to_words=False)
    for pair, one, (theirs,) in zip(pairs, given, ask(reference, pairs, align_to_words=False), strict=True):
        assert one.score == pytest.approx(theirs["score"], abs=1e-4), pair
        # unless two spans are equal but for the engines' rounding
        assert places([one]) == places([theirs]) or one.score == pytest.approx(theirs["score"], rel=1e-3), pair


# where the reference fails or is wrong, and what we do instead


@pytest.fixture(scope="module")
def both(load: Callable[[str], tuple[AnyPipeline, Reference]]) -> tuple[AnyPipeline, Reference]:
    return load("bert")


def test_a_matrix_of_just_as_many_spans_as_candidates_crashes_the_reference(
    both: tuple[AnyPipeline, Reference],
) -> None:
    ours, reference = both
    pair = {"question": "a", "context": "b c"}  # six tokens, 36 spans; 2 x 13 + 10 candidates
    with pytest.raises(ValueError, match=r"kth\(=36\) out of bounds"):
        reference(**pair, top_k=13)
    assert ours(pair, top_k=13) == ours(pair, top_k=12)


def test_the_reference_fills_up_with_impossible_spans(both: tuple[AnyPipeline, Reference]) -> None:
    ours, reference = both
    pair = {"question": "Who?", "context": "b"}
    expected = reference(**pair, top_k=3)
    assert expected[1] == {"answer": "", "score": 0.0, "start": 0, "end": 0}
    assert ours(pair, top_k=3) == Answer("b", pytest.approx(expected[0]["score"], abs=1e-4), 0, 1)


def test_the_reference_answers_with_classification_tokens_that_stand_in_the_question(
    both: tuple[AnyPipeline, Reference],
) -> None:
    ours, reference = both
    pair = {"question": "[CLS] [CLS]", "context": "b"}
    assert any(item["start"] > len("b") for item in reference(**pair, top_k=5))
    assert places(listed(ours(pair, top_k=5))) == [("b", 0, 1)]


def test_windows_longer_than_the_model_takes_crash_the_reference(both: tuple[AnyPipeline, Reference]) -> None:
    ours, reference = both
    pair = {"question": "a", "context": "word " * 100}
    with pytest.raises(RuntimeError, match="size of tensor"):
        reference(**pair, max_seq_len=100, doc_stride=10)
    assert ours(pair, max_seq_len=100, doc_stride=10) == ours(pair, max_seq_len=64, doc_stride=10)


@pytest.mark.parametrize(
    ("pair", "parameters", "message"),
    [
        ({"question": "a", "context": "word " * 100}, {"doc_stride": 64}, "fewer tokens than the 64 of a window"),
        ({"question": "long text " * 10, "context": "word " * 100}, {}, r"has room for \d+ beside \d+ fixed ones"),
        ({"question": "long text " * 40, "context": "word"}, {}, "has room for 0 beside"),
        ({"question": "a", "context": ""}, {}, "`inputs.context`: expected a text, given an empty string"),
        ({"question": "", "context": "a"}, {}, "`inputs.question`: expected a text, given an empty string"),
    ],
)
def test_what_the_reference_cannot_answer_is_invalid_input(
    both: tuple[AnyPipeline, Reference], pair: Pair, parameters: dict[str, object], message: str
) -> None:
    ours, reference = both
    with pytest.raises(BaseException, match=r"stride|Truncation error|cannot be empty"):  # a panic is no Exception
        reference(**pair, **parameters)
    with pytest.raises(InvalidInput, match=message):
        ours(pair, **parameters)
