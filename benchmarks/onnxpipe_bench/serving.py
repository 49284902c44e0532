"""Servers in processes of their own, and what they take of the machine."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")


class Running:
    """A server started by `python -m MODULE ARGUMENTS`, until the end of a `with` block; `port` is what it told."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - modules of this project
            [sys.executable, "-m", *arguments], stdout=subprocess.PIPE, text=True
        )
        self.port = self._read_port()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None  # noqa: S101 - piped above
        self._process.stdout.close()

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU it has used."""
        fields = self._read("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def memory_mb(self) -> float:
        """Its resident memory."""
        return self._status("VmRSS")

    @property
    def peak_memory_mb(self) -> float:
        """The most that was resident at once."""
        return self._status("VmHWM")

    def _status(self, name: str) -> float:
        (line,) = [line for line in self._read("status").splitlines() if line.startswith(f"{name}:")]
        return round(int(line.split()[1]) / 1024, 1)

    def _read(self, name: str) -> str:
        return Path(f"/proc/{self._process.pid}/{name}").read_text(encoding="utf-8")

    def _read_port(self) -> int:
        assert self._process.stdout is not None  # noqa: S101 - piped above
        for line in self._process.stdout:
            if line.startswith("listening on "):
                return int(line.split(",")[0].rpartition(":")[2])
        self._process.stdout.close()
        self._process.wait()
        raise ChildProcessError(f"{self._process.args!r} ended before it listened")


def onnxpipe_server(bundle: str, *, precision: str, options: Sequence[str] = ()) -> Running:
    """`onnxpipe serve` on a free port."""
    return Running(
        "onnxpipe", "serve", bundle, "--precision", precision, "--port", "0", "--log-level", "warning", *options
    )
