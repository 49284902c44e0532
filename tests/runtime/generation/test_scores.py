import hypothesis
import numpy as np
from hypothesis import strategies as st

from onnxpipe.generation.scores import kth_largest, largest, log_softmax


@hypothesis.given(
    seed=st.integers(0, 1000),
    size=st.integers(1, 3000),
    k=st.integers(1, 200),
    distinct=st.sampled_from([2, 50, 10**6]),
)
def test_the_largest_are_those_a_sort_finds_with_all_that_equal_the_last(
    seed: int, size: int, k: int, distinct: int
) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(distinct, size=size).astype(np.float32)
    scores[generator.random(size) < generator.random()] = -np.inf
    ranked = np.sort(scores)[::-1]
    limit = ranked[min(k, size) - 1]
    expected = np.flatnonzero((scores >= limit) & (scores > -np.inf))
    np.testing.assert_array_equal(largest(scores, k), expected)


def test_nothing_is_among_the_largest_where_nothing_is_possible() -> None:
    assert largest(np.full(500, -np.inf, np.float32), 3).tolist() == []
    assert largest(np.full(500, np.nan, np.float32), 3).tolist() == []


def test_the_kth_largest_is_minus_infinity_where_there_are_fewer() -> None:
    scores = np.array([[1, 3, 2], [-np.inf, 5, -np.inf]], np.float32)
    assert kth_largest(scores, 2).tolist() == [[2.0], [-np.inf]]


def test_log_probabilities_of_large_scores_do_not_overflow() -> None:
    logprobs = log_softmax(np.array([[1000.0, 1000.0, -np.inf]], np.float32))
    np.testing.assert_allclose(logprobs, [[-np.log(2), -np.log(2), -np.inf]], rtol=1e-6)
