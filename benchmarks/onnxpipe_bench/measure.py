"""Interleaved timings, percentiles, and the stamp every result carries."""

import datetime
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnxpipe.doctor.facts import installed_versions
from onnxpipe.machine import inspect_machine
from onnxpipe.version import __version__

_ROOT = Path(__file__).resolve().parents[2]
RESULTS = _ROOT / "benchmarks" / "results"
TEST_DATA = Path(os.environ.get("ONNXPIPE_TEST_DATA", _ROOT.parent / "shared" / "data"))

_PACKAGES = ("onnxruntime", "tokenizers", "numpy", "transformers", "torch", "sentence-transformers")


def interleave(
    candidates: Mapping[str, Callable[[], object]], *, repeats: int, warm_up: int = 10
) -> dict[str, list[float]]:
    """Milliseconds of each call, candidates taking turns so that a slow moment of the machine hits all of them.

    Every other turn goes backwards: none always follows the same one and finds what that left in the caches.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(-warm_up, repeats):
        for name, call in list(candidates.items())[:: 1 if turn % 2 else -1]:
            begin = time.perf_counter()
            call()
            elapsed = 1e3 * (time.perf_counter() - begin)
            if turn >= 0:
                times[name].append(elapsed)
    return times


def percentiles(times_ms: list[float]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds, to the microsecond."""
    return {f"p{q}": round(float(np.percentile(times_ms, q)), 3) for q in (50, 95, 99)}


def stamp() -> dict[str, Any]:
    """When, on what and with what a result was measured."""
    machine = inspect_machine()
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": _commit(),
        "cpu": _cpu_name(),
        "isa": list(machine.isa),
        "threads": machine.threads,
        "python": platform.python_version(),
        "onnxpipe": __version__,
        **installed_versions(_PACKAGES),
    }


def write_result(name: str, result: Mapping[str, Any]) -> Path:
    """Write results/`name`.json with the stamp."""
    file = RESULTS / f"{name}.json"
    file.write_text(json.dumps({"stamp": stamp(), **result}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return file


def _commit() -> str:
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a fixed command
    return done.stdout.strip() or "unknown"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
