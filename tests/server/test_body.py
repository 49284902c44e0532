import itertools

import anyio
import pytest
from starlette.requests import Request

from onnxpipe.errors import Cancelled, OnnxpipeError
from onnxpipe_server.body import read_body

LIMIT = 1000  # of the fixture `labels`


async def stream(size, step=100):
    for start in range(0, size, step):
        yield b"x" * min(step, size - start)


@pytest.mark.parametrize("content", [b"x" * LIMIT, b"x"])
def test_a_body_up_to_the_limit_is_read(labels, content):
    assert labels.post("/", content=content).status_code == 200


def test_a_body_that_declares_too_much_is_refused_with_both_sizes(labels):
    response = labels.post("/", content=b"x" * (LIMIT + 1))

    assert response.status_code == 413
    assert response.json() == {
        "error": "the body is too large: at most 1000 bytes are accepted, given 1001",
        "error_type": "too_large",
    }


def test_a_body_that_declares_nothing_is_refused_as_it_grows(labels):
    response = labels.post("/", content=stream(50 * LIMIT))

    assert response.status_code == 413
    assert "at most 1000 bytes are accepted, given 50000" in response.json()["error"]


def test_a_body_that_comes_in_pieces_is_put_together(labels):
    response = labels.post("/", content=stream(LIMIT), headers={"x-use-cache": "0"})

    assert response.headers["x-compute-characters"] == "1000"


def read(messages, headers=()):
    """What reading gives, and how many messages it took."""
    messages = iter(messages)
    taken = []

    async def receive():
        taken.append(message := next(messages))
        return message

    async def run():
        return await read_body(Request({"type": "http", "headers": list(headers)}, receive), LIMIT)

    try:
        return anyio.run(run), len(taken)
    except OnnxpipeError as error:
        return error, len(taken)


def test_an_endless_body_is_not_read_forever():
    piece = {"type": "http.request", "body": b"x" * 2**20, "more_body": True}
    error, taken = read(itertools.repeat(piece))

    assert "too large" in str(error)
    assert 60 < taken < 70


def test_a_client_that_asks_first_need_not_send_too_large_a_body():
    error, taken = read([], [(b"content-length", b"5000"), (b"expect", b"100-continue")])

    assert "given 5000" in str(error)
    assert taken == 0


def test_a_client_that_leaves_while_sending_cancels():
    error, _ = read([{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}])

    assert isinstance(error, Cancelled)
