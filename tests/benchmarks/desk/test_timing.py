import pytest

from onnxpipe_bench.desk.timing import BURST, speed, summarize, take_turns, time_calls


def test_speed_is_the_median_of_the_ratios_within_turns():
    slow = [10.0, 10.0, 99.0, 20.0, 20.0, 1.0, 50.0, 50.0, 50.0]
    fast = [5.0, 5.0, 5.0, 10.0, 10.0, 10.0, 25.0, 25.0, 25.0]
    found = speed(slow, fast)
    assert found.value == pytest.approx(2.0)
    assert (found.low, found.high) == pytest.approx((2.0, 2.0))  # each turn's luck hit both
    assert found.plain(2) == {"value": 2.0, "low": 2.0, "high": 2.0}


def test_speed_at_another_percentile_is_that_of_all_calls():
    slow, fast = [1.0] * 98 + [100.0], [1.0] * 98 + [10.0]
    assert speed(slow, fast).value == 1
    assert speed(slow, fast, 100).value == pytest.approx(10)
    assert speed(slow, fast, 100).low == pytest.approx(1)  # without that turn


def test_times_are_summarized_with_what_a_plot_needs():
    found = summarize([float(number) for number in range(101)])
    assert (found["p50"], found["p95"], found["p99"], found["mean"], found["calls"]) == (50, 95, 99, 50, 101)
    assert found["quantiles"]["25"] == 25


def test_calls_take_turns_whose_first_does_not_count():
    made = []
    times = take_turns({"one": lambda: made.append(1), "two": lambda: made.append(2)}, 2)
    assert [len(values) for values in times.values()] == [2 * BURST, 2 * BURST]
    turn = [*[1] * (1 + BURST), *[2] * (1 + BURST)]
    assert made == [*turn[::-1], *turn]


def test_calls_are_made_no_less_often_than_asked():
    times = time_calls({"one": lambda: None}, 1e-9, least=4)
    assert len(times["one"]) == 4 * BURST
