import json

import numpy as np
import pytest

from onnxpipe_bench import server_load
from onnxpipe_bench.load_client import Outcome, Plan, send_load
from onnxpipe_bench.serving import Running, onnxpipe_server


def test_both_servers_are_measured_at_every_load_and_the_result_is_stored(tiny_bundle, results, arguments, monkeypatch):
    monkeypatch.setattr(server_load, "_CONNECTIONS", (1, 4))
    monkeypatch.setattr(server_load, "_OPEN_CONNECTIONS", 32)
    monkeypatch.setattr(server_load, "_TEXTS", ("one two", "one"))
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


def test_peers_take_part_where_they_start_and_are_missing_with_the_reason_where_not(
    tiny_bundle, results, arguments, monkeypatch
):
    def start(python, bundle, precision):
        return Running("onnxpipe_bench.peers.bare_server", bundle, precision)

    def fail(*_):
        raise ChildProcessError("infinity needs a hub")

    monkeypatch.setattr(server_load, "SERVERS", {"LitServe": (start, "/", "inputs"), "infinity": (fail, "/", "input")})
    monkeypatch.setattr(server_load, "_CONNECTIONS", (2,))
    monkeypatch.setattr(server_load, "_OPEN_CONNECTIONS", 8)
    monkeypatch.setattr(server_load, "_TEXTS", ("one two", "one"))
    monkeypatch.setattr(server_load, "bodies", lambda kind: [json.dumps({"inputs": "one two"})])
    arguments(tiny_bundle("bert", ""), "--seconds", 0.2, "--turns", 1, "--litserve", "python", "--infinity", "python")
    server_load.main()

    written = json.loads((results / "server_load.json").read_text(encoding="utf-8"))
    assert {row["server"] for row in written["rows"]} == {"bare handler", "onnxpipe", "LitServe"}
    assert all(row["same"] == {"alone": 1.0, "together": 1.0} for row in written["rows"])
    assert written["missing"] == {"infinity": "infinity needs a hub"}


class Answers:
    def __init__(self, vector):
        self.embed = lambda text: np.array(vector)


def test_a_peer_that_gives_other_vectors_is_an_error():
    same = {"onnxpipe": Answers([1.0, 0.0]), "LitServe": Answers([2.0, 0.0])}
    assert server_load.compare(same)["LitServe"] == {"alone": 1.0, "together": 1.0}
    with pytest.raises(ValueError, match=r"infinity gives other vectors than ours: cosine 0\.6"):
        server_load.compare({**same, "infinity": Answers([3.0, 4.0])})


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
