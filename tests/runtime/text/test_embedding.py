import numpy as np
import pytest

from onnxpipe.errors import UnprocessableInput
from onnxpipe.text.embedding import pool, shorten

HIDDEN = np.array([[1, -1], [2, -2], [6, 0], [3, -9]], np.float32)


@pytest.mark.parametrize(
    ("pooling", "skip", "expected"),
    [
        ("cls", 0, [1, -1]),
        ("cls", 2, [6, 0]),
        ("last_token", 0, [3, -9]),
        ("last_token", 2, [3, -9]),
        ("max", 0, [6, 0]),
        ("max", 3, [3, -9]),
        ("mean", 0, [3, -3]),
        ("mean", 2, [4.5, -4.5]),
        ("mean_sqrt_len", 0, [6, -6]),  # sums 12 and -12 over the root of 4
        ("mean_sqrt_len", 3, [3, -9]),  # one token: the root is 1
        ("weighted_mean", 0, [3.5, -4.1]),  # (1 + 4 + 18 + 12, -1 - 4 - 0 - 36) over 1 + 2 + 3 + 4
        ("weighted_mean", 2, [30 / 7, -36 / 7]),  # (18 + 12, -36) over 3 + 4: positions count from the prompt on
    ],
)
def test_each_pooling_of_a_hand_worked_text(pooling, skip, expected):
    vector = pool(HIDDEN, pooling, skip)
    assert vector == pytest.approx(expected)
    assert vector.dtype == np.float32


@pytest.mark.parametrize("skip", [4, 9])
@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("cls", [1, -1]),
        ("max", [-1e9, -1e9]),
        ("last_token", [0, 0]),
        ("mean", [0, 0]),
        ("mean_sqrt_len", [0, 0]),
        ("weighted_mean", [0, 0]),
    ],
)
def test_pooling_stays_finite_when_the_prompt_is_all_there_is(pooling, expected, skip):
    assert pool(HIDDEN, pooling, skip).tolist() == expected


def test_shorten_keeps_the_first_dimensions():
    assert shorten(HIDDEN, unit=False, dimensions=1).tolist() == [[1], [2], [6], [3]]


def test_shorten_scales_after_cutting():
    vector = np.array([3, 4, 12], np.float32)
    assert shorten(vector, unit=True, dimensions=2) == pytest.approx([0.6, 0.8])
    assert shorten(vector, unit=True, dimensions=None) == pytest.approx([3 / 13, 4 / 13, 12 / 13])


def test_shorten_without_wishes_changes_nothing():
    assert shorten(HIDDEN, unit=False, dimensions=None) is HIDDEN


def test_shorten_refuses_more_dimensions_than_there_are():
    with pytest.raises(UnprocessableInput, match=r"`dimensions`: expected at most 2, given 3"):
        shorten(HIDDEN, unit=False, dimensions=3)
