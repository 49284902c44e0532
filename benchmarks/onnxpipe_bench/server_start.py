"""What a server takes: the time from the start of its process to a first correct answer, memory, and CPU while idle.

    python -m onnxpipe_bench.server_start BUNDLE [--repeats 11]

Every figure is the median over fresh processes, each with the cache of graphs made before, and without one, in turn.
"Proportional" memory counts a page that several processes share in parts; that of several workers is of all their
processes together, the one that began them included.
"""

import argparse
import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onnxpipe.bundle import open_bundle
from onnxpipe_bench.measure import write_result

_BODY = b'{"inputs": "That is a happy person"}'
_TICKS = os.sysconf("SC_CLK_TCK")
_IDLE_S = 5.0


def main() -> None:
    """Measure every precision of a bundle and store the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--repeats", type=int, default=11)
    args = parser.parse_args()
    bundle = open_bundle(args.bundle)
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for precision in bundle.manifest.variants:
            arguments = [args.bundle, "--precision", precision]
            kept = [*arguments, "--model-cache", cache]
            proof = [sys.executable, "-m", "onnxpipe_server.proof", args.bundle, precision, cache]
            subprocess.run(proof, check=True)  # noqa: S603 - this project's own
            pairs = [(measure(kept), measure([*arguments, "--no-model-cache"])) for _ in range(args.repeats)]
            two = measure([*kept, "--workers", "2"], workers=2)
            one = median([pair[0] for pair in pairs])
            rows.append(
                {
                    "precision": precision,
                    "cached": one,
                    "plain": median([pair[1] for pair in pairs]),
                    "two_workers": two,
                    "second_worker_mb": round(two["proportional_mb"] - one["proportional_mb"], 1),
                    "idle_cpu_share": measure(kept, idle_s=_IDLE_S)["idle_cpu_share"],
                }
            )
    print(json.dumps(rows, indent=2))
    print(f"-> {write_result('server_start', {'model': bundle.manifest.id, 'repeats': args.repeats, 'rows': rows})}")


def measure(arguments: Sequence[str], *, workers: int = 1, idle_s: float = 0.0) -> dict[str, float]:
    """Figures of one server: seconds to its first answer, MB of its processes, and its share of a CPU while idle."""
    begin = time.perf_counter()
    with subprocess.Popen(  # noqa: S603 - this project's own
        [sys.executable, "-m", "onnxpipe", "serve", *arguments, "--port", "0", "--log-level", "error"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            port = _read_port(process)
            _ask(port)
            answered_s = time.perf_counter() - begin
            for _ in range(20 * (workers - 1)):  # until each has had some
                _ask(port)
            numbers = [process.pid, *_children(process.pid)]
            used = _cpu_s(numbers)
            time.sleep(idle_s)
            return {
                "first_answer_s": round(answered_s, 3),
                "resident_mb": round(max(_memory_mb(number, "Rss") for number in numbers), 1),
                "proportional_mb": round(sum(_memory_mb(number, "Pss") for number in numbers), 1),
                **({"idle_cpu_share": round((_cpu_s(numbers) - used) / idle_s, 4)} if idle_s else {}),
            }
        finally:
            process.send_signal(signal.SIGTERM)


def median(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {name: round(statistics.median(one[name] for one in figures), 3) for name in figures[0]}


def _read_port(process: subprocess.Popen[str]) -> int:
    for line in process.stdout or ():
        if line.startswith("listening on "):
            return int(line.split(",")[0].rpartition(":")[2])
    raise RuntimeError("the server did not start")


def _ask(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/", _BODY)
    response = connection.getresponse()
    value: Any = json.loads(response.read())  # vectors
    connection.close()
    if response.status != 200 or not value:
        raise RuntimeError(f"the server answered {response.status}: {value}")


def _children(number: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{number}/task/{number}/children").read_text().split()]


def _memory_mb(number: int, name: str) -> float:
    """What the kernel counts as a process's memory, in MB of 2**20 bytes."""
    for line in Path(f"/proc/{number}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"the kernel does not tell {name}")


def _cpu_s(numbers: Sequence[int]) -> float:
    fields = [Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split() for number in numbers]
    return sum(int(one[11]) + int(one[12]) for one in fields) / _TICKS


if __name__ == "__main__":
    main()
