import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from onnxpipe.errors import BundleError, InvalidInput, OnnxpipeError
from onnxpipe_server import cli
from onnxpipe_server.auth import make_token
from serving import children_of, have_gone

# `onnxpipe serve` as it is, but for the loading: a real bundle would need the tools that export one
SERVE = """
import argparse, dataclasses, pathlib, sys
import conftest
from onnxpipe_server import cli, lifecycle, stock

load = lambda path, **_: conftest.make_served(str(path), conftest.LABELS)
stock.load_served = load
stock.open_bundle = lifecycle.open_bundle = lambda path: dataclasses.replace(load(path).bundle, path=pathlib.Path(path))
parser = argparse.ArgumentParser()
cli.add_arguments(parser)
sys.exit(cli.run(parser.parse_args([*sys.argv[1:], "--no-model-cache"])))
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


def test_processes_share_the_socket_and_one_that_is_killed_is_replaced(start):
    process, lines = start("acme/labels", "--port", "0", "--workers", "2")
    url = re.match(r"listening on (http://127\.0\.0\.1:\d+),", lines[-1])[1]
    first = children_of(process.pid)

    os.kill(int(first[0]), signal.SIGKILL)
    now = children_of(process.pid, but=first[:1])
    for _ in range(20):
        answer = httpx.post(f"{url}/models/acme/labels", json="so", timeout=20)
        assert answer.json() == [[{"label": "so", "score": 0.5}]]
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=20)

    assert process.returncode == 0, log
    assert "is replaced" in log
    assert "Traceback" not in log
    assert have_gone(now)


def test_each_process_tells_what_all_have_counted_those_that_were_killed_too(start):
    process, lines = start("acme/labels", "--port", "0", "--workers", "2")
    url = re.match(r"listening on (http://127\.0\.0\.1:\d+),", lines[-1])[1]
    first = children_of(process.pid)

    def answered():
        # a connection for each, so that both processes are asked
        text = httpx.get(f"{url}/metrics", timeout=20).text
        counts = re.findall(r'^onnxpipe_requests_total{model="acme/labels".*} (\d+)$', text, re.MULTILINE)
        return sum(map(int, counts)), int(re.search(r"^onnxpipe_processes (\d+)$", text, re.MULTILINE)[1])

    def until(expected):
        deadline = time.monotonic() + 20
        seen = []
        while len(seen) < 6 or seen[-6:] != [expected] * 6:
            assert time.monotonic() < deadline, seen[-6:]
            seen.append(answered())

    for _ in range(20):
        assert httpx.post(f"{url}/models/acme/labels", json="so", timeout=20).status_code == 200
    until((20, 2))
    time.sleep(1)  # until both have told each other, whichever of them was asked
    os.kill(int(first[0]), signal.SIGKILL)
    children_of(process.pid, but=first[:1])
    until((20, 2))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)


def test_processes_count_the_work_of_a_token_together(start, tmp_path):
    token, line = make_token("ci", ("infer",), 20)
    (tmp_path / "tokens").write_text(line)
    process, lines = start("acme/labels", "--port", "0", "--workers", "2", "--tokens", str(tmp_path / "tokens"))
    url = re.match(r"listening on (http://127\.0\.0\.1:\d+),", lines[-1])[1]
    headers = {"authorization": f"Bearer {token}"}

    # a connection for each, so that both processes are asked
    answers = [httpx.post(f"{url}/", json=f"a text {n}", headers=headers, timeout=20) for n in range(20)]

    # eight tokens each: the third one goes beyond what is left, and little is refilled
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) <= 5
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)


def test_processes_end_with_the_one_that_began_them(start):
    process, _ = start("acme/labels", "--port", "0", "--workers", "2")
    numbers = children_of(process.pid)

    process.kill()

    assert have_gone(numbers)


def test_several_processes_are_not_begun_for_a_folder_that_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="not a bundle"):
        cli.run(parse(str(tmp_path), "--port", "0", "--workers", "2"))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_model_of_the_start_that_cannot_be_loaded_ends_the_server(workers):
    code = SERVE.replace("stock.load_served = load", "stock.load_served = None")
    done = subprocess.run(
        [sys.executable, "-c", code, "acme/labels", "--port", "0", "--workers", workers],
        env={"PYTHONPATH": ":".join([str(Path(__file__).parent), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert done.returncode == 1
    assert "acme/labels cannot be loaded; the log of the server says why" in done.stderr


@pytest.mark.parametrize("workers", ["0", "-1"])
def test_a_number_of_processes_that_cannot_be_is_refused(workers):
    with pytest.raises(InvalidInput, match="--workers: expected an integer >= 1"):
        cli.run(parse("bundle", "--port", "0", "--workers", workers))


def test_nothing_to_serve_is_said():
    with pytest.raises(InvalidInput, match="name bundles, or a folder of them with --models"):
        cli.run(parse("--port", "0"))


def test_small_answers_do_not_wait_for_the_clients_acknowledgement(monkeypatch):
    """asyncio sets TCP_NODELAY on a connection only when its listener names its protocol."""
    listeners = []
    monkeypatch.setattr(cli, "_serve", lambda listener, *_: listeners.append(listener.proto))

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


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("device", "reason"),
    [
        ("warp", "provider 'warp' is not available here; available: "),
        ("cpu:x", "expected a provider such as cuda, cuda:1"),
        ("azure", "cannot run on azure here"),
    ],
)
def test_a_device_that_is_not_there_ends_the_server_with_the_reason(device, reason, workers):
    """The last one is there, but made to fail."""
    broken = "import onnxruntime\nonnxruntime.InferenceSession._create_inference_session = None\n"
    done = subprocess.run(
        [sys.executable, "-c", broken + SERVE, "acme/labels", "--port", "0", "--device", device, "--workers", workers],
        env={"PYTHONPATH": ":".join([str(Path(__file__).parent), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert done.returncode == 1
    assert reason in done.stderr


def test_the_device_was_once_called_provider():
    assert parse("one", "--device", "cuda:1", "--provider", "cpu").provider == ["cuda:1", "cpu"]


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


def test_a_server_with_tokens_wants_one_and_logs_json(start, tmp_path):
    token, line = make_token("ci", ("infer",))
    (tmp_path / "tokens").write_text(line)

    process, lines = start("acme/labels", "--port", "0", "--tokens", str(tmp_path / "tokens"), "--log-format", "json")

    url = re.match(r"listening on (http://127\.0\.0\.1:\d+),", lines[-1])[1]
    with httpx.Client(base_url=url) as client:
        assert client.post("/", json="so").status_code == 401
        assert client.post("/", json="so", headers={"authorization": f"Bearer {token}"}).status_code == 200
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=20)
    told = [json.loads(line) for line in log.splitlines()]
    assert [line["status"] for line in told if line["logger"] == "onnxpipe_server.requests"] == [401, 200]
    assert token not in log


def test_tokens_that_are_none_keep_the_server_from_starting(monkeypatch):
    monkeypatch.setenv("ONNXPIPE_TOKENS", "hunter2")

    with pytest.raises(InvalidInput, match="ONNXPIPE_TOKENS: token 1 is too short"):
        cli.run(parse("bundle", "--port", "0"))


def test_what_is_on_or_off_is_a_switch():
    assert parse("one").open_metrics
    assert not parse("one", "--no-open-metrics").open_metrics


def test_hosts_may_be_given_in_one_list_or_in_several():
    assert parse("one", "--allow-urls", "a.test,b.test", "--allow-urls", "10.0.0.0/8").allow_urls == [
        "a.test",
        "b.test",
        "10.0.0.0/8",
    ]
