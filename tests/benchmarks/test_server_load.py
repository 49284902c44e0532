import json

from onnxpipe_bench import server_load
from onnxpipe_bench.load_client import Outcome, Plan, send_load
from onnxpipe_bench.serving import onnxpipe_server


def test_both_servers_are_measured_at_every_load_and_the_result_is_stored(tiny_bundle, results, arguments, monkeypatch):
    monkeypatch.setattr(server_load, "_CONNECTIONS", (1, 4))
    monkeypatch.setattr(server_load, "_OPEN_CONNECTIONS", 32)
    monkeypatch.setattr(server_load, "bodies", lambda kind: [json.dumps({"inputs": "one two"})])
    arguments(tiny_bundle("bert", ""), "--seconds", 0.2, "--turns", 1)
    server_load.main()

    written = json.loads((results / "server_load.json").read_text(encoding="utf-8"))
    assert written["model"] == "tiny/bert"
    assert [(row["server"], row["connections"]) for row in written["rows"] if row["inputs"] == "short"] == [
        ("onnxpipe", 1),
        ("bare handler", 1),
        ("onnxpipe", 4),
        ("bare handler", 4),
    ]
    for row in written["rows"]:
        assert row["per_second"] > 0
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["memory_mb"] > 20
    (opened,) = written["open"]
    assert opened["steady"]["per_second"] > 0
    assert set(opened["overload"]["statuses"]) <= {200, 429}


def test_every_request_of_a_load_is_answered_and_counted(tiny_bundle):
    with onnxpipe_server(str(tiny_bundle("bert", "")), precision="fp32") as server:
        good, bad = json.dumps({"inputs": "one"}), json.dumps({"inputs": 7})
        load = {"port": server.port, "path": "/", "connections": 3, "seconds": 0.2}
        outcome = send_load(Plan(bodies=[good, bad], **load))
        paced = send_load(Plan(bodies=[good], rate=50, **load))

    assert set(outcome.times_ms) == {200, 400}
    assert set(paced.times_ms) == {200}
    assert 1 <= len(paced.times_ms[200]) <= 40


def test_only_good_answers_count_for_the_rate():
    assert Outcome({200: [1.0, 1.0, 1.0], 429: [1.0]}, 2.0).per_second == 1.5
    assert Outcome({429: [1.0]}, 2.0).per_second == 0
