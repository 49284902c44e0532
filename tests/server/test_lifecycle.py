"""When fake models are in memory, asked for over HTTP in this process."""

import asyncio
import dataclasses
import threading
import time
from pathlib import Path

import httpx
import pytest

from onnxpipe.errors import BundleError, InvalidInput
from onnxpipe_server import described
from onnxpipe_server import lifecycle as module
from onnxpipe_server.app import create_app
from onnxpipe_server.described import Plan
from onnxpipe_server.lifecycle import Lifecycle
from onnxpipe_server.models import Models
from onnxpipe_server.settings import Settings
from onnxpipe_server.stock import Stock

# weights of 1.5 MB in `make_served`, half as much again, and the arena
PLANNED_BYTES = 26_250_000


class Stage:
    """A server of models whose loads wait for `gate`, and fail where `problems` says so."""

    def __init__(self, monkeypatch, served, *names, first=(), **settings):
        self.gate = threading.Event()
        self.gate.set()
        self.begun, self.problems, self.revisions = [], {}, {}
        monkeypatch.setattr(module, "open_bundle", lambda path: self.make(path).bundle)
        for place in (module, described):
            monkeypatch.setattr(place, "stamp_of", lambda path: (self.revisions.get(str(path), 0),))
        monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.0)
        self.served = served
        self.settings = Settings(**settings)
        memory, idle = self.settings.memory or None, self.settings.idle_unload or None
        self.lifecycle = Lifecycle(self.load, memory_bytes=memory, idle_s=idle)
        models = [self.lifecycle.add(self.make(name).bundle, None, Plan("cpu", 2)) for name in names]
        self.models = {model.id: model for model in models}
        stock = Stock(Models(models), self.lifecycle, [self.models[name] for name in first])
        self.app = create_app(stock.models, self.settings, None, stock)

    def make(self, path):
        name, revision = str(path), self.revisions.get(str(path), 0)
        served = self.served(name, "labels", revision=f"r{revision}")
        bundle = dataclasses.replace(served.bundle, path=Path(name), digest=f"{revision:064}")
        return dataclasses.replace(served, model=dataclasses.replace(served.model, bundle=bundle))

    def load(self, path):
        self.begun.append(str(path))
        assert self.gate.wait(10)
        if str(path) in self.problems:
            raise self.problems[str(path)]
        return self.make(path)

    def run(self, *requests):
        """The answers to requests at once: each a path, and options of `httpx`."""

        async def send():
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://server", timeout=20) as client:
                return await asyncio.gather(*(self._send(client, *request) for request in requests))

        return asyncio.run(asyncio.wait_for(send(), 20))

    async def _send(self, client, path, options=None):
        if path.startswith("GET "):
            return await client.get(path[4:])
        return await client.post(path, **({"json": {"inputs": "so"}} | (options or {})))

    def ask(self, path, **options):
        (answer,) = self.run((path, options))
        return answer

    def until(self, condition):
        for _ in range(1000):
            if condition():
                return
            time.sleep(0.01)
        pytest.fail("it did not happen")


@pytest.fixture
def stage(monkeypatch, served):
    stages = []

    def build(*names, **options):
        stages.append(Stage(monkeypatch, served, *names, **options))
        return stages[-1]

    yield build
    for one in stages:
        one.gate.set()


def test_a_model_is_loaded_by_the_first_request_and_once_for_all_that_come_with_it(stage):
    server = stage("acme/a", "acme/b")

    answers = server.run(*[("/models/acme/a",)] * 20)

    assert [answer.json() for answer in answers] == [[[{"label": "so", "score": 0.5}]]] * 20
    assert server.begun == ["acme/a"]
    assert [one["state"] for one in server.ask("GET /models").json()] == ["Loaded", "Loadable"]


def test_a_request_that_waited_long_enough_is_told_when_to_come_back(stage):
    server = stage("acme/a", load_wait=0)
    server.gate.clear()

    answer = server.ask("/models/a")

    assert answer.status_code == 503
    assert answer.json()["error"] == "Model acme/a is currently loading"
    assert answer.json()["error_type"] == "loading"
    assert 0 < answer.json()["estimated_time"] <= int(answer.headers["retry-after"])
    assert answer.headers["x-request-id"]
    server.gate.set()
    server.until(lambda: server.models["acme/a"].state == "Loaded")
    assert server.ask("/models/a").status_code == 200


@pytest.mark.parametrize(
    "asked",
    [
        {"headers": {"x-wait-for-model": "1"}},
        {"headers": {"x-wait-for-model": "True"}},
        {"json": {"inputs": "so", "options": {"wait_for_model": True}}},
    ],
)
def test_a_request_may_ask_to_wait_longer(stage, asked):
    server = stage("acme/a", load_wait=0)
    server.gate.clear()
    threading.Timer(0.2, server.gate.set).start()

    assert server.ask("/models/a", **asked).json() == [[{"label": "so", "score": 0.5}]]


def test_the_header_wins_over_the_body(stage):
    server = stage("acme/a", load_wait=0)
    server.gate.clear()
    body = {"inputs": "so", "options": {"wait_for_model": True}}

    assert server.ask("/models/a", json=body, headers={"x-wait-for-model": "0"}).status_code == 503


def test_waiting_ends_with_the_time_a_request_may_take(stage):
    server = stage("acme/a", request_timeout=1)
    server.gate.clear()

    answer = server.ask("/models/a", headers={"x-wait-for-model": "1"})

    assert (answer.status_code, answer.json()["error_type"]) == (504, "timeout")
    assert "acme/a is still loading" in answer.json()["error"]


def test_a_request_may_ask_not_to_load(stage):
    server = stage("acme/a")

    assert server.ask("/models/a", headers={"x-load-model": "0"}).status_code == 503
    assert server.begun == []
    assert server.ask("/models/a").status_code == 200
    assert server.ask("/models/a", headers={"x-load-model": "0"}).status_code == 200


def test_too_many_that_wait_are_refused(stage):
    server = stage("acme/a", max_waiting=2, load_wait=1)
    server.gate.clear()

    answers = server.run(*[("/models/a",)] * 5)

    assert sorted(answer.status_code for answer in answers) == [429, 429, 429, 503, 503]


def test_a_failed_load_is_told_and_not_tried_again_at_once(stage):
    server = stage("acme/a")
    server.problems["acme/a"] = BundleError("acme/a: model.onnx is damaged")

    answers = server.run(("/models/a",), ("/models/a",))
    later = server.ask("/models/a")

    for answer in (*answers, later):
        assert (answer.status_code, answer.json()["error_type"]) == (500, "backend")
        assert answer.json()["error"] == "acme/a: model.onnx is damaged"
    assert server.begun == ["acme/a"]
    status = server.ask("GET /status/acme/a").json()
    assert (status["state"], status["loaded"]) == ("error", False)
    assert status["problem"] == "acme/a: model.onnx is damaged"
    assert server.ask("GET /models/acme/a/health").status_code == 503


def test_a_failed_load_is_tried_again_after_a_pause_or_with_another_bundle(stage, monkeypatch):
    server = stage("acme/a")
    server.problems["acme/a"] = BundleError("damaged")
    server.ask("/models/a")
    server.problems.clear()

    server.revisions["acme/a"] = 1
    assert server.ask("/models/a").headers["x-sha"] == "r1"

    server.lifecycle.unload(server.models["acme/a"])
    server.problems["acme/a"] = BundleError("damaged")
    monkeypatch.setattr(module, "_PAUSES_S", (0.0, 0.0))
    assert server.ask("/models/a").status_code == 500
    server.problems.clear()
    assert server.ask("/models/a").status_code == 200


def test_a_bug_while_loading_is_an_error_without_internals(stage):
    server = stage("acme/a")
    server.problems["acme/a"] = KeyError("the secret of line 7")

    answer = server.ask("/models/a")

    assert answer.status_code == 500
    assert "secret" not in answer.text


def test_the_model_not_used_for_longest_goes_when_another_needs_the_room(stage):
    server = stage("a", "b", "c", memory=2 * PLANNED_BYTES)
    for name in ("a", "b", "a", "c"):
        assert server.ask(f"/models/{name}").status_code == 200

    assert {name: model.state for name, model in server.models.items()} == {
        "a": "Loaded",
        "b": "Loadable",
        "c": "Loaded",
    }
    assert server.ask("/models/b").status_code == 200
    assert server.begun == ["a", "b", "c", "b"]


def test_a_model_in_use_is_not_evicted_and_who_needs_its_room_waits(stage, gate):
    server = stage("a", "b", memory=PLANNED_BYTES)
    server.ask("/models/a")
    answers = []
    busy = threading.Thread(target=lambda: answers.append(server.ask("/models/a", json={"inputs": "wait"})))
    busy.start()
    assert gate.started.acquire(timeout=10)

    waiting = threading.Thread(target=lambda: answers.append(server.ask("/models/b")))
    waiting.start()
    time.sleep(0.1)
    assert (server.models["a"].state, server.begun) == ("Loaded", ["a"])
    gate.gate.set()
    busy.join(10)
    waiting.join(10)

    assert [answer.status_code for answer in answers] == [200, 200]
    assert [server.models[name].state for name in "ab"] == ["Loadable", "Loaded"]


def test_a_model_larger_than_the_memory_is_refused(stage):
    server = stage("acme/a", memory=PLANNED_BYTES - 1)

    answer = server.ask("/models/a")

    assert (answer.status_code, answer.json()["error_type"]) == (403, "too_big")
    assert "The model acme/a is too large to be loaded (26 MB > 26 MB)" in answer.json()["error"]
    assert server.ask("GET /status/a").json()["state"] == "TooBig"


def test_memory_too_small_for_the_models_of_the_start_is_said_with_what_is_needed(stage):
    server = stage("a", "b", memory=PLANNED_BYTES)

    with pytest.raises(InvalidInput, match="--memory: 26 MB are too few, 52 MB are needed: a 26 MB, b 26 MB"):
        server.lifecycle.check_memory(server.models.values())


def test_an_idle_model_is_unloaded_and_comes_back(stage):
    server = stage("acme/a", idle_unload=1)
    server.ask("/models/a")

    server.until(lambda: server.models["acme/a"].state == "Loadable")

    assert server.ask("/models/a").status_code == 200
    assert server.begun == ["acme/a", "acme/a"]


def test_a_replaced_bundle_is_loaded_beside_the_old_one_which_answers_until_then(stage):
    server = stage("acme/a")
    assert server.ask("/models/a").headers["x-sha"] == "r0"
    server.gate.clear()
    server.revisions["acme/a"] = 1

    assert server.ask("/models/a").headers["x-sha"] == "r0"
    assert server.ask("/models/a").headers["x-sha"] == "r0"
    server.gate.set()
    server.until(lambda: server.models["acme/a"].sha == "r1")

    assert server.ask("/models/a").headers["x-sha"] == "r1"
    assert server.begun == ["acme/a", "acme/a"]
    assert server.lifecycle._planned == PLANNED_BYTES


def test_a_request_under_way_ends_with_the_model_it_began_with(stage, gate):
    server = stage("acme/a")
    server.ask("/models/a")
    answers = []
    busy = threading.Thread(target=lambda: answers.append(server.ask("/models/a", json={"inputs": "wait"})))
    busy.start()
    assert gate.started.acquire(timeout=10)
    server.revisions["acme/a"] = 1
    server.ask("/models/a")
    server.until(lambda: server.models["acme/a"].sha == "r1")
    assert server.lifecycle._planned == 2 * PLANNED_BYTES
    gate.gate.set()
    busy.join(10)

    assert answers[0].status_code == 200
    assert server.lifecycle._planned == PLANNED_BYTES


def test_a_corrupt_replacement_is_said_and_the_loaded_model_goes_on(stage):
    server = stage("acme/a")
    server.ask("/models/a")
    server.problems["acme/a"] = BundleError("the new one is damaged")
    server.revisions["acme/a"] = 1

    server.ask("/models/a")
    server.until(lambda: server.models["acme/a"].problem is not None)
    status = server.ask("GET /models/acme/a").json()

    assert server.ask("/models/a").headers["x-sha"] == "r0"
    assert (status["state"], status["loaded"]) == ("Loaded", True)
    assert status["problem"] == "serving what was loaded before: the new one is damaged"
    assert server.begun == ["acme/a", "acme/a"]


def test_the_server_is_ready_when_the_models_of_the_start_have_passed(stage):
    server = stage("acme/a", "acme/b", first=["acme/a"])

    assert server.ask("GET /health/ready").status_code == 503
    assert server.ask("GET /health/ready").json() == {"error": "unhealthy", "error_type": "healthcheck"}
    assert server.ask("GET /health/live").status_code == 200
    server.ask("/models/a")
    assert server.ask("GET /health/ready").status_code == 200


def test_routes_that_look_load_nothing(stage):
    server = stage("acme/a")

    for path in ("/models", "/models/a", "/status/a", "/models/a/info", "/info", "/v1/models", "/openapi.json", "/"):
        assert server.ask(f"GET {path}").status_code == 200
    assert server.begun == []


@pytest.mark.parametrize("path", ["/", "/invocations", "/models/a/pipeline/text-classification"])
def test_every_way_to_a_model_loads_it(stage, path):
    assert stage("acme/a").ask(path).status_code == 200


def test_a_client_that_leaves_while_its_model_loads_is_forgotten(stage):
    server = stage("acme/a")
    server.gate.clear()

    async def leave():
        messages = [{"type": "http.request", "body": b'{"inputs": "so"}'}, {"type": "http.disconnect"}]
        sent = []
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/models/a",
            "raw_path": b"/models/a",
            "query_string": b"",
            "headers": [],
        }

        async def receive():
            return messages.pop(0)

        async def send(message):
            sent.append(message)

        await asyncio.wait_for(server.app(scope, receive, send), 10)
        return sent

    assert asyncio.run(leave()) == []
    assert server.models["acme/a"].wanted == 0
