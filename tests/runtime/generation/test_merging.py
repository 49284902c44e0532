import numpy as np
import pytest

from onnxpipe.generation.merging import merge


def plain(*parts):
    return merge([(list(part), []) for part in parts])[0]


def test_what_two_parts_share_comes_once():
    assert plain([1, 2, 3, 4], [3, 4, 5]) == [1, 2, 3, 4, 5]


def test_parts_with_less_than_two_tokens_in_common_follow_each_other():
    assert plain([1, 2, 3], [3, 4]) == [1, 2, 3, 3, 4]
    assert plain([1], [2], []) == [1, 2]
    assert plain([], [1, 2]) == [1, 2]


def test_up_to_the_middle_the_left_part_counts():
    # laid over one another: 3 4 9 5 and 3 4 8 5, cut behind the second
    assert plain([1, 2, 3, 4, 9, 5], [3, 4, 8, 5, 6]) == [1, 2, 3, 4, 8, 5, 6]


def test_spans_go_with_their_tokens():
    left = ([1, 2, 3], [(0.0, 0.1), (0.1, 0.2), (0.2, 0.3)])
    right = ([2, 3, 4], [(0.1, 0.2), (0.2, 0.35), (0.35, 0.4)])
    ids, spans = merge([left, right])
    assert ids == [1, 2, 3, 4]
    assert spans == [(0.0, 0.1), (0.1, 0.2), (0.2, 0.35), (0.35, 0.4)]


def test_tokens_are_the_same_only_where_the_left_is_not_later():
    left = ([1, 2, 3], [(0.0, 0.1), (0.5, 0.6), (0.6, 0.7)])
    right = ([2, 3, 4], [(0.1, 0.2), (0.2, 0.3), (0.3, 0.4)])
    assert merge([left, right])[0] == [1, 2, 3, 2, 3, 4]


@pytest.mark.parametrize("seed", range(20))
def test_a_text_cut_into_overlapping_parts_is_whole_again(seed):
    draws = np.random.default_rng(seed)
    text = draws.permutation(60).tolist()
    cuts = [text[:25], text[20:45], text[40:]]
    assert plain(*cuts) == text
