import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpipe.audio.chunks import Window, Windows, cut_windows, plan_windows
from onnxpipe.errors import InvalidInput


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=12),
    st.integers(1, 50),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_what_windows_keep_is_the_recording_once_however_it_is_cut_into_blocks(
    sizes: list[int], own: int, left: int, right: int
) -> None:
    samples = np.arange(sum(sizes), dtype=np.float32)
    blocks = np.split(samples, np.cumsum(sizes)[:-1])
    windows = [*cut_windows(blocks, Windows(left + own + right, left, right))]
    kept = [window.samples[window.left : len(window.samples) - window.right] for window in windows]
    np.testing.assert_array_equal(np.concatenate(kept), samples)
    assert [window.last for window in windows] == [False] * (len(windows) - 1) + [True]
    assert all(len(window.samples) <= left + own + right for window in windows)


def test_a_window_is_given_as_soon_as_one_sample_more_has_come() -> None:
    read = []

    def blocks():
        for number in range(5):
            read.append(number)
            yield np.full(10, number, np.float32)

    windows = cut_windows(blocks(), Windows(10, 2, 2))
    assert len(next(windows).samples) == 10
    assert read == [0, 1]


def test_windows_are_whole_frames() -> None:
    assert plan_windows(10, (10 / 6, 10 / 6), 16_000, 320) == Windows(160_000, 26_560, 26_560)
    assert plan_windows(0.03, (0, 0), 16_000, 320) == Windows(640, 0, 0)  # 1.5 frames: halves to even


def test_strides_are_a_sixth_of_a_window_where_nothing_is_said() -> None:
    assert plan_windows(30, None, 100, 1) == Windows(3000, 500, 500)
    assert plan_windows(30, 2, 100, 1) == Windows(3000, 200, 200)
    assert plan_windows(30, (4, 1), 100, 1) == Windows(3000, 400, 100)


def test_the_own_frames_of_a_window_are_counted_as_the_reference_does() -> None:
    assert Window(np.zeros(160_000, np.float32), 16_000, 16_000, last=False).kept_frames(80) == slice(200, 1800)
    assert Window(np.zeros(1000, np.float32)).kept_frames(320) == slice(0, 3)


@pytest.mark.parametrize(
    ("seconds", "strides", "message"),
    [
        (0.001, (0.0, 0.0), "`chunk_length_s`: expected at least a frame of 0.02 seconds, given 0.001"),
        (2.0, (1.0, 1.0), "`stride_length_s`: expected two strides that leave something of chunks of 2 seconds"),
        (2.0, (5.0, 0.0), "given 5 and 0"),
    ],
)
def test_windows_that_would_be_nothing_are_refused(seconds: float, strides: tuple[float, float], message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        plan_windows(seconds, strides, 16_000, 320)
    assert message in str(refused.value)
