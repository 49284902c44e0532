import argparse
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from onnxpipe.errors import BundleError, InvalidInput, OnnxpipeError
from onnxpipe_server import cli

# `onnxpipe serve` as it is, but for the loading: a real bundle would need the tools that export one
SERVE = """
import argparse, pathlib, sys
import conftest
from onnxpipe_server import cli, models

models.load_served = lambda path, **_: conftest.make_served(path, conftest.LABELS)
parser = argparse.ArgumentParser()
cli.add_arguments(parser)
sys.exit(cli.run(parser.parse_args()))
"""


@pytest.fixture(autouse=True)
def _own_signals():
    """`run` is made for a process of its own: it keeps the signal handlers that it sets."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def parse(*arguments):
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return parser.parse_args(arguments)


@pytest.fixture
def start():
    """Starts a server in a process of its own and gives it with what it printed."""
    processes = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, *arguments],
            env={"PYTHONPATH": ":".join([str(Path(__file__).parent), *filter(None, sys.path)])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        lines = []
        while not lines or not lines[-1].startswith("listening on "):
            line = process.stdout.readline()
            if not line:
                pytest.fail(process.stderr.read())
            lines.append(line.rstrip())
        return process, lines

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_server_says_what_it_serves_answers_and_stops_cleanly(start, stop):
    process, lines = start("acme/labels", "--port", "0", "--max-body-bytes", "1000")
    url = re.match(r"listening on (http://127\.0\.0\.1:\d+),", lines[-1])[1]

    assert lines[0] == f"{url}/models/acme/labels  text-classification  fp32  1.5 MB  cpu, 2 threads"
    with httpx.Client(base_url=url) as client:
        assert client.get("/health").json() == {"status": "ok"}
        assert client.post("/models/acme%2Flabels", json="so").json() == [[{"label": "so", "score": 0.5}]]
        refused = client.post("/", content=b"x" * 20_000_000)
        assert refused.status_code == 413
        assert "at most 1000 bytes are accepted, given 20000000" in refused.json()["error"]
        process.send_signal(stop)
        _, log = process.communicate(timeout=20)
    assert process.returncode == 0, log
    assert "Traceback" not in log


def test_small_answers_do_not_wait_for_the_clients_acknowledgement(monkeypatch):
    """asyncio sets TCP_NODELAY on a connection only when its listener names its protocol."""
    listeners = []
    monkeypatch.setattr(cli, "_serve", lambda listener, settings, args: listeners.append(listener.proto))

    assert cli.run(parse("bundle", "--port", "0")) == 0
    assert listeners == [socket.IPPROTO_TCP]


def test_a_port_in_use_is_said_at_once():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(OnnxpipeError, match=f"cannot listen on 127.0.0.1 port {port}: .*in use"):
            cli.run(parse("bundle", "--port", str(port)))


@pytest.mark.parametrize("port", ["-1", "70000"])
def test_a_port_that_cannot_be_is_refused(port):
    with pytest.raises(InvalidInput, match="--port: expected an integer from 0 to 65535"):
        cli.run(parse("bundle", "--port", port))


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError, match="not a bundle"):
        cli.run(parse(str(tmp_path), "--port", "0"))


def test_a_setting_out_of_range_is_refused():
    with pytest.raises(InvalidInput, match="`max_body_bytes`: expected a number >= 1"):
        cli.run(parse("bundle", "--port", "0", "--max-body-bytes", "0"))


def test_the_defaults_listen_on_this_machine_only():
    args = parse("one", "two")

    assert (args.bundles, args.host, args.port) == (["one", "two"], "127.0.0.1", 8000)


def test_reading_the_arguments_loads_no_server():
    code = "import sys, onnxpipe_server.cli; print([m for m in ('fastapi', 'uvicorn', 'pydantic') if m in sys.modules])"

    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
