"""`onnxpipe bench` from its command line to its files."""

import json
import os
import subprocess
import sys

import pytest

from onnxpipe.cli import main
from onnxpipe_bench.bench_cli import names, numbers
from onnxpipe_bench.desk import survey
from onnxpipe_bench.desk.energy import Meter

FAST = ("--seconds", "0.01", "--lengths", "8,16", "--batch", "1,2", "--no-processes")


@pytest.fixture
def bench(capsys):
    """Runs the command; its exit code, output and errors."""

    def bench(*arguments):
        code = main(["bench", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return bench


def test_everything_is_measured_printed_and_written(folder, pairs, bench, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the bench extra")
    written = {"--json": tmp_path / "all.json", "--html": tmp_path / "report.html", "--png": tmp_path / "plots"}
    options = [part for pair in written.items() for part in pair]
    code, out, err = bench(folder, *FAST, "--data", pairs, "--threads", "1", *options)
    assert code == 0
    result = json.loads(written["--json"].read_text(encoding="utf-8"))
    assert [row["name"] for row in result["rows"]] == ["fp32", "int8", "int4"]
    assert (result["unit"], result["lengths"], result["batches"]) == ("tokens", [8, 16], [1, 2])
    fp32, int8, int4 = result["rows"]
    assert [figures["size"] for figures in fp32["latency"]] == [8, 16]
    assert "speed" not in fp32["latency"][0]
    assert int8["latency"][0]["speed"]["low"] <= int8["latency"][0]["speed"]["value"]
    assert [figures["batch"] for figures in int8["throughput"]] == [1, 2]
    assert int8["quality"]["value"] == fp32["quality"]["value"]
    assert int8["quality"]["drop"]["value"] == 0
    assert int4["quality"]["metric"] == "Spearman"
    assert (result["quality"]["rows"], result["quality"]["data"]) == (4, "pairs.jsonl")
    assert "process" not in fp32
    assert "Latency of one request, ms" in out
    assert "<svg" in written["--html"].read_text(encoding="utf-8")
    assert len(list(written["--png"].iterdir())) == 4
    assert "report.html" in err


def test_without_labels_precisions_are_held_against_fp32(folder, bench):
    code, out, _ = bench(folder, *FAST, "--json", "-")
    assert code == 0
    result = json.loads(out)
    fp32, int8, int4 = (row["quality"] for row in result["rows"])
    assert result["quality"]["metric"] == "cosine to fp32"
    assert fp32["value"] == int8["value"] == pytest.approx(1)
    assert int4["value"] < 0.999
    assert int4["drop"]["value"] == pytest.approx(1 - int4["value"])


def test_a_fresh_process_tells_memory_and_first_answer(folder, bench):
    arguments = [argument for argument in FAST if argument != "--no-processes"]
    code, out, _ = bench(folder, *arguments, "--variant", "int8", "--json", "-")
    assert code == 0
    (row,) = json.loads(out)["rows"]
    assert row["process"]["peak_mb"] >= row["process"]["idle_mb"] > 20
    assert "speed" not in row["latency"][0]  # fp32 was not measured


def test_models_that_write_tell_their_first_token_and_their_rate(task_bundles, bench):
    code, out, _ = bench(task_bundles["text-generation"], *FAST)
    assert code == 0
    assert "tokens/s" in out


def test_energy_is_told_where_the_machine_tells_it(folder, bench, monkeypatch):
    monkeypatch.setattr(Meter, "counts", True)
    monkeypatch.setattr(
        Meter, "joules_per_call", lambda self, call, seconds: {"joules": 0.25, "watts": 5.0, "calls": 9}
    )
    _, out, _ = bench(folder, *FAST, "--variant", "fp32")
    assert "0.2500" in out


def test_bundles_of_several_tasks_are_not_compared(task_bundles, bench):
    code, _, err = bench(task_bundles["fill-mask"], task_bundles["image-classification"], *FAST)
    assert code == 1
    assert "bundles of several tasks (fill-mask, image-classification) cannot be compared: name a --task" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--lengths", "8,x"], "--lengths: expected integers >= 1 with commas between them, as in 1,2; given '8,x'"),
        (["--threads", "0"], "--threads: expected integers >= 1"),
        (["--seconds", "0"], "--seconds: expected more than 0 and at most 3600, given 0"),
        (["--variant", "fp8"], "--variant: no bundle has 'fp8'"),
        (["--html", "no/such/folder/r.html"], "there is no folder"),
        (["--data", "no-such-file.jsonl"], "--data: no-such-file.jsonl cannot be read"),
        (["--provider", "abacus"], "abacus"),
        (["--task", "fill-mask"], "fill-mask"),
    ],
)
def test_wrong_options_are_told_in_one_line(folder, bench, options, said):
    code, _, err = bench(folder, *FAST, *options)
    assert code == 1
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_a_missing_extra_is_told_before_anything_is_measured(folder, bench, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    monkeypatch.setattr(survey.Survey, "run", lambda self: pytest.fail("measured"))
    code, _, err = bench(folder, "--png", tmp_path)
    assert code == 1
    assert "pip install 'onnxpipe[bench]'" in err


def test_lists_are_read_with_commas():
    assert numbers("1,2", "--threads") == [1, 2]
    assert numbers(None, "--threads") == []
    assert names(["fp32,int8", "int4"]) == ["fp32", "int8", "int4"]


def test_a_device_needs_nothing_heavy_for_it():
    names = ("survey", "tuning", "report", "terminal")
    code = "import sys, " + ", ".join(f"onnxpipe_bench.desk.{name}" for name in names) + "; print(*sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded.isdisjoint({"torch", "transformers", "optimum", "onnx", "matplotlib", "pandas", "tqdm", "sklearn"})
