import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpipe.text.entities import (
    Tags,
    find_marked_subwords,
    find_unspaced_subwords,
    group_tokens,
    resolve_overlaps,
)

BIO = Tags(("O", "B-PER", "I-PER", "B-LOC", "I-LOC"))
OUT, B_PER, I_PER, B_LOC, I_LOC = range(5)


def peaked(labels, count=5):
    """Scores whose largest are at `labels`, 0.6 and then falling a little from token to token."""
    scores = np.full((len(labels), count), 0.01, np.float32)
    scores[np.arange(len(labels)), labels] = 0.6 - 0.01 * np.arange(len(labels))
    return scores


def group(labels, strategy="simple", subwords=(), breaks=(0,), tags=BIO):
    """(name, words as ranges of tokens) of each group."""
    flags = np.zeros((2, len(labels)), bool)
    flags[0, list(subwords)] = flags[1, list(breaks)] = True
    groups = group_tokens(peaked(labels, len(tags.labels)), *flags, tags, strategy)
    return [(tags.names[label], groups.words_of(index)) for index, label in enumerate(groups.labels)]


def test_a_tag_is_a_label_without_its_prefix():
    assert BIO.names == ["O", "PER", "PER", "LOC", "LOC"]
    assert BIO.begins.tolist() == [False, True, False, True, False]
    assert BIO.kinds.tolist() == [0, 1, 1, 3, 3]


def test_a_group_loses_all_up_to_the_first_hyphen_as_in_the_reference():
    tags = Tags(("S-PER", "B-PER", "GEO-POLITICAL", "B-GEO-POLITICAL", "B-"))
    assert tags.names == ["PER", "PER", "POLITICAL", "GEO-POLITICAL", ""]
    # but a prefix that is neither B- nor I- belongs to the tag when neighbours are compared
    assert tags.kinds.tolist() == [0, 1, 2, 2, 4]


def test_neighbours_with_one_tag_make_a_group():
    assert group([B_PER, I_PER, OUT, OUT, I_LOC]) == [("PER", [0, 1, 2]), ("O", [2, 3, 4]), ("LOC", [4, 5])]


def test_b_begins_a_group_even_behind_its_own_tag():
    assert group([B_PER, B_PER, I_PER]) == [("PER", [0, 1]), ("PER", [1, 2, 3])]


def test_i_goes_on_with_nothing_but_its_own_tag():
    assert group([B_PER, I_LOC, I_PER]) == [("PER", [0, 1]), ("LOC", [1, 2]), ("PER", [2, 3])]


def test_plain_labels_go_on_as_if_they_had_an_i():
    tags = Tags(("O", "PER", "LOC"))
    assert group([1, 1, 2, 0], tags=tags) == [("PER", [0, 1, 2]), ("LOC", [2, 3]), ("O", [3, 4])]


@pytest.mark.parametrize("strategy", ["simple", "first"])
def test_no_group_reaches_into_the_next_window(strategy):
    assert group([I_PER, I_PER, I_PER], strategy, breaks=(0, 2)) == [("PER", [0, 1, 2]), ("PER", [2, 3])]


def test_no_word_reaches_into_the_next_window():
    assert group([B_PER, I_LOC, I_LOC], "first", subwords=(0, 1, 2), breaks=(0, 2)) == [
        ("PER", [0, 2]),
        ("LOC", [2, 3]),
    ]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("simple", [("PER", 0.55), ("LOC", 0.8), ("LOC", 0.6)]),
        ("first", [("PER", 0.55)]),
        ("average", [("LOC", 1.05 / 3)]),  # B-LOC: 0.45, 0, 0.6; the others have less
        ("max", [("LOC", 0.8)]),
    ],
)
def test_a_word_whose_tokens_disagree_is_decided_by_the_strategy(strategy, expected):
    scores = np.array([[0, 0.55, 0, 0.45, 0], [0, 0.2, 0, 0, 0.8], [0, 0.1, 0.3, 0.6, 0]], np.float32)
    groups = group_tokens(scores, np.array([False, True, True]), np.array([True, False, False]), BIO, strategy)
    given = [(BIO.names[label], score) for label, score in zip(groups.labels, groups.scores.tolist(), strict=True)]
    assert given == [(name, pytest.approx(score)) for name, score in expected]


def test_of_equally_sure_tokens_the_first_decides():
    scores = np.array([[0.3, 0.7, 0, 0, 0], [0.3, 0, 0, 0.7, 0]], np.float32)
    groups = group_tokens(scores, np.array([False, True]), np.array([True, False]), BIO, "max")
    assert groups.labels.tolist() == [B_PER]


def test_a_groups_score_is_the_mean_of_its_words():
    scores = np.array([[0, 0.9, 0.1, 0, 0], [0, 0, 0.2, 0, 0.8], [0, 0.4, 0.6, 0, 0]], np.float32)
    groups = group_tokens(scores, np.array([False, True, False]), np.array([True, False, False]), BIO, "first")
    assert groups.scores.tolist() == [pytest.approx((0.9 + 0.6) / 2)]
    assert groups.scores.dtype == np.float32
    assert (groups.first_tokens.tolist(), groups.last_tokens.tolist()) == ([0], [2])


def test_a_marked_token_is_not_as_long_as_its_span():
    # naïveté in capitals and without accents, then a letter with a combining accent
    tokens, offsets = ["naiv", "##ete", "e"], np.array([[0, 4], [4, 7], [8, 10]])
    assert find_marked_subwords(tokens, offsets).tolist() == [False, True, True]
    assert find_marked_subwords([], np.zeros((0, 2), np.int64)).tolist() == []


@pytest.mark.parametrize(
    ("text", "offsets", "expected"),
    [
        ("new york", [(0, 3), (4, 8)], [False, False]),
        ("new york", [(0, 3), (3, 8)], [False, False]),  # a token that holds its space
        ("new york", [(0, 1), (1, 3), (3, 6), (6, 8)], [False, True, False, True]),
        ("a\tb\u00a0c", [(0, 1), (2, 3), (4, 5)], [False, True, True]),  # a space is just " "
        ("end, 😀 ", [(0, 3), (3, 4), (5, 6), (7, 7)], [False, True, False, False]),
        ("end", [(3, 3)], [True]),
        ("", [(0, 0)], [False]),
    ],
)
def test_an_unmarked_token_goes_on_where_no_space_is_at_its_start(text, offsets, expected):
    assert find_unspaced_subwords(text, np.array(offsets)).tolist() == expected


def resolve(*spans):
    starts, ends, scores = (np.array(column) for column in zip(*spans, strict=True))
    return [spans[index] for index in resolve_overlaps(starts, ends, scores)]


def test_of_overlapping_groups_the_longer_stays():
    assert resolve((0, 4, 0.9), (2, 8, 0.1), (8, 9, 0.5)) == [(2, 8, 0.1), (8, 9, 0.5)]
    assert resolve((0, 4, 0.9), (3, 6, 0.99)) == [(0, 4, 0.9)]


def test_of_equally_long_ones_the_surer_and_else_the_earlier_stays():
    assert resolve((0, 4, 0.5), (1, 5, 0.9)) == [(1, 5, 0.9)]
    assert resolve((0, 4, 0.5), (1, 5, 0.5)) == [(0, 4, 0.5)]


def test_groups_come_by_rising_start():
    assert resolve((6, 8, 0.5), (0, 2, 0.5)) == [(0, 2, 0.5), (6, 8, 0.5)]


def test_a_group_with_an_empty_span_stays_once():
    assert resolve((0, 0, 0.5), (0, 2, 0.5)) == [(0, 0, 0.5), (0, 2, 0.5)]


def test_no_groups_are_resolved_to_none():
    nothing = np.zeros(0, np.int64)
    assert resolve_overlaps(nothing, nothing, nothing) == []


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9), st.sampled_from([0.25, 0.5, 0.75])), min_size=1))
def test_what_stays_does_not_overlap_and_has_the_longest_group(spans):
    spans = [(start, start + length, score) for start, length, score in spans]
    kept = resolve(*spans)
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(kept))
    assert max(end - start for start, end, _ in kept) == max(end - start for start, end, _ in spans)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.booleans()), min_size=1),
    st.sampled_from(["simple", "first", "average", "max"]),
)
def test_groups_and_words_cover_every_token_once(tokens, strategy):
    labels, subwords, breaks = (list(column) for column in zip(*tokens, strict=True))
    breaks[0] = True
    groups = group_tokens(peaked(labels), np.array(subwords), np.array(breaks), BIO, strategy)
    bounds = [groups.words_of(index) for index in range(len(groups.labels))]
    assert [bound[0] for bound in bounds] + [len(labels)] == [0, *[bound[-1] for bound in bounds]]
    assert all(bound == sorted(set(bound)) for bound in bounds)
    assert ((groups.scores > 0) & (groups.scores <= 0.6)).all()
