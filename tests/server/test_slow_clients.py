"""Clients that are slow, silent, gone or too talkative, over real sockets: they cost nobody else anything."""

import contextlib
import json
import re
import socket
import threading
import time

import httpx
import pytest
import uvicorn

from fake_writer import writer_of
from onnxpipe_server.app import create_app
from onnxpipe_server.cli import listen, server_options
from onnxpipe_server.models import Models
from onnxpipe_server.settings import Settings

PATIENCE_S = 20
HEAD = b"POST / HTTP/1.1\r\nhost: server\r\n"
WHOLE = HEAD + b'content-length: 4\r\n\r\n"so"'


class Running:
    """A server in a thread, and clients of it that write their own bytes."""

    def __init__(self, address, server, app):
        self.address, self.server, self.app = address, server, app
        self.url = f"http://{address[0]}:{address[1]}"
        self._open = contextlib.ExitStack()

    def connect(self, sent=b"", receive_bytes=None):
        client = self._open.enter_context(socket.socket())
        if receive_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        client.settimeout(PATIENCE_S)
        client.connect(self.address)
        client.sendall(sent)
        return client

    def close(self):
        self._open.close()

    @property
    def connections(self):
        return len(self.server.server_state.connections)

    def wait(self, condition):
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, "it did not come to that"
            time.sleep(0.01)


@contextlib.contextmanager
def serving(*served, **settings):
    app = create_app(Models(served), Settings(**settings))
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, **server_options("warning", Settings(**settings))))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        running = Running(listener.getsockname(), server, app)
        running.wait(lambda: server.started)
        try:
            yield running
        finally:
            running.close()
            server.should_exit = True
            thread.join(PATIENCE_S)


@pytest.fixture(scope="module")
def running(served):
    """A server that waits a second for its clients, and no longer."""
    limits = {"header_timeout": 1, "body_timeout": 1, "send_timeout": 1, "max_header_bytes": 2000, "max_headers": 20}
    with serving(served("acme/steady", "steady"), **limits) as running:
        yield running


def read_all(client):
    """What comes until the server closes."""
    chunks = []
    with contextlib.suppress(ConnectionResetError):
        while chunk := client.recv(65536):
            chunks.append(chunk)
    return b"".join(chunks)


def answer_of(client):
    """Status, headers and JSON of the answer behind which the server closes."""
    head, _, body = read_all(client).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    assert int(headers["content-length"]) == len(body)
    return int(first.split()[1]), headers, json.loads(body)


def trickle(client, content):
    """Send a byte every moment until the server has had enough."""
    with contextlib.suppress(OSError):
        for byte in content:
            client.sendall(bytes([byte]))
            time.sleep(0.1)


def test_half_a_head_is_answered_408_in_json(running):
    status, headers, body = answer_of(running.connect(HEAD))

    assert status == 408
    assert headers["content-type"] == "application/json"
    assert body == {"error": "no whole request came within 1 s", "error_type": "timeout"}


def test_a_head_that_trickles_has_no_more_time(running):
    client = running.connect()
    sender = threading.Thread(target=trickle, args=(client, HEAD * 10), daemon=True)
    sender.start()

    assert answer_of(client)[0] == 408
    sender.join(PATIENCE_S)


def test_a_client_that_says_nothing_is_let_go(running):
    assert read_all(running.connect()) == b""


def test_empty_lines_between_requests_keep_no_connection_open(running):
    client = running.connect(WHOLE)
    client.recv(65536)
    sender = threading.Thread(target=trickle, args=(client, b"\r\n" * 100), daemon=True)
    sender.start()

    read_all(client)
    running.wait(lambda: not running.connections)
    sender.join(PATIENCE_S)
    assert not sender.is_alive()


@pytest.mark.parametrize("rest", [b'"s', b""])
def test_half_a_body_is_answered_408_and_the_slot_is_free(running, rest):
    status, headers, body = answer_of(running.connect(HEAD + b"content-length: 1000\r\n\r\n" + rest))

    assert status == 408
    assert headers["x-request-id"]
    assert headers["connection"] == "close"
    assert body["error_type"] == "timeout"
    assert f"the body did not come: {len(rest)} bytes" in body["error"]
    running.wait(lambda: not running.server.server_state.tasks)


def test_a_body_that_trickles_has_no_more_time(running):
    client = running.connect(HEAD + b"content-length: 1000\r\n\r\n")
    sender = threading.Thread(target=trickle, args=(client, b"x" * 1000), daemon=True)
    sender.start()

    assert answer_of(client)[0] == 408
    sender.join(PATIENCE_S)


def test_a_chunked_body_without_an_end_is_answered_408(running):
    assert answer_of(running.connect(HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\nso\r\n"))[0] == 408


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"x-long: " + b"x" * 3000 + b"\r\n\r\n",  # whole
        HEAD + b"x-long: " + b"x" * 3000,  # without an end
        HEAD + b"".join(b"x-%d: y\r\n" % number for number in range(30)) + b'content-length: 4\r\n\r\n"so"',
        b"GET /" + b"x" * 3000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_too_much_head_is_answered_431_in_json(running, head):
    status, headers, body = answer_of(running.connect(head))

    assert status == 431
    assert headers["content-type"] == "application/json"
    assert body["error_type"] == "too_large"
    assert "at most 2000 bytes and 20" in body["error"]


@pytest.mark.parametrize("said", [b"\x16\x03\x01 nonsense\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n", b"GET / FTP/9\r\n\r\n"])
def test_what_is_no_http_is_answered_400_in_json(running, said):
    status, headers, body = answer_of(running.connect(said))

    assert status == 400
    assert headers["content-type"] == "application/json"
    assert body["error_type"] == "validation"


def test_requests_that_come_in_one_packet_are_answered_in_turn(running):
    client = running.connect(WHOLE + WHOLE + b"GET /health HTTP/1.1\r\nconnection: close\r\n\r\n")

    told = read_all(client)

    assert told.count(b"HTTP/1.1 200 OK") == 3
    assert told.endswith(b'{"status":"ok"}')


def test_a_line_end_behind_a_body_ends_no_request(served, gate):
    with serving(served("acme/labels", "labels"), header_timeout=1) as running:
        client = running.connect(HEAD + b'content-length: 6\r\n\r\n"wait"')
        assert gate.started.acquire(timeout=PATIENCE_S)
        client.sendall(b"\r\n")
        time.sleep(1.5)  # longer than the head of another request may take
        gate.gate.set()

        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_a_web_socket_is_answered_as_any_other_request(running):
    upgrade = b"GET /health HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: eA==\r\n\r\n"

    assert running.connect(upgrade).recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_a_last_answer_that_nobody_reads_is_dropped(running):
    path = b"/models/steady/pipeline/feature-extraction"
    body = json.dumps("y" * 100_000).encode()
    head = b"POST %s HTTP/1.1\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % (path, len(body))
    clients = [running.connect(head + body, receive_bytes=2048) for _ in range(3)]
    assert [client.recv(1) for client in clients] == [b"H"] * 3  # the answers have begun

    running.wait(lambda: not running.connections)


def test_a_connection_is_used_again_and_again(running):
    with httpx.Client(base_url=running.url) as client:
        answers = {client.post("/", json="so").text for _ in range(20)}

    assert answers == {'[[{"label":"so","score":0.5}]]'}


def test_an_answer_that_nobody_reads_is_dropped(running):
    body = json.dumps("x" * 1_500_000).encode()
    path = b"POST /models/steady/pipeline/feature-extraction HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body)
    running.wait(lambda: not running.connections)  # those of other tests are gone
    client = running.connect(path + body, receive_bytes=4096)
    running.wait(lambda: running.connections)

    running.wait(lambda: not running.connections)

    head, _, body = read_all(client).partition(b"\r\n\r\n")  # what the kernel had of it
    assert len(body) < int(re.search(rb"content-length: (\d+)", head)[1])


def test_256_slow_clients_do_not_stop_others(served):
    kinds = (HEAD, HEAD + b'content-length: 1000\r\n\r\n"s', b"", WHOLE)
    with serving(served("acme/steady", "steady"), max_running=2, max_waiting=0) as running:
        slow = [running.connect(kinds[number % 4]) for number in range(256)]
        running.wait(lambda: running.connections == 256)

        with httpx.Client(base_url=running.url, timeout=PATIENCE_S) as client:
            for text in map(str, range(50)):
                assert client.post("/", json=text).json() == [[{"label": text, "score": 0.5}]]
            assert client.get("/health").status_code == 200
        for client in slow[1::4]:  # the other half of the body
            client.sendall(b'o"'.ljust(998))
            assert client.recv(65536).startswith(b"HTTP/1.1 ")


def test_connections_above_the_limit_are_told_to_come_again(served):
    with serving(served("acme/steady", "steady"), max_connections=2) as running:
        first = running.connect(HEAD)
        running.connect(HEAD)
        running.wait(lambda: running.connections == 2)

        status, headers, body = answer_of(running.connect())

        assert status == 503
        assert headers["retry-after"] == "1"
        assert body == {"error": "2 connections are open; try again later", "error_type": "overloaded"}
        first.sendall(b'content-length: 4\r\n\r\n"so"')
        assert first.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_a_client_that_leaves_in_the_middle_of_a_stream_ends_its_work(writing):
    model = writing("acme/letters", "text-generation")
    body = json.dumps({"inputs": "1", "parameters": {"max_new_tokens": 400}, "stream": True}).encode()
    with serving(model) as running:
        for _ in range(5):
            client = running.connect(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
            assert b"data:" in client.recv(65536) + client.recv(65536)
            client.close()

        running.wait(lambda: writer_of(model).idle)
        running.wait(lambda: running.connections == 0)


def test_a_client_that_leaves_while_it_sends_leaves_nothing(running):
    for sent in (HEAD, HEAD + b'content-length: 1000\r\n\r\n"s'):
        for _ in range(20):
            running.connect(sent).close()

    running.wait(lambda: not running.connections and not running.server.server_state.tasks)
    assert httpx.post(running.url, json="so").status_code == 200
