"""Encoders of `peers` in processes of their own, and the candidates of `peers_speed`."""

import contextlib
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxpipe.bundle import open_bundle
from onnxpipe_bench.peer_environments import PEERS, command, environment, last_line

_OWN = Path(__file__).parent / "peers" / "onnxpipe_encoder.py"


class Failed(Exception):
    """An encoder that did not start or has ended; the message says why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """What a row of the result is called, the precision it computes in, and how its process is started."""

    name: str
    precision: str
    command: list[str]
    environment: dict[str, str]


def candidates(names: Iterable[str], root: Path, model: Path, bundle: Path, threads: int) -> Iterator[Candidate]:
    """Every way of the named peers, torch's as the reference first; then the bare work, then this project's own."""
    told = environment(threads, root)
    for name in names:
        for form, precision in PEERS[name].forms.items():
            started = command(name, form, root, model, threads)
            yield Candidate(name=f"{name} {form}", precision=precision, command=started, environment=told)
    precisions = list(open_bundle(bundle).manifest.variants)
    ways = ("bare {}", "bare {} spinning", "bare {} x 32", "onnxpipe {}")
    for precision in precisions:
        for way in ways:
            name = way.format(precision)
            started = [sys.executable, str(_OWN), str(bundle), str(root), str(threads), name.removeprefix("onnxpipe ")]
            yield Candidate(name=name, precision=precision, command=started, environment=told)


class Encoder:
    """One candidate's process. Raises Failed when it does not start, or ends before it is closed."""

    def __init__(self, candidate: Candidate) -> None:
        self.name, self.precision = candidate.name, candidate.precision
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - as long as the process
        try:
            self._process = subprocess.Popen(  # noqa: S603 - scripts of this project
                candidate.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                text=True,
                env=candidate.environment,
            )
        except OSError as error:
            self._said.close()
            raise Failed(f"cannot be started: {error}; is it installed (--setup)?") from error
        self.versions: dict[str, str] = self._read()["versions"]

    def embed(self, texts: list[str]) -> NDArray[np.float64]:
        """Their vectors (B, D)."""
        return np.array(self._ask(texts, 1, vectors=True)["vectors"], np.float64)

    def time(self, texts: list[str], calls: int) -> list[float]:
        """Milliseconds of each of so many calls with all the texts."""
        times: list[float] = self._ask(texts, calls, vectors=False)["ms"]
        return times

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._said.close()

    def _ask(self, texts: list[str], calls: int, *, vectors: bool) -> dict[str, Any]:
        assert self._process.stdin is not None  # noqa: S101 - piped above
        request = {"texts": texts, "calls": calls, "vectors": vectors}
        with contextlib.suppress(BrokenPipeError):  # what it said before it ended is read next
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101 - piped above
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._said.seek(0)
            reason = last_line(self._said.read())
            self.close()
            raise Failed(reason)
        answer: dict[str, Any] = json.loads(line)
        return answer
