import numpy as np
import pytest

from onnxpipe.generation.alignment import attention_of, median_filter, token_starts, warp


def test_attention_is_the_softmax_of_scaled_products():
    # one head of four numbers: a query of (2, 0, 0, 0) and keys that agree with it by 2 and by 0
    queries = {3: np.array([[9, 9, 9, 9, 2, 0, 0, 0]], np.float32)}
    keys = np.zeros((2, 2, 4), np.float32)
    keys[1, 0, 0] = 2
    found = attention_of(queries, {"cross_key_values.3.key": keys}, [(3, 1)])
    # 4 / sqrt(4) = 2
    assert found == pytest.approx(np.array([[[np.e**2, 1]]]) / (np.e**2 + 1))


def test_the_median_of_neighbours_is_mirrored_at_the_ends():
    values = np.array([[5, 1, 9, 2, 3]], np.float32)
    # around 5: 1 5 1; 1: 5 1 9; 9: 1 9 2; 2: 9 2 3; 3: 2 3 2
    assert median_filter(values, 3).tolist() == [[1, 5, 2, 3, 2]]
    assert median_filter(values[:, :1], 3).tolist() == [[5]]
    assert median_filter(values, 1).tolist() == values.tolist()


def test_the_cheapest_path_passes_every_token_in_order():
    costs = np.array([[0, 0, 9, 9], [9, 9, 0, 9], [9, 9, 9, 0]], np.float32)
    tokens, positions = warp(costs)
    assert tokens.tolist() == [0, 0, 1, 2]
    assert positions.tolist() == [0, 1, 2, 3]


def test_of_equal_paths_the_one_along_the_positions_is_taken():
    tokens, positions = warp(np.zeros((2, 3), np.float32))
    assert (tokens.tolist(), positions.tolist()) == ([0, 1, 1, 1], [0, 0, 1, 2])


def test_more_tokens_than_positions_share_them():
    tokens, positions = warp(np.array([[0], [0], [0]], np.float32))
    assert (tokens.tolist(), positions.tolist()) == ([0, 1, 2], [0, 0, 0])


def test_tokens_begin_where_they_are_looked_at():
    weights = np.full((1, 3, 9), 0.01, np.float32)
    for token, places in enumerate((slice(0, 4), slice(4, 5), slice(5, 9))):
        weights[0, token, places] = 1
    assert token_starts(weights, 1).tolist() == [0, 4, 5]


def test_a_token_that_nothing_tells_from_others_begins_at_the_beginning():
    # the reference divides 0 by 0 and gives -0.02 seconds
    assert token_starts(np.full((2, 1, 5), 0.2, np.float32), 7).tolist() == [0]
    assert token_starts(np.full((1, 2, 1), 1.0, np.float32), 7).tolist() == [0, 0]


def test_times_never_run_backwards():
    weights = np.random.default_rng(0).random((3, 40, 25)).astype(np.float32)
    starts = token_starts(weights, 7)
    assert len(starts) == 40
    assert (np.diff(starts) >= 0).all()
