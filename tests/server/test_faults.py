"""What breaks while a server runs: a process that is killed, a disk that is full, a bundle replaced or damaged."""

import concurrent.futures
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from serving import PATIENCE_S, children_of

TEXT = {"inputs": "so it is"}
# A tenth of a second of work, and more.
LONG = {"inputs": ["so it is " * 40] * 64, "options": {"use_cache": False}}
FULL_DISK = """
mount -t tmpfs -o size=64k tmpfs "$0" || exit 77
cat /dev/zero > "$0/rest" 2> /dev/null
exec "$@" 2> "$0/log"
"""


@contextlib.contextmanager
def serving(*arguments, before=(), **options):
    """A server in a process of its own: its address and the process; it must end well when it is told to."""
    command = [*before, sys.executable, "-m", "onnxpipe", "serve", *map(str, arguments), "--port", "0"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, **options)
    try:
        lines = iter(process.stdout.readline, "")
        address = next((found[1] for line in lines if (found := re.search(r"listening on (\S+),", line))), None)
        if address is None and process.wait() == 77:
            pytest.skip("no file system of one's own here")
        assert address, "the server did not start"
        yield address, process
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def bundle(task_bundles):
    return task_bundles["text-classification"]


def until(condition):
    end = time.monotonic() + PATIENCE_S
    while not (held := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return held


def test_a_process_killed_under_load_loses_what_it_ran_and_nothing_else(bundle):
    if not Path("/proc/self/task").exists():
        pytest.skip("processes are found where Linux tells them")
    outcomes, done = Counter(), threading.Event()
    with serving(bundle, "--workers", "2", "--no-model-cache", stderr=subprocess.DEVNULL) as (address, process):
        expected = httpx.post(address, json=LONG, timeout=60).json()

        def ask():
            while not done.is_set():
                try:
                    answer = httpx.post(address, json=LONG, timeout=60)
                except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                    outcomes["closed"] += 1
                else:
                    told = answer.status_code == 200 and answer.json() == expected
                    outcomes["answered" if told else answer.text] += 1

        def goes_on():
            before = outcomes["answered"]
            return until(lambda: outcomes["answered"] > before + 8)

        with concurrent.futures.ThreadPoolExecutor(8) as clients:
            for _ in range(8):
                clients.submit(ask)
            for victim in children_of(process.pid):
                assert goes_on()
                os.kill(int(victim), signal.SIGKILL)
                assert victim not in children_of(process.pid, but=[victim])
            assert goes_on()
            done.set()

    assert set(outcomes) == {"answered", "closed"}
    assert outcomes["closed"] <= 2 * 8  # what the two processes were at


def test_a_process_that_cannot_be_replaced_leaves_the_others_answering(bundle, tmp_path):
    if not Path("/proc/self/task").exists():
        pytest.skip("processes are found where Linux tells them")
    folder = tmp_path / "one"
    shutil.copytree(bundle, folder)
    manifest = (folder / "manifest.json").read_text()
    with serving(folder, "--workers", "2", "--no-model-cache", stderr=subprocess.DEVNULL) as (address, process):
        victim, other = children_of(process.pid)
        ready = f"{address}/health/ready"
        assert until(lambda: all(httpx.get(ready).status_code == 200 for _ in range(20)))  # both are
        (folder / "manifest.json").write_text("{")
        os.kill(int(victim), signal.SIGKILL)
        end = time.monotonic() + 3  # those that take its place try in the meantime
        while time.monotonic() < end:
            assert httpx.post(address, json=TEXT, timeout=60).status_code == 200
        assert other in children_of(process.pid)
        (folder / "manifest.json").write_text(manifest)
        assert len(children_of(process.pid, but=[victim])) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_log_that_cannot_be_written_stops_nothing(bundle):
    with Path("/dev/full").open("w") as full, serving(bundle, "--no-model-cache", stderr=full) as (address, _):
        assert {httpx.post(address, json=TEXT).status_code for _ in range(5)} == {200}
        assert httpx.post(address, json={"inputs": 5}).status_code == 400


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no file system of one's own here")
def test_a_full_disk_for_the_model_cache_and_the_log_stops_nothing(bundle, tmp_path):
    own = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", FULL_DISK, str(tmp_path))
    with serving(bundle, "--model-cache", tmp_path, before=own) as (address, _):
        for _ in range(2):
            answer = httpx.post(address, json=TEXT, headers={"x-use-cache": "0"})
            assert answer.status_code == 200
        (status,) = httpx.get(f"{address}/models").json()

    assert (status["state"], status["problem"]) == ("Loaded", None)
    assert not any(tmp_path.iterdir())  # what was written there is gone with its file system


def test_a_bundle_replaced_or_damaged_while_it_is_served_leaves_the_old_one_answering(bundle, tmp_path):
    folder = tmp_path / "models/one"
    shutil.copytree(bundle, folder)
    manifest = folder / "manifest.json"
    told = json.loads(manifest.read_bytes())
    graph = folder / next(name for name in told["files"] if name.endswith(".onnx"))
    url = f"/models/{told['id']}"
    with (
        serving("--models", folder.parent, "--no-model-cache", stderr=subprocess.DEVNULL) as (address, _),
        httpx.Client(base_url=address, timeout=60, headers={"x-use-cache": "0"}) as client,
    ):
        first = client.post(url, json=TEXT)

        def problem():
            again = client.post(url, json=TEXT)
            assert again.json() == first.json()
            return client.get(url).json()["problem"] or ""

        graph.write_bytes(graph.read_bytes()[:1000])
        assert problem() == ""
        manifest.write_text("{")
        assert until(lambda: "not JSON" in problem())
        manifest.write_text(json.dumps(told | {"source": {"model": "another", "revision": "r2"}}))
        assert until(lambda: graph.name in problem())
        assert client.post(url, json=TEXT).headers["x-sha"] == first.headers["x-sha"]
        whole = tmp_path / "whole"  # as `onnxpipe export --force` replaces one
        shutil.copytree(bundle, whole)
        (whole / "manifest.json").write_text(json.dumps(told | {"source": {"model": "another", "revision": "r3"}}))
        folder.rename(tmp_path / "old")
        whole.rename(folder)
        assert until(lambda: problem() == "" and client.post(url, json=TEXT).headers["x-sha"] == "r3")
