"""What several processes of a server have counted, so that each of them can tell of all.

Each writes what it has counted to a file of its own, when that has changed; the process that began them adds what was
counted by one that has ended to what others before it had. Files, for a process that is killed leaves its last one.
"""

import contextlib
import dataclasses
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from onnxpipe_server.processes import SHARED_MEMORY

_log = logging.getLogger(__name__)

_ENDED = "ended.json"


@dataclasses.dataclass
class Family:
    """Numbers of one name, by sample and labels. What is counted stays when a process ends, what is read then does not.

    `over` says what several processes make together: a sum, or the largest.
    """

    name: str
    kind: Literal["counter", "histogram", "gauge"]
    about: str
    over: Literal["sum", "max"]
    samples: list[tuple[str, list[tuple[str, str]], float]]


def merge(families: Iterable[Family]) -> list[Family]:
    """Families of several processes as one, in the order they come in."""
    merged: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for family in families:
        known = values.setdefault(merged.setdefault(family.name, family).name, {})
        for sample, labels, value in family.samples:
            key = sample, tuple((name, text) for name, text in labels)
            if key in known:
                value = known[key] + value if family.over == "sum" else max(known[key], value)
            known[key] = value
    return [
        dataclasses.replace(
            family, samples=[(sample, list(labels), value) for (sample, labels), value in known.items()]
        )
        for family, known in zip(merged.values(), values.values(), strict=True)
    ]


class Totals:
    """The files of the processes of one server. Raises OSError when there is no place for them."""

    def __init__(self) -> None:
        place = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
        self._folder = Path(tempfile.mkdtemp(prefix="onnxpipe-", dir=place))
        self._begun_by = os.getpid()
        self._own: Path | None = None

    def publish(self, families: Sequence[Family]) -> None:
        """Write what this process has counted."""
        if self._own is None:
            # a number may be given again to another process
            self._own = self._folder / f"{os.getpid()}-{time.monotonic_ns()}.json"
        with contextlib.suppress(OSError):  # without room the last file stays
            _write(self._own, families)

    def others(self) -> list[Family]:
        """What all the others have counted, those that have ended too."""
        ended, added = _read(self._folder / _ENDED)
        files = [file for file in self._folder.glob("[0-9]*.json") if file != self._own and file.name not in added]
        return [*ended, *(family for file in files for family in _read(file)[0])]

    def end(self, process: int) -> None:
        """Keep what a process that has ended has counted; only the one that began it calls this."""
        ended, _ = _read(self._folder / _ENDED)
        files = list(self._folder.glob(f"{process}-*.json"))
        counted = [family for file in files for family in _read(file)[0] if family.kind != "gauge"]
        with contextlib.suppress(OSError):
            # the names too: until they are gone nobody counts them twice
            _write(self._folder / _ENDED, merge([*ended, *counted]), [file.name for file in files])
            for file in files:
                file.unlink()

    def leave(self) -> None:
        """Remove the files when this process ends because the one that began it was killed."""
        if os.getppid() != self._begun_by:
            self.close()

    def close(self) -> None:
        """Remove the files."""
        shutil.rmtree(self._folder, ignore_errors=True)


def make_totals() -> Totals | None:
    """A place for the files; None where there is none, which the log says."""
    try:
        return Totals()
    except OSError as error:
        _log.warning("each process counts alone, for there is no place for what they count together: %s", error)
        return None


def _write(file: Path, families: Sequence[Family], added: Sequence[str] = ()) -> None:
    part = file.with_suffix(f".part-{os.getpid()}")
    part.write_text(json.dumps({"families": [vars(one) for one in families], "added": list(added)}))
    part.replace(file)


def _read(file: Path) -> tuple[list[Family], list[str]]:
    """What is in a file, and the files that were added to it; nothing when it is gone."""
    try:
        told = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return [], []
    return [Family(**one) for one in told["families"]], told["added"]
