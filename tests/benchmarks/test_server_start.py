import json

from onnxpipe_bench import server_start, tables


def test_start_memory_and_idle_cpu_are_measured_and_stored(tiny_bundle, results, arguments, monkeypatch):
    monkeypatch.setattr(server_start, "_IDLE_S", 0.5)
    arguments(tiny_bundle("bert", ""), "--repeats", 1)

    server_start.main()

    written = json.loads((results / "server_start.json").read_text(encoding="utf-8"))
    (row,) = written["rows"]
    assert (written["model"], row["precision"]) == ("tiny/bert", "fp32")
    for figures in (row["cached"], row["plain"], row["two_workers"]):
        assert figures["first_answer_s"] > 0
        assert figures["resident_mb"] > 20
        assert figures["proportional_mb"] > 20
    assert 0 <= row["idle_cpu_share"] < 1
    assert "| fp32, mapped, in the machine's own form |" in tables.TABLES["server_start"](written)


def test_the_median_is_of_each_figure():
    assert server_start.median([{"a": 1.0, "b": 5.0}, {"a": 2.0, "b": 4.0}, {"a": 9.0, "b": 6.0}]) == {
        "a": 2.0,
        "b": 5.0,
    }
