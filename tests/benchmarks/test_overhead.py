import json

import numpy as np
import pytest

from onnxpipe.load import load_model
from onnxpipe_bench import overhead


@pytest.fixture
def bundle(tiny_bundle):
    return tiny_bundle("bert", "")


def test_every_precision_and_length_is_measured_and_stored(bundle, results, arguments, monkeypatch, capsys):
    monkeypatch.setattr(overhead, "_LENGTHS", (3, 5, 8))  # the tiny model takes 64 tokens, and "word" is several
    arguments(bundle, "--repeats", 3)
    overhead.main()

    written = json.loads((results / "overhead.json").read_text(encoding="utf-8"))
    assert (written["model"], written["repeats"]) == ("tiny/bert", 3)
    assert written["stamp"]["onnxruntime"]
    assert [(row["precision"], row["tokens"]) for row in written["rows"]] == [("fp32", n) for n in (5, 11, 20)]
    for row in written["rows"]:
        for times in (row["bare_ms"], row["call_ms"]):
            assert list(times) == ["p50", "p95", "p99"]
            assert 0 < times["p50"] <= times["p95"] <= times["p99"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 3 + 1
    assert lines[-1] == f"-> {results / 'overhead.json'}"


def test_the_overhead_is_the_median_of_differences_of_neighbours(bundle, results, arguments, monkeypatch):
    times = {"bare": [1.0, 2.0, 9.0], "call": [1.25, 4.0, 9.5]}  # apart by 0.25, 2 and 0.5
    monkeypatch.setattr(overhead, "interleave", lambda candidates, *, repeats: times)
    arguments(bundle)
    overhead.main()
    written = json.loads((results / "overhead.json").read_text(encoding="utf-8"))
    assert {row["overhead_ms"] for row in written["rows"]} == {0.5}
    assert written["rows"][0]["bare_ms"]["p50"] == 2.0
    assert written["rows"][0]["call_ms"]["p50"] == 4.0


def test_the_bare_call_computes_what_the_pipeline_does(bundle):
    model = load_model(bundle)
    encoding = model.tokenizer.encode("A man plays.")
    expected = dict(model.run([encoding.row(model.graph())]))[0]["last_hidden_state"]
    given = overhead.bare_call(model)("A man plays.")
    np.testing.assert_array_equal(given[0][0], expected)


def test_the_bare_call_neither_pads_nor_cuts(bundle):
    call = overhead.bare_call(load_model(bundle))
    one = call("word")[0].shape[1]
    assert one < call("word " * 20)[0].shape[1] < 64
