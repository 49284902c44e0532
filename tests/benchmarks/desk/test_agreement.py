import numpy as np
import pytest

from onnxpipe.load import load
from onnxpipe_bench.desk.agreement import agreement_inputs, answers, score_agreement


@pytest.mark.parametrize(
    ("reference", "given", "metric", "value"),
    [
        (np.array([1.0, 0.0]), np.array([3.0, 4.0]), "cosine to fp32", 0.6),
        ([1.0, 0.5], [0.9, 0.5], "closeness to fp32", 0.9),
        ([{"label": "a", "score": 0.9}], [{"label": "a", "score": 0.5}], "same first labels as fp32", 1),
        ([{"entity_group": "PER", "start": 0, "end": 3}], [], "entity F1 to fp32", 0),
        (
            {"labels": ["a", "b"], "scores": [1, 0]},
            {"labels": ["b", "a"], "scores": [1, 0]},
            "same first labels as fp32",
            0,
        ),
        ({"answer": "in Paris", "score": 1}, {"answer": "Paris", "score": 1}, "word F1 to fp32", 2 / 3),
        ({"text": "one two"}, {"text": "one too"}, "same words as fp32", 0.5),
        ([{"generated_text": "a b c d"}], [{"generated_text": "a b x d"}], "same beginning as fp32", 0.5),
        ([{"summary_text": "a b"}], [{"summary_text": "a b"}], "same beginning as fp32", 1),
        (
            [{"label": "sky", "mask": "x", "score": None}],
            [{"label": "sea", "mask": "x", "score": None}],
            "same labels as fp32",
            0,
        ),
        ([{"token_str": "a"}], [{"token_str": "b"}], "same first tokens as fp32", 0),
        (None, None, "same answers as fp32", 1),
    ],
)
def test_answers_are_compared_by_what_they_are(reference, given, metric, value):
    score = score_agreement([reference, reference], [reference, given])
    assert score.metric == metric
    assert score.rows[1, 0] == pytest.approx(value)
    assert score.rows[0, 0] == pytest.approx(1)


def test_an_answer_that_says_nothing_does_not_choose_the_comparison():
    entity = [{"entity_group": "PER", "start": 0, "end": 3, "score": 0.5}]
    other = [{"entity_group": "PER", "start": 0, "end": 3, "score": 0.7}]
    assert score_agreement([[], entity], [[], other]).value == 1


def test_inputs_are_the_golden_requests_and_texts_of_several_lengths(folder):
    pipeline = load(folder, task="feature-extraction", precision="fp32")
    examples = agreement_inputs(pipeline, "feature-extraction")
    assert len({str(example.inputs) for example in examples}) >= 24
    given = answers(pipeline, examples)
    assert all(isinstance(answer, np.ndarray) for answer in given)
    assert score_agreement(given, given).value == pytest.approx(1)
