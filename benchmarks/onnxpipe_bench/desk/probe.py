"""A candidate in a process of its own: time to its first answer, and its memory.

python -m onnxpipe_bench.desk.probe '{"candidate": {...}, "task": ..., "length": ..., "begun": ...}'
"""

import dataclasses
import json
import os
import subprocess
import sys
import time
from typing import Any

from onnxpipe.errors import OnnxpipeError
from onnxpipe.load import make_pipeline
from onnxpipe_bench.desk.candidates import Candidate

_MOST_S = 600


def measure_afresh(candidate: Candidate, task: str, length: int) -> dict[str, Any]:
    """Seconds from the start of a process to its first answer, its memory then, and the most behind a long request.

    Memory is None where the system does not tell it. Raises OnnxpipeError when the process fails.
    """
    order = {"candidate": dataclasses.asdict(candidate), "task": task, "length": length, "begun": time.time()}
    command = [sys.executable, "-m", __name__, json.dumps(order)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(  # noqa: S603 - this module
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_MOST_S
        )
    except subprocess.TimeoutExpired:
        raise OnnxpipeError(f"{candidate.key}: no answer of a fresh process within {_MOST_S} s") from None
    if done.returncode:
        reason = done.stderr.strip().splitlines()
        raise OnnxpipeError(f"{candidate.key}: a fresh process ended with {done.returncode}: {' '.join(reason[-1:])}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> int:
    """Measure the candidate that the argument describes, and print the figures."""
    order = json.loads(sys.argv[1])
    fields = order["candidate"]
    candidate = Candidate(**fields | {"providers": tuple(fields["providers"])})
    pipeline = candidate.load(order["task"])
    first_s = None
    if golden := next(iter(pipeline.model.golden), None):
        make_pipeline(pipeline.model, golden.task)(golden.inputs, **golden.parameters)
        first_s = round(time.time() - order["begun"], 3)
    idle_mb = _status_mb("VmRSS")
    # here: what is imported for making requests is no part of a first answer
    from onnxpipe_bench.desk.requests import Requests

    request = Requests(pipeline, order["task"]).make(order["length"])
    pipeline(request.inputs, **request.parameters)
    print(json.dumps({"first_answer_s": first_s, "idle_mb": idle_mb, "peak_mb": _status_mb("VmHWM")}))
    return 0


def _status_mb(name: str) -> float | None:
    """A line of /proc/self/status in MiB; None where there is no such file."""
    try:
        with open("/proc/self/status", encoding="utf-8") as file:  # noqa: PTH123 - pathlib is one more import
            lines = dict(line.split(":", 1) for line in file)
    except OSError:
        return None
    return round(int(lines[name].split()[0]) / 1024, 1)


if __name__ == "__main__":
    sys.exit(main())
