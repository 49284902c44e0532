import os
import socket
import threading

import httpx
import pytest
import uvicorn

from onnxpipe_server.cli import server_options
from onnxpipe_server.supervised import SupervisedServer


@pytest.fixture(params=["path", "abstract"])
def supervisor(request, tmp_path):
    """The socket of a supervisor, and its address."""
    address = str(tmp_path / "notify") if request.param == "path" else f"\0onnxpipe-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.settimeout(20)
        yield listener, address.replace("\0", "@")


@pytest.fixture
def start(labels):
    """Begins a server in a thread, and ends it; gives the server and its URL."""
    begun = []

    def start(is_ready, **environment):
        listener = socket.create_server(("127.0.0.1", 0))
        server = SupervisedServer(uvicorn.Config(labels.app, **server_options("info")), is_ready, environment)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        begun.append((server, thread))
        return server, f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for server, thread in begun:
        server.should_exit = True
        thread.join()


def test_a_supervisor_is_told_of_readiness_of_life_and_of_the_end(supervisor, start):
    listener, address = supervisor
    ready = threading.Event()
    server, url = start(ready.is_set, NOTIFY_SOCKET=address, WATCHDOG_USEC="400000")

    told = [listener.recv(100) for _ in range(2)]
    assert told == [b"WATCHDOG=1"] * 2
    ready.set()
    while told[-1] != b"READY=1":
        told.append(listener.recv(100))
    assert httpx.get(f"{url}/health").status_code == 200
    server.should_exit = True
    while told[-1] != b"STOPPING=1":
        told.append(listener.recv(100))
    assert told.count(b"READY=1") == 1


def test_without_a_watchdog_only_the_start_and_the_end_are_told(supervisor, start):
    listener, address = supervisor
    server, _ = start(lambda: True, NOTIFY_SOCKET=address)

    assert listener.recv(100) == b"READY=1"
    server.should_exit = True
    assert listener.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nobody/there", "WATCHDOG_USEC": "200000"}])
def test_a_server_without_a_supervisor_or_with_one_that_is_gone_answers(start, environment):
    _, url = start(lambda: True, **environment)
    assert httpx.post(f"{url}/", json="so", timeout=20).status_code == 200
