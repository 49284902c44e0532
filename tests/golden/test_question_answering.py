"""question-answering beside recorded facts of transformers' own tests."""

import json

import numpy as np
import pytest

from onnxpipe.arrays import softmax
from onnxpipe.errors import InvalidInput
from onnxpipe.records import read
from onnxpipe.tasks.question_answering import Inputs
from onnxpipe.text.spans import Spans, best_spans, whole_words


@pytest.fixture(scope="module")
def facts(test_data):
    return json.loads((test_data / "golden/qa.json").read_text(encoding="utf-8"))


def check(inputs):
    """The inputs as records, one by one: lists are the pipeline's, not the task's."""
    return [read(Inputs, item) for item in (inputs if isinstance(inputs, list) else [inputs])]


def test_inputs_are_a_question_with_a_context_or_a_list_of_those(facts):
    for case in facts["argument_handling"]:
        if isinstance(case["input"], dict) and isinstance(case["input"]["question"], list):
            # transformers also pairs lists inside one object; the contract has lists of objects alone
            with pytest.raises(InvalidInput, match="`question`: expected a string, given"):
                check(case["input"])
        else:
            assert len(check(case["input"])) == case["n"]


def test_inputs_that_the_reference_refuses_are_invalid(facts):
    assert len(facts["argument_errors"]) == 13
    for case in facts["argument_errors"]:
        with pytest.raises(InvalidInput):
            check(case["input"])


def test_a_million_times_the_logits_give_finite_scores(facts):
    assert "1e6" in facts["softmax_overflow"]["rule"]
    logits = np.array([[0.03, -0.02, 0.01], [-0.01, 0.02, 0.04]], np.float32)
    starts, ends = softmax(logits * np.float32(1e6))
    spans = best_spans(starts, ends, max_tokens=15, k=12)
    assert [column.tolist() for column in spans] == [[0], [2], [1.0]]


def test_japanese_without_spaces_is_one_word(facts):
    case = facts["japanese_align"]
    given, expected = case["no_align"], case["align_to_words"]
    assert case["context"][given["start"] : given["end"]] == given["answer"]
    spans = Spans(np.array([given["start"]]), np.array([given["end"] - 1]), np.array([given["score"]], np.float32))
    widened = whole_words(np.zeros(len(case["context"]), np.int64), spans)
    assert (*widened.first, *(widened.last + 1)) == (expected["start"], expected["end"])
