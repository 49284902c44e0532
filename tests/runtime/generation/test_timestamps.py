import numpy as np
import pytest

from onnxpipe.generation.timestamps import Settled, settle, timestamp_rules
from onnxpipe.sections import Transcription

# words 0 to 4, the end 5, a special token 6, no times 7, times from 8 on: <0.00> to <0.10>
END, FIRST, SIZE = 5, 8, 14
SECTION = Transcription(start=6, no_timestamps=7, no_speech=6, max_initial_timestamp=2)
PROMPT = [6]


def allowed(written, scores=None, section=SECTION):
    """The tokens that may follow."""
    given = np.zeros((1, SIZE), np.float32) if scores is None else np.array([scores], np.float32)
    with np.errstate(invalid="ignore"):
        found = timestamp_rules(section, len(PROMPT), END)(np.array([PROMPT + written]), given)
    return np.flatnonzero(found[0] > -np.inf).tolist()


# so that no time is likelier than all words
WORDS_FIRST = [0.0] * FIRST + [-9.0] * (SIZE - FIRST)


def test_a_text_begins_with_an_early_time():
    assert allowed([]) == [8, 9, 10]
    assert allowed([], section=Transcription(start=6, no_timestamps=7, no_speech=6)) == [8, 9, 10, 11, 12, 13]


def test_words_or_the_end_follow_a_beginning():
    assert allowed([8], WORDS_FIRST) == [0, 1, 2, 3, 4, 5, 6]


def test_a_beginning_or_the_end_follows_an_end():
    # the same time again, or a later one
    assert allowed([8, 1, 10], WORDS_FIRST) == [5, 6, 10, 11, 12, 13]


def test_words_follow_two_times():
    assert allowed([8, 1, 10, 11], WORDS_FIRST) == [0, 1, 2, 3, 4, 5, 6]


def test_an_end_is_later_than_its_beginning():
    assert allowed([8, 1], WORDS_FIRST) == [0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13]
    assert allowed([8, 1, 10, 11, 2], WORDS_FIRST) == [0, 1, 2, 3, 4, 5, 6, 12, 13]


def test_a_time_comes_where_all_of_them_together_are_likelier_than_any_word():
    # five times of e^-1 each are 1.84, more than the 1 of the best word; four of them with e^-2 are 0.54
    assert allowed([8, 1], [0.0] * FIRST + [-1.0] * (SIZE - FIRST)) == [9, 10, 11, 12, 13]
    assert allowed([8, 1], [0.0] * FIRST + [-2.0] * (SIZE - FIRST))[0] == 0


def test_scores_that_are_given_stay_as_they_are():
    scores = np.zeros((1, SIZE), np.float32)
    timestamp_rules(SECTION, 1, END)(np.array([[6, 8]]), scores)
    assert not scores.any()


@pytest.mark.parametrize(
    ("ids", "settled"),
    [
        ([8, 1, 2, 10], Settled(4, None)),  # one end: all was told
        ([8, 1, 10, 10, 2], Settled(3, 2)),  # what was begun at <0.04> is heard again
        ([8, 1, 10, 11, 2, 12, 12], Settled(6, 4)),  # a beginning at the very end
        ([8, 1, 10, 10, 2, 12], Settled(6, None)),
        ([8, 1, 2], Settled(3, None)),  # nothing to begin anew from
        ([1, 2], Settled(2, None)),
        ([8], Settled(1, None)),
        ([], Settled(0, None)),
    ],
)
def test_what_is_certain_of_a_window_ends_with_its_last_pair_of_times(ids, settled):
    assert settle(np.array(ids, np.int64), FIRST) == settled
