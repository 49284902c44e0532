"""The ingress before replicas: here over replicas in this process, at the end on a local Ray (`make ray`)."""

import asyncio
import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from onnxpipe.errors import InvalidInput, Overloaded
from onnxpipe_server import ray_app
from onnxpipe_server.app import create_app
from onnxpipe_server.described import Description, Plan
from onnxpipe_server.models import Models
from onnxpipe_server.ray_app import Options, Remote, Replica, Replicas, make_ingress

TESTS = Path(__file__).parents[1]


class Lost(Exception):
    """The replica is gone."""


class Ask:
    """Replicas in this process, of which the first `deaths` die after so many messages."""

    def __init__(self, served, settings):
        self.replicas = {}
        self.asked = []
        self.deaths = 0
        self.after = 0
        for one in served:
            replica = Replica.__new__(Replica)
            replica._app = create_app(Models([one]), settings)
            replica._at_work = set()
            self.replicas[one.id] = replica

    async def __call__(self, model, scope, body):
        self.asked.append((model.id, scope, body))
        dies = len(self.asked) <= self.deaths
        if dies and self.after == 0:
            raise Lost
        count = 0
        async for message in self.replicas[model.id].answer(dict(scope), body):
            yield message
            count += 1
            if dies and count == self.after:
                raise Lost


@pytest.fixture
def cluster(served, letters_model, make_client, monkeypatch):
    """A client of an ingress before three models, and what asks their replicas."""
    models = [served("acme/labels", "labels"), served("acme/embedder", "embedder"), letters_model]

    def describe(_):
        keeper = Replicas()
        return [Remote(Description(one.bundle, one.precision, one.kinds, ()), Plan("cpu", 1), keeper) for one in models]

    monkeypatch.setattr(ray_app, "find_models", describe)
    monkeypatch.setattr(ray_app, "_PAUSE_S", 0.0)
    options = Options()
    ask = Ask(models, ray_app.Settings())
    client = make_client(models[0])
    client.app = make_ingress(options, ask, (Lost,))
    return client, ask


@pytest.mark.parametrize(
    ("path", "body", "model"),
    [
        ("/models/acme/labels", {"inputs": "so it is"}, "acme/labels"),
        ("/models/labels", {"inputs": "so it is"}, "acme/labels"),
        ("/pipeline/feature-extraction/acme/embedder", {"inputs": "one"}, "acme/embedder"),
        ("/v1/completions", {"prompt": "w"}, "acme/letters"),
        ("/v1/completions", {"prompt": "w", "model": "letters"}, "acme/letters"),
        ("/generate", {"inputs": "one"}, "acme/letters"),
    ],
)
def test_a_request_is_answered_by_a_replica_of_the_model_that_the_server_would_choose(cluster, path, body, model):
    client, ask = cluster
    response = client.post(path, json=body, headers={"origin": "https://page.example", "x-request-id": "mine"})

    assert response.status_code == 200
    assert [asked[0] for asked in ask.asked] == [model]
    assert json.loads(ask.asked[0][2]) == body
    assert response.headers["x-request-id"] == "mine"
    assert response.headers.get_list("access-control-allow-origin") == ["*"]
    told = dict(ask.asked[0][1]["headers"])
    assert told[b"x-request-id"] == b"mine"
    assert b"origin" not in told


def test_what_needs_no_model_is_answered_by_the_ingress(cluster):
    client, ask = cluster

    assert [model["state"] for model in client.get("/models").json()] == ["Loaded"] * 3
    assert client.get("/health/ready").status_code == 200
    assert client.get("/openapi.json").status_code == 200
    assert client.post("/models/nobody", json={"inputs": "x"}).status_code == 404
    assert client.post("/models/acme/labels", content=b"{").status_code == 400
    assert not ask.asked


def test_errors_of_a_replica_are_its_answers(cluster):
    client, ask = cluster
    response = client.post("/models/acme/labels", json={"inputs": "invalid"})

    assert (response.status_code, response.json()["error"]) == (400, "bad text")
    assert len(ask.asked) == 1


@pytest.mark.parametrize("after", [0, 1])
def test_a_request_whose_replica_dies_is_answered_by_another(cluster, after):
    client, ask = cluster
    ask.deaths, ask.after = 2, after
    response = client.post("/models/acme/labels", json={"inputs": "so"})

    assert response.json() == [[{"label": "so", "score": 0.5}]]
    assert len(ask.asked) == 3


def test_an_answer_that_has_begun_is_not_begun_again(cluster):
    client, ask = cluster
    ask.deaths, ask.after = 1, 3

    with pytest.raises(Lost):  # the connection ends
        client.post("/generate_stream", json={"inputs": "w"})
    assert len(ask.asked) == 1


def test_a_model_without_a_replica_that_lives_is_overloaded(cluster):
    client, ask = cluster
    ask.deaths = 100
    response = client.post("/v1/completions", json={"prompt": "w"})

    assert response.status_code == 429
    assert response.json()["error"]["code"] == "overloaded"
    assert len(ask.asked) == ray_app._ATTEMPTS


def test_what_ray_refuses_is_said_in_the_words_of_the_route(cluster):
    client, ask = cluster

    async def refuse(*_):
        raise Overloaded("too many requests wait")
        yield

    ask.replicas = {name: type("Full", (), {"answer": refuse})() for name in ask.replicas}
    assert client.post("/", json={"inputs": "so"}).status_code == 400  # several models
    response = client.post("/models/labels", json={"inputs": "so"})
    assert (response.status_code, response.json()["error_type"]) == (429, "overloaded")


def test_a_stream_comes_through_event_by_event(cluster):
    client, _ = cluster
    response = client.post("/generate_stream", json={"inputs": "w"})

    events = [line for line in response.text.splitlines() if line.startswith("data:")]
    assert len(events) > 1
    assert response.headers["content-type"].startswith("text/event-stream")


def test_a_token_pays_at_the_ingress_for_what_the_replica_did(cluster, monkeypatch, tmp_path):
    from onnxpipe_server.auth import make_token

    token, line = make_token("ci", ("infer",), 1000)
    (tmp_path / "tokens").write_text(line)
    client, ask = cluster
    client.app = make_ingress(Options(tokens=tmp_path / "tokens"), ask, (Lost,))

    assert client.post("/models/labels", json={"inputs": "so"}).status_code == 401
    headers = {"authorization": f"Bearer {token}"}
    assert client.post("/models/labels", json={"inputs": "a b c" * 100}, headers=headers).status_code == 200
    left = client.post("/models/labels", json={"inputs": "so"}, headers=headers)
    assert int(left.headers["x-ratelimit-remaining-tokens"]) < 1000 - 400


def test_a_replica_tells_its_application_that_nobody_listens_any_more():
    gone = []

    async def application(scope, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        gone.append((await receive())["type"])

    async def leave():
        replica = Replica.__new__(Replica)
        replica._app, replica._at_work = application, set()
        messages = replica.answer({"type": "http"}, b"")
        await anext(messages)
        await messages.aclose()
        await asyncio.sleep(0.01)

    asyncio.run(leave())
    assert gone == ["http.disconnect"]


def test_options_may_differ_by_model_and_unknown_ones_are_refused():
    options = Options(min_replicas="2", per_model={"acme/labels": {"min_replicas": 3, "cpus": 4}})

    assert (options.of("acme/labels").min_replicas, options.of("acme/labels").threads) == (3, 4)
    assert (options.of("acme/other").min_replicas, options.of("acme/other").threads) == (2, 1)
    with pytest.raises(ValueError, match="replicas"):
        Options(replicas=2)


needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not in this environment: `make ray` makes one that has it"
)


def test_nothing_to_serve_is_said(tmp_path):
    with pytest.raises(InvalidInput, match="nothing to serve"):
        ray_app.build({"models": str(tmp_path)})


@needs_ray
def test_a_replica_that_is_killed_under_load_costs_no_request(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = subprocess.run(
        # -P: there is another conftest beside the script
        [sys.executable, "-P", str(TESTS / "server" / "ray_under_load.py"), str(tmp_path), str(port)],
        env=os.environ | {"PYTHONPATH": f"{TESTS}/runtime:{TESTS}", "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))

    assert list(told["statuses"]) == ["200"]
    assert told["statuses"]["200"] > 8
    assert told["answers"] == 1
    assert (told["before"], told["after"]) == (2, 2)  # the lost one has been replaced
    assert set(told["routes"].values()) == {200}
    assert told["states"] == ["Loaded"]
    assert told["embedded"] == 200
    assert told["unknown"] == [404, {"error": "Model nobody does not exist", "error_type": "not_found"}]
