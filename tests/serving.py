"""A real `onnxpipe serve`, in a process of its own on a free port."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[tuple[str, str]]:
    """Its address, and what it said at the start; stopped as a service manager would stop it, and must end well."""
    command = [sys.executable, "-m", "onnxpipe", "serve", *arguments, "--port", "0", "--log-level", "warning"]
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
            yield found[1], said
        finally:
            process.send_signal(signal.SIGTERM)
            rest, _ = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, "")
