"""A real `onnxpipe serve` in a process of its own, or an application in a thread, on a free port."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator


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

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
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
