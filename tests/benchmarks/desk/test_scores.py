import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpipe_bench.desk import scores
from onnxpipe_bench.desk.scores import Score, mean, perplexity, quotient, rank_correlation

WORDS = st.lists(st.sampled_from("abc"), max_size=6)


def column(*values):
    return np.array(values, float)[:, None]


def test_a_score_is_given_with_its_interval_and_its_drop():
    reference = Score("accuracy", column(*[1] * 90, *[0] * 10), mean)
    worse = Score("accuracy", column(*[1] * 81, *[0] * 19), mean)
    assert worse.value == pytest.approx(0.81)
    assert worse.interval.low < 0.81 < worse.interval.high
    drop = worse.drop_from(reference)
    assert drop.value == pytest.approx(0.1)
    assert 0 < drop.low < 0.1 < drop.high
    assert reference.drop_from(reference).high == 0


def test_more_errors_are_a_drop_too():
    reference = Score("word error rate", np.array([[1, 10], [1, 10]], float), quotient, lower=True)
    worse = Score("word error rate", np.array([[2, 10], [1, 10]], float), quotient, lower=True)
    assert worse.drop_from(reference).value == pytest.approx(0.5)
    perfect = Score("word error rate", np.array([[0, 10], [0, 10]], float), quotient, lower=True)
    assert worse.drop_from(perfect).value == pytest.approx(0.15)  # of nothing there is no share


def test_totals_worked_out_by_hand():
    assert rank_correlation(np.array([[1, 10], [2, 30], [3, 20], [4, 40]], float)) == pytest.approx(0.8)
    assert rank_correlation(np.array([[1, 1], [1, 2]], float)) == 0
    assert perplexity(np.array([[2 * np.log(4), 2], [np.log(16), 2]], float)) == pytest.approx(4)
    assert quotient(np.zeros((2, 2))) == 0


@pytest.mark.parametrize(
    ("given", "expected", "f1"),
    [
        ("The Eiffel Tower", "eiffel tower!", 1.0),
        ("in Paris", "Paris", 2 / 3),
        ("Rome", "Paris", 0.0),
        ("", "", 1.0),
        ("", "Paris", 0.0),
    ],
)
def test_words_are_compared_as_in_squad(given, expected, f1):
    assert scores.word_f1(given, expected) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("given", "expected", "errors"),
    [
        ("a b c", "a b c", (0, 3)),
        ("A, b!", "a b", (0, 2)),
        ("a x c d", "a b c", (2, 3)),
        ("", "a b", (2, 2)),
        ("a", "", (1, 0)),
    ],
)
def test_word_errors_worked_out_by_hand(given, expected, errors):
    assert scores.word_errors(given, expected) == errors


@given(WORDS, WORDS)
def test_word_errors_are_a_distance(one, other):
    errors, _ = scores.word_errors(" ".join(one), " ".join(other))
    assert errors == scores.word_errors(" ".join(other), " ".join(one))[0]
    assert abs(len(one) - len(other)) <= errors <= max(len(one), len(other))
    assert (errors == 0) == (one == other)


def test_the_common_beginning_ends_at_the_first_difference():
    assert scores.common_beginning("a b c d", "a b x d") == 0.5
    assert scores.common_beginning("a b", "a b c d") == 0.5
    assert scores.common_beginning("a", "a") == scores.common_beginning("", "") == 1


def test_objects_are_the_same_when_label_and_place_are():
    def at(label, left):
        return {"label": label, "box": {"xmin": left, "ymin": 0, "xmax": left + 10, "ymax": 10}}

    assert scores.box_f1([at("cat", 0)], [at("cat", 3)]) == 1  # 7 of 13 are shared
    assert scores.box_f1([at("cat", 0)], [at("cat", 4)]) == 0  # 6 of 14
    assert scores.box_f1([at("cat", 0)], [at("dog", 0)]) == 0
    assert scores.box_f1([at("cat", 0), at("cat", 0)], [at("cat", 0)]) == pytest.approx(2 / 3)
    assert scores.box_f1([], []) == 1


def test_cosines_of_vectors_and_of_matrices():
    assert scores.cosine([1, 0], [3, 4]) == pytest.approx(0.6)
    assert scores.cosine([[1, 0], [0, 2]], [[1, 0], [1, 0]]) == pytest.approx(0.5)
    assert scores.cosine([0, 0], [1, 0]) == 0
