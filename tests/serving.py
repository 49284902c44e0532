"""A real `onnxpipe serve` in a process of its own, or an application in a thread, on a free port."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path

PATIENCE_S = 20.0


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[tuple[str, str]]:
    """Its address, and what it said at the start; stopped as a service manager would stop it, and must end well."""
    with serving_process(*arguments) as (address, said, _):
        yield address, said


@contextlib.contextmanager
def serving_process(*arguments: str) -> Iterator[tuple[str, str, int]]:
    """The same with the number of its process."""
    # what is kept for a machine would outlive the test
    cache = [] if "--model-cache" in arguments else ["--no-model-cache"]
    command = [sys.executable, "-m", "onnxpipe", "serve", *arguments, *cache, "--port", "0", "--log-level", "warning"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        said = ""
        try:
            while not (found := re.search(r"listening on (http://[\d.]+:\d+),", said)):
                line = process.stdout.readline() if process.stdout else ""
                assert line, f"the server did not start: {said}"
                said += line
            yield found[1], said, process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            rest, _ = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, "")


@contextlib.contextmanager
def serving_app(app: object) -> Iterator[str]:
    """The address of an application that a thread of this process serves."""
    import uvicorn

    from onnxpipe_server.cli import server_options

    server = uvicorn.Server(uvicorn.Config(app, port=0, **server_options("warning")))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
            assert thread.is_alive()
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def children_of(number: int, but: Collection[str] = ()) -> list[str]:
    """The numbers of the two processes that one has begun, none of them in `but`; those there are when time is up."""
    file, end = Path(f"/proc/{number}/task/{number}/children"), time.monotonic() + PATIENCE_S
    while (len(found := file.read_text().split()) < 2 or set(found) & set(but)) and time.monotonic() < end:
        time.sleep(0.02)
    return found


def have_gone(numbers: Collection[str]) -> bool:
    """Whether all these processes end in time."""
    end = time.monotonic() + PATIENCE_S
    while (running := any(map(_is_running, numbers))) and time.monotonic() < end:
        time.sleep(0.02)
    return not running


def _is_running(number: str) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
