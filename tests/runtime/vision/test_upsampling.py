import numpy as np
import pytest
from hypothesis import given, strategies
from hypothesis.extra import numpy as arrays

from onnxpipe.vision import upsampling
from onnxpipe.vision.upsampling import largest_plane, nearest, resize

FLOATS = strategies.floats(-1e3, 1e3, width=32)
EDGES = strategies.integers(1, 40)


def planes(*rows):
    return np.array(rows, np.float32)


def test_places_between_two_get_their_weighted_mean_and_those_beyond_the_borders_repeat_them():
    np.testing.assert_allclose(resize(planes([[0, 8]]), (1, 4)), [[[0, 2, 6, 8]]])
    np.testing.assert_allclose(resize(planes([[0], [8]]), (4, 1)), [[[0], [2], [6], [8]]])


def test_a_smaller_size_takes_the_two_nearest_and_smooths_nothing():
    # places 0.5 and 3.5 of 0..5 lie at 1 and 4: each the mean of its own two neighbours would be wrong
    np.testing.assert_allclose(resize(planes([[0, 1, 2, 100, 4, 5]]), (1, 2)), [[[1, 4]]])


def test_the_same_size_changes_nothing():
    given = planes([[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(resize(given, (2, 3)), given)


def test_nearest_takes_the_place_that_is_cut_off_not_rounded():
    assert nearest(3, 5).tolist() == [0, 0, 1, 1, 2]
    assert nearest(5, 2).tolist() == [0, 2]
    assert nearest(2, 4).tolist() == [0, 0, 1, 1]


def test_the_largest_plane_is_found_at_each_pixel_and_pixels_are_counted():
    low, high = planes([[4, 4], [4, 4]])[0], planes([[8, 0], [8, 0]])[0]
    largest = largest_plane(np.stack([low, high]), (2, 4), threshold=3)
    # the second plane is 8, 6, 2, 0 along each row
    assert largest.numbers.tolist() == [[1, 1, 0, 0]] * 2
    assert largest.won.tolist() == [4, 4]
    assert largest.areas.tolist() == [8, 4]


def test_of_equal_planes_the_first_is_largest():
    largest = largest_plane(np.zeros((3, 2, 2), np.float32), (5, 5))
    assert not largest.numbers.any()
    assert largest.won.tolist() == [25, 0, 0]


def test_a_number_that_is_none_loses_nothing_of_the_others():
    given = planes([[np.nan, np.nan]], [[1, 2]])
    assert largest_plane(given, (1, 2)).won.sum() == 2


@pytest.mark.parametrize("tile", [1, 3, 64])
@given(
    data=arrays.arrays(np.float32, strategies.tuples(strategies.integers(1, 5), EDGES, EDGES), elements=FLOATS),
    size=strategies.tuples(EDGES, EDGES),
    threshold=FLOATS,
)
def test_tile_by_tile_it_is_what_all_planes_at_once_give(tile, data, size, threshold):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upsampling, "_TILE", tile)
        largest = largest_plane(data, size, threshold)
    resized = resize(data, size)
    chosen = np.take_along_axis(resized, largest.numbers[None].astype(np.intp), axis=0)[0]
    # products in another order differ in the last place, which decides where planes are equal
    np.testing.assert_allclose(chosen, resized.max(axis=0), rtol=1e-5, atol=1e-4)
    assert largest.won.tolist() == np.bincount(largest.numbers.ravel(), minlength=len(data)).tolist()
    slack = 1e-5 * np.abs(data).max() + 1e-5
    assert (largest.areas <= np.count_nonzero(resized >= threshold - slack, axis=(1, 2))).all()
    assert (largest.areas >= np.count_nonzero(resized >= threshold + slack, axis=(1, 2))).all()
