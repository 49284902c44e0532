import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import onnxpipe
from onnxpipe_bench import measure
from onnxpipe_bench.measure import interleave, percentiles, stamp, write_result


@pytest.mark.parametrize("module", ["measure", "demo"])
def test_what_the_lean_environment_needs_imports_no_torch(module):
    code = f"import sys, onnxpipe_bench.{module}; print(*({{'torch', 'transformers', 'optimum'}} & set(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True) == "\n"


def record(calls, *names):
    return {name: lambda name=name: calls.append(name) for name in names}


def test_candidates_take_turns_and_every_other_turn_goes_backwards():
    calls = []
    interleave(record(calls, "a", "b", "c"), repeats=4, warm_up=0)
    assert "".join(calls) == "cba" + "abc" + "cba" + "abc"


def test_warm_up_turns_are_not_counted():
    calls = []
    times = interleave(record(calls, "a", "b"), repeats=3, warm_up=2)
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}
    assert len(calls) == 2 * (3 + 2)


def test_times_are_milliseconds_of_the_candidate_they_stand_under(monkeypatch):
    clock = iter([0.0, 0.25, 1.0, 1.5, 2.0, 2.125, 3.0, 3.75])  # begin and end of b, a, then of a, b
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(clock))
    assert interleave(record([], "a", "b"), repeats=2, warm_up=0) == {"a": [500.0, 125.0], "b": [250.0, 750.0]}


def test_no_repeats_give_no_times():
    assert interleave(record([], "a"), repeats=0) == {"a": []}


def test_an_error_of_a_candidate_is_not_swallowed():
    with pytest.raises(ZeroDivisionError):
        interleave({"a": lambda: 1 / 0}, repeats=1)


def test_percentiles_lie_between_neighbours_in_proportion():
    # 101 values 0 ... 100: the q-th percentile is q; of 1 and 2, p95 is 95 % of the way
    assert percentiles([float(value) for value in range(100, -1, -1)]) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert percentiles([1.0, 2.0]) == {"p50": 1.5, "p95": 1.95, "p99": 1.99}
    assert percentiles([7.0]) == {"p50": 7.0, "p95": 7.0, "p99": 7.0}


def test_percentiles_are_rounded_to_the_microsecond():
    assert percentiles([1.23456]) == {"p50": 1.235, "p95": 1.235, "p99": 1.235}


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_percentiles_rise_and_stay_between_the_least_and_the_most(times):
    found = percentiles(times)
    values = [min(times) - 0.001, found["p50"], found["p95"], found["p99"], max(times) + 0.001]
    assert values == sorted(values)


def test_the_stamp_says_when_on_what_and_with_what():
    found = stamp()
    assert datetime.date.fromisoformat(found["date"])
    assert found["python"] == platform.python_version()
    assert found["onnxpipe"] == onnxpipe.__version__
    assert found["onnxruntime"] == importlib.metadata.version("onnxruntime")
    assert found["threads"] >= 1
    assert found["cpu"]
    assert found["commit"]


def test_a_package_that_is_not_there_is_not_in_the_stamp(monkeypatch):
    monkeypatch.setattr(measure, "_PACKAGES", ("numpy", "no-such-package-as-this"))
    found = stamp()
    assert "numpy" in found
    assert "no-such-package-as-this" not in found


def test_outside_of_a_checkout_the_commit_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr(measure, "_ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert stamp()["commit"] == "unknown"


def test_a_result_is_written_with_its_stamp_first(results):
    file = write_result("speed", {"model": "größer", "rows": [{"p50": 1.5}]})
    assert file == results / "speed.json"
    text = file.read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert "größer" in text
    written = json.loads(text)
    assert list(written) == ["stamp", "model", "rows"]
    assert written["rows"] == [{"p50": 1.5}]
    assert written["stamp"] == stamp()


def test_a_new_result_replaces_the_old_one(results):
    write_result("speed", {"rows": list(range(1000))})
    write_result("speed", {"rows": []})
    assert json.loads((results / "speed.json").read_text(encoding="utf-8"))["rows"] == []
