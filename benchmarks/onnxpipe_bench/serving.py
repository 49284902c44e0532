"""Servers in processes of their own, and what they take of the machine."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from onnxpipe_bench.peer_environments import last_line

_TICKS = os.sysconf("SC_CLK_TCK")
_READY_S = 120.0
_END_S = 10.0


class Running:
    """A server until the end of a `with` block: `python -m MODULE ARGUMENTS`, and `port` is what it tells on stdout.

    One of another `program` is given a `port`, and is ready when it answers GET /health there; what it prints is kept
    for the reason of a failure. Its processes are a group of their own: figures are of all of them, and none outlives
    the block.
    """

    def __init__(
        self,
        *arguments: str,
        program: Sequence[str] = (sys.executable, "-m"),
        port: int = 0,
        folder: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._printed = tempfile.TemporaryFile("w+", errors="replace") if port else None  # noqa: SIM115 - see _end
        self._process = subprocess.Popen(  # noqa: S603 - modules of this project, and interpreters that the user names
            [*program, *arguments],
            stdout=self._printed or subprocess.PIPE,
            stderr=self._printed,
            text=True,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        try:
            if port:
                self._wait_until_ready(port)
            self.port = port or self._read_port()
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """A server that was paused runs within the block."""
        self.resume()
        try:
            yield
        finally:
            self.pause()

    def pause(self) -> None:
        """Stop it where it is: some servers look for work all the time, which others would pay for."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU it has used."""
        return sum(int(fields[11]) + int(fields[12]) for fields in self.processes().values()) / _TICKS

    @property
    def memory_mb(self) -> float:
        """Its resident memory; pages that processes share count in parts."""
        return round(sum(_proportional_mb(number) for number in self.processes()), 1)

    def processes(self) -> dict[int, list[str]]:
        """Each of its processes by number, with the fields of its stat from the state on."""
        found = {}
        for file in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                fields = file.read_text(encoding="utf-8").rpartition(")")[2].split()
                if int(fields[2]) == self._process.pid:
                    found[int(file.parent.name)] = fields
        return found

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _end(self) -> None:
        self.resume()
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        self._signal(signal.SIGKILL)
        self._process.wait()
        for file in (self._process.stdout, self._printed):
            if file is not None:
                file.close()

    def _read_port(self) -> int:
        for line in self._process.stdout or ():
            if line.startswith("listening on "):
                return int(line.split(",")[0].rpartition(":")[2])
        raise ChildProcessError(f"{self._process.args!r} ended before it listened")

    def _wait_until_ready(self, port: int) -> None:
        """Raises ChildProcessError with the last thing that it printed."""
        give_up = time.monotonic() + _READY_S
        while time.monotonic() < give_up and self._process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                with contextlib.closing(connection):
                    connection.request("GET", "/health")
                    if connection.getresponse().status == http.HTTPStatus.OK:
                        return
            time.sleep(0.05)
        assert self._printed is not None  # noqa: S101 - opened where there is a port
        self._printed.seek(0)
        raise ChildProcessError(
            f"not ready within {_READY_S:.0f} s, or ended before: {last_line(self._printed.read())}"
        )


def onnxpipe_server(bundle: str, *, precision: str, options: Sequence[str] = ()) -> Running:
    """`onnxpipe serve` on a free port."""
    return Running(
        "onnxpipe", "serve", bundle, "--precision", precision, "--port", "0", "--log-level", "warning", *options
    )


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _proportional_mb(number: int) -> float:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{number}/smaps_rollup").read_text(encoding="utf-8").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0
