import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpipe.text.spans import Spans, best_spans, whole_words


def floats(*values):
    return np.array(values, np.float32)


def best(starts, ends, **limits):
    """The best spans as (first, last, score)."""
    return list(zip(*(column.tolist() for column in best_spans(starts, ends, **limits)), strict=True))


def all_spans(starts, ends, max_tokens):
    """Every span with a probability, likeliest first, the slow way."""
    spans = [
        (first, last, float(starts[first] * ends[last]))
        for first in range(len(starts))
        for last in range(first, min(first + max_tokens, len(starts)))
    ]
    return sorted((span for span in spans if span[2]), key=lambda span: -span[2])


def test_spans_come_by_falling_probability():
    spans = best(floats(0.5, 0.25, 0), floats(0, 0.5, 0.25), max_tokens=3, k=9)
    assert spans == [(0, 1, 0.25), (0, 2, 0.125), (1, 1, 0.125), (1, 2, 0.0625)]


@pytest.mark.parametrize(
    ("max_tokens", "expected"),
    [(1, [(1, 1)]), (2, [(0, 1), (1, 1), (1, 2)]), (10**400, [(0, 1), (0, 2), (1, 1), (1, 2)])],
)
def test_a_span_has_at_most_max_tokens(max_tokens, expected):
    spans = best(floats(0.5, 0.25, 0), floats(0, 0.5, 0.25), max_tokens=max_tokens, k=9)
    assert sorted(span[:2] for span in spans) == expected


@pytest.mark.parametrize(("k", "count"), [(1, 1), (3, 3), (4, 4), (5, 4), (10**400, 4)])
def test_at_most_k_spans_come_back(k, count):
    assert len(best(floats(0.5, 0.25, 0), floats(0, 0.5, 0.25), max_tokens=3, k=k)) == count


def test_of_equal_spans_those_that_begin_first_are_taken():
    spans = best(np.ones(30, np.float32), np.ones(30, np.float32), max_tokens=2, k=5)
    assert [span[:2] for span in spans] == [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("starts", "ends"), [(floats(), floats()), (floats(0, 0), floats(1, 1)), (floats(0, 1), floats(1, 0))]
)
def test_nothing_comes_back_where_nothing_is_possible(starts, ends):
    assert best(starts, ends, max_tokens=5, k=5) == []


def test_nan_is_not_hidden():
    spans = best(floats(math.nan, math.nan), floats(0.5, 0.5), max_tokens=2, k=2)
    assert [math.isnan(span[2]) for span in spans] == [True, True]


PROBABILITIES = st.integers(0, 4).map(lambda quarters: quarters / 4)  # few values: many spans are equal


@given(
    tokens=st.lists(st.tuples(PROBABILITIES, PROBABILITIES), max_size=12),
    max_tokens=st.integers(1, 14),
    k=st.integers(1, 80),
)
def test_spans_are_those_of_an_exhaustive_search(tokens, max_tokens, k):
    starts, ends = np.array(tokens, np.float32).reshape(-1, 2).T
    assert best(starts, ends, max_tokens=max_tokens, k=k) == all_spans(starts, ends, max_tokens)[:k]


def reference_spans(start, end, top_k, max_answer_len):
    """decode_spans of transformers 4.57.6, for tokens that are all allowed."""
    candidates = np.tril(np.triu(np.matmul(start[None, :, None], end[None, None, :])), max_answer_len - 1)
    flat = candidates.flatten()
    if top_k == 1:
        order = [np.argmax(flat)]
    elif len(flat) < top_k:
        order = np.argsort(-flat)
    else:
        order = np.argpartition(-flat, top_k)[:top_k]
        order = order[np.argsort(-flat[order])]
    starts, ends = np.unravel_index(order, candidates.shape)[1:]
    return [span for span in zip(starts, ends, candidates[0, starts, ends], strict=True) if span[2]]


@pytest.mark.parametrize("size", [3, 20, 384])
@pytest.mark.parametrize("max_tokens", [1, 15, 1000])
@pytest.mark.parametrize("k", [1, 12, 16, 300])
def test_spans_and_scores_are_those_of_the_reference(size, max_tokens, k):
    logits = np.random.default_rng(size + k).normal(scale=4, size=(2, size)).astype(np.float32)
    starts, ends = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert best(starts, ends, max_tokens=max_tokens, k=k) == reference_spans(starts, ends, k, max_tokens)


def test_scores_of_equal_spans_are_those_of_the_reference():
    # which of the equals come back is left to numpy's partition there
    starts, ends = np.random.default_rng(3).integers(0, 5, (2, 60)).astype(np.float32)
    expected = [span[2] for span in reference_spans(starts, ends, 30, 15)]
    assert [span[2] for span in best(starts, ends, max_tokens=15, k=30)] == expected


def test_spans_are_widened_to_the_words_they_touch():
    words = np.array([4, 4, 5, 6, 6, 9])  # a window that begins within its context
    spans = Spans(
        np.array([0, 1, 1, 2, 4, 0]), np.array([0, 1, 3, 2, 5, 5]), np.linspace(0.6, 0.1, 6, dtype=np.float32)
    )
    widened = whole_words(words, spans)
    assert widened.first.tolist() == [0, 0, 0, 2, 3, 0]
    assert widened.last.tolist() == [1, 1, 4, 2, 5, 5]
    assert widened.scores is spans.scores


def test_no_spans_are_widened_to_no_spans():
    nothing = best_spans(floats(), floats(), max_tokens=5, k=5)
    assert [column.tolist() for column in whole_words(np.array([], np.int64), nothing)] == [[], [], []]
