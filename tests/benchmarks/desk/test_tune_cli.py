"""`onnxpipe tune` from its command line to the recipe that `load` takes."""

import json

import pytest

import onnxpipe
from onnxpipe.bundle import open_bundle
from onnxpipe.cli import main
from onnxpipe.recipe import find_recipe, fingerprint
from onnxpipe_bench.desk import tuning as module
from onnxpipe_bench.desk.race import Race

FAST = ("--seconds", "0.05", "--lengths", "8,16", "--threads", "1")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(module, "_CONFIRM_S", 0.02)
    monkeypatch.setattr(module, "_BATCH_S", 0.01)
    monkeypatch.setattr(module, "measure_afresh", lambda *_: {"first_answer_s": 0.5, "idle_mb": 90.0, "peak_mb": 100.0})


@pytest.fixture
def tune(folder, capsys):
    """Runs the command on the bundle; its exit code, output and errors."""

    def tune(*arguments):
        code = main(["tune", str(folder), *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return tune


def test_the_recipe_is_written_with_all_evidence_and_taken(folder, tune, cache):
    code, out, err = tune(*FAST)
    assert (code, err) == (0, "")
    recipe = find_recipe(open_bundle(folder))
    assert (folder / "recipes" / f"{fingerprint()}.json").is_file()
    assert recipe.precision in ("fp32", "int8")  # the same graph; int4 is wrong
    evidence = recipe.evidence
    assert evidence["quality"]["int4"]["drop"]["value"] > 0.005
    told = {row["name"]: row["out"] for row in evidence["candidates"]}
    assert len(told) == 9
    assert [name for name, reason in told.items() if reason is None] == [evidence["chosen"]]
    assert "worse than fp32, more than 0.50%" in told["int4, 1 thread, cpu, all"]
    for length in ("8", "16"):
        figures = evidence["figures"][length]
        assert figures["speed"]["low"] <= figures["speed"]["value"] <= figures["speed"]["high"]
        assert figures["chosen"]["calls"] == figures["fp32"]["calls"] >= 9
    assert evidence["stamp"]["onnxruntime"]
    assert recipe.machine["threads"] >= 1
    assert recipe.batch in (1, 2, 4, 8, 16, 32)
    assert evidence["process"]["peak_mb"] == 100
    assert "measured again:" in out
    assert "without a precision" not in out
    assert onnxpipe.load(folder).model.precision == recipe.precision
    assert not list((cache / "onnxpipe/tune").iterdir())  # nothing to go on with


def test_the_budget_is_held_on_labelled_rows(tune, pairs):
    code, out, _ = tune(*FAST, "--data", pairs, "--max-drop", "100%", "--variant", "int8", "--json")
    assert code == 0
    recipe = json.loads(out)
    assert recipe["precision"] == "int8"
    assert recipe["evidence"]["quality_on"] == {"data": "pairs.jsonl", "metric": "Spearman", "lower": False, "rows": 4}


def test_the_slowest_calls_may_be_what_counts(tune):
    code, out, _ = tune(*FAST, "--latency", "p99")
    assert code == 0
    assert "fastest at p99" in out
    assert "without --data this tells little" in out


def test_nothing_in_the_budget_is_an_error_that_tells_why(tune, folder):
    code, _, err = tune(*FAST, "--variant", "int4")
    assert code == 1
    assert "no precision is in the budget (int4: " in err
    assert "worse than fp32, more than 0.50%); allow more, or `onnxpipe quantize` another" in err
    code, _, err = tune(*FAST, "--memory", "50MiB")
    assert "takes 100 MiB, more than 50 MiB" in err
    assert not (folder / "recipes").exists()


def test_an_interrupted_tuning_goes_on_where_it_was(tune, monkeypatch, cache):
    run_block, asked = Race.run_block, []
    figures = module.Judgement.figures

    def interrupt(race, calls):
        if race.turns:
            raise KeyboardInterrupt
        run_block(race, calls)

    def judge(self, *arguments):
        asked.append(arguments[0].precision)
        return figures(self, *arguments)

    monkeypatch.setattr(Race, "run_block", interrupt)
    monkeypatch.setattr(Race, "is_over", lambda race, percentile: False)
    monkeypatch.setattr(module.Judgement, "figures", judge)
    code, _, err = tune(*FAST, "--seconds", "60")
    assert code == 1
    assert "what was measured is kept: the same command goes on from here" in err
    assert asked == ["fp32", "int8", "int4"]
    assert len(list((cache / "onnxpipe/tune").iterdir())) == 1

    monkeypatch.setattr(Race, "run_block", run_block)
    monkeypatch.setattr(Race, "is_over", lambda race, percentile: race.turns >= 8)
    code, out, err = tune(*FAST, "--seconds", "60", "--json")
    assert code == 0
    assert "going on with what was measured before" in err
    assert asked == ["fp32", "int8", "int4"]  # not again
    rows = json.loads(out)["evidence"]["candidates"]
    assert max(one["calls"] for row in rows for one in row.get("latency", {}).values()) == 24


def test_a_dry_run_tells_the_candidates_and_measures_nothing(tune, folder, monkeypatch):
    monkeypatch.setattr(module.Tuning, "run", lambda self: pytest.fail("measured"))
    code, out, _ = tune("--dry-run", "--threads", "1,2", "--latency", "p99", "--memory", "512MiB")
    assert code == 0
    assert "18 candidates, at most 0.50% worse than fp32, at most 512 MiB, fastest at p99:" in out
    assert "  int8, 2 threads, cpu, basic" in out
    assert not (folder / "recipes").exists()


def test_groups_that_fit_into_memory_race_one_after_the_other(tune, monkeypatch):
    monkeypatch.setattr("onnxpipe_bench.desk.grid._LOADED_SHARE", 1e-9)
    code, out, _ = tune(*FAST, "--json")
    assert code == 0
    rows = json.loads(out)["evidence"]["candidates"]
    assert sum(row["out"] is None for row in rows) == 1
    assert sum("latency" in row for row in rows) == 6


def test_who_cannot_be_loaded_is_told_and_left_out(tune, monkeypatch):
    load = module.Candidate.load

    def refuse(candidate, task):
        if candidate.level == "basic":
            raise module.OnnxpipeError("no room")
        return load(candidate, task)

    monkeypatch.setattr(module.Candidate, "load", refuse)
    code, out, _ = tune(*FAST, "--json")
    assert code == 0
    rows = json.loads(out)["evidence"]["candidates"]
    assert {row["out"] for row in rows if row["level"] == "basic" and row["precision"] != "int4"} == {"no room"}


def test_a_bundle_without_fp32_cannot_be_tuned(folder, tune, monkeypatch):
    data = json.loads((folder / "manifest.json").read_text())
    del data["variants"]["fp32"]
    (folder / "manifest.json").write_text(json.dumps(data))
    code, _, err = tune(*FAST)
    assert code == 1
    assert "precisions are held against fp32, which" in err
    assert "lacks; it has: int8, int4" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-drop", "0.5"], "--max-drop: expected a share"),
        (["--memory", "lots"], "--memory: expected a size"),
        (["--latency", "mean"], "--latency: expected one of"),
        (["--lengths", "0"], "--lengths: expected integers >= 1"),
        (["--data", "no-such-file"], "--data: no-such-file cannot be read"),
        (["--provider", "abacus"], "abacus"),
    ],
)
def test_wrong_options_are_told_in_one_line(tune, options, said):
    code, _, err = tune(*FAST, *options)
    assert code == 1
    assert said in err
    assert len(err.strip().splitlines()) == 1
