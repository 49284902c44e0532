"""Requests over real sockets whose rows wait for a model that a test holds back."""

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from onnxpipe.pipeline import Pipeline, Work
from onnxpipe.records import Record
from onnxpipe_server.app import create_app
from onnxpipe_server.models import Models, Served
from onnxpipe_server.settings import Settings
from scheduled import BAD, Engine, House, wait_until
from serving import serving_app


class NoParameters(Record):
    """None."""


class Doubles(Pipeline[str, NoParameters, list[int]]):
    """The numbers in a text, doubled by the model."""

    def preprocess(self, inputs, parameters):
        row = {"input_ids": np.array([int(word) for word in inputs.split()])}
        return Work([row], lambda outputs: outputs[0]["doubled"].tolist())


@pytest.fixture
def gate():
    gate = threading.Semaphore(0)
    yield gate
    gate.release(1000)


@pytest.fixture
def house(gate):
    house = House(Engine(gate=gate))
    yield house
    gate.release(1000)
    house.close()


@pytest.fixture
def app(house):
    return create_app(Models([Served(house.model, {"feature-extraction": Doubles(house.model)})]), Settings())


def post(address, text, **headers):
    return httpx.post(f"{address}/models/a", json={"inputs": text}, headers=headers, timeout=20)


def test_requests_share_a_run_and_each_gets_its_own_answer(app, house, gate):
    with serving_app(app) as address, ThreadPoolExecutor(12) as pool:
        first = [pool.submit(post, address, text) for text in ("1", "2")]
        wait_until(lambda: len(house.engine.batches) == 2)
        others = [pool.submit(post, address, f"{number} 7") for number in range(3, 13)]
        house.wait_for_rows(12)
        gate.release(100)
        answers = [future.result() for future in first + others]

    assert [answer.json() for answer in answers] == [[2], [4], *([2 * number, 14] for number in range(3, 13))]
    assert [len(batch) for batch in house.engine.batches] == [1, 1, 10]
    assert int(answers[5].headers["x-queue-time"]) >= 0


def test_what_the_model_makes_of_one_request_fails_that_one_alone(app, house, gate):
    gate.release(100)
    with serving_app(app) as address, ThreadPoolExecutor(8) as pool:
        texts = ["1", str(BAD), "3", str(BAD), "5"]
        answers = list(pool.map(lambda text: post(address, text), texts * 8))

    assert {answer.status_code for text, answer in zip(texts * 8, answers, strict=True) if text == str(BAD)} == {500}
    assert [answer.json() for answer in answers[::5]] == [[2]] * 8


def test_a_client_that_hangs_up_frees_its_rows_before_they_run(app, house, gate):
    with serving_app(app) as address, ThreadPoolExecutor(2) as pool:
        first = [pool.submit(post, address, text) for text in ("1", "2")]
        wait_until(lambda: len(house.engine.batches) == 2)
        host, port = address.removeprefix("http://").split(":")
        body = json.dumps({"inputs": "3"})
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(f"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
            house.wait_for_rows(3)
        wait_until(lambda: house.scheduler.rows == 2)
        gate.release(100)

    assert [future.result().json() for future in first] == [[2], [4]]
    assert sorted(house.engine.batches) == [[1], [2]]


def test_a_request_whose_time_is_over_is_answered_before_the_model_comes_to_it(app, house, gate):
    with serving_app(app) as address, ThreadPoolExecutor(2) as pool:
        first = [pool.submit(post, address, text) for text in ("1", "2")]
        wait_until(lambda: len(house.engine.batches) == 2)
        late = post(address, "3", **{"x-request-timeout": "0.1"})
        gate.release(100)

    assert late.status_code == 504
    assert late.json() == {"error": "Request timed out after 0.1 s", "error_type": "timeout"}
    assert late.headers["retry-after"] == "1"
    assert [future.result().json() for future in first] == [[2], [4]]
    assert sorted(house.engine.batches) == [[1], [2]]


def test_everything_accepted_is_answered_when_the_server_stops(app, house, gate):
    with ThreadPoolExecutor(20) as pool:
        with serving_app(app) as address:
            futures = [pool.submit(post, address, str(number)) for number in range(1, 21)]
            house.wait_for_rows(20)
            threading.Timer(0.1, gate.release, (100,)).start()
            # leaving the block stops the server while all of them wait
        assert [future.result().json() for future in futures] == [[2 * number] for number in range(1, 21)]
