import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from onnxpipe.arrays import descending, normalize, sigmoid, softmax

logits = arrays(np.float32, st.integers(1, 6), elements=st.floats(-1e4, 1e4, width=32))


def test_softmax_of_logarithms_is_their_share():
    # exp(log n) / sum: 1, 2, 5 of 8
    assert softmax(np.log(np.array([1, 2, 5], np.float32))) == pytest.approx([0.125, 0.25, 0.625])


def test_softmax_works_along_the_last_axis():
    assert softmax(np.zeros((2, 3, 4), np.float32)) == pytest.approx(np.full((2, 3, 4), 0.25))


def test_softmax_of_huge_logits_does_not_overflow():
    assert softmax(np.array([1e38, 1e38, -1e38], np.float32)).tolist() == [0.5, 0.5, 0.0]


def test_sigmoid_of_known_odds():
    # odds of 3 to 1 and 1 to 3
    assert sigmoid(np.log(np.array([3, 1, 1 / 3], np.float32))) == pytest.approx([0.75, 0.5, 0.25])


def test_sigmoid_of_huge_logits_does_not_overflow():
    assert sigmoid(np.array([3e38, -3e38], np.float32)).tolist() == [1.0, 0.0]


@given(logits)
def test_softmax_and_sigmoid_give_float32_probabilities(values):
    for probabilities in (softmax(values), sigmoid(values)):
        assert probabilities.dtype == np.float32
        assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert softmax(values).sum() == pytest.approx(1, abs=1e-5)


@given(logits)
def test_sigmoid_of_the_opposite_is_the_rest(values):
    assert sigmoid(values) + sigmoid(-values) == pytest.approx(np.ones_like(values), abs=1e-6)


def test_descending_puts_the_largest_first():
    assert descending(np.array([0.1, 0.7, 0.2], np.float32)).tolist() == [1, 2, 0]


def test_descending_keeps_ties_in_index_order():
    assert descending(np.array([1, 2, 1, 2], np.float32)).tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize(("k", "expected"), [(1, [1]), (2, [1, 2]), (9, [1, 2, 0])])
def test_descending_gives_at_most_k(k, expected):
    assert descending(np.array([0.1, 0.7, 0.2], np.float32), k).tolist() == expected


@given(arrays(np.float32, st.integers(1, 40), elements=st.sampled_from([0.0, 0.25, 0.5])), st.integers(1, 45))
def test_descending_gives_the_first_k_of_all(scores, k):
    assert descending(scores, k).tolist() == descending(scores).tolist()[:k]


def test_descending_loses_no_nan():
    assert descending(np.array([1, np.nan, 2, np.nan], np.float32), 3).tolist() == [2, 0, 1]
    assert descending(np.full(4, np.nan, np.float32), 2).tolist() == [0, 1]


def test_normalize_scales_to_length_one():
    assert normalize(np.array([[3, 4], [5, 12]], np.float32)) == pytest.approx(
        np.array([[0.6, 0.8], [5 / 13, 12 / 13]])
    )


def test_normalize_leaves_a_zero_vector_zero():
    assert normalize(np.zeros((1, 3), np.float32)).tolist() == [[0, 0, 0]]


def test_normalize_divides_tiny_vectors_by_its_floor():
    # as torch.nn.functional.normalize with eps 1e-12
    assert normalize(np.array([3e-13, 4e-13], np.float32)) == pytest.approx([0.3, 0.4])
    assert normalize(np.array([3, 4], np.float32)).dtype == np.float32
