"""The server under load, beside a bare Starlette handler around tokenise + `session.run`, and beside other servers.

    python -m onnxpipe_bench.server_load BUNDLE [--seconds 1.5] [--turns 3] [--peers [--setup]]

Each row of `rows` is one server with so many connections, each of which sends its next request when it has its answer:
answers per second, medians of the turns. `steady` is the server at 80 % of its peak, requests coming at random moments;
`overload` at twice the peak. LitServe and infinity (`peer_servers`) have environments of their own: under --root with
--peers, made by --setup, or elsewhere (--litserve, --infinity); those that do not start are in `missing`. All get the
same graph, each in its own processes, which are stopped while others have their turn; `same` is the worst cosine of an
answer to ours, alone and in a batch. `http_cpu_ms` is the CPU of a request whose run is free, less tokenising and
pooling.
"""

import argparse
import contextlib
import dataclasses
import http.client
import json
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxpipe.bundle import open_bundle
from onnxpipe.load import make_pipeline
from onnxpipe_bench.load_client import Outcome, Plan, send_load
from onnxpipe_bench.measure import write_result
from onnxpipe_bench.peer_servers import SERVERS, found, set_up
from onnxpipe_bench.peers.idle_server import idle_model
from onnxpipe_bench.serving import Running, onnxpipe_server

_CONNECTIONS = (1, 8, 32, 256)
_BARE, _OURS = "bare handler", "onnxpipe"
_SHORT_TOKENS = 16
_OPEN_CONNECTIONS = 768
# of lengths that a batch pads
_TEXTS = (
    "A short one.",
    "That is a happy person, and this one is not.",
    "The committee met twice in spring, and once more in autumn, when it was dissolved without a word.",
    "Rain fell on the harbour all night. " * 8,
)
_SAME = 0.99


@dataclasses.dataclass(frozen=True)
class Target:
    """A server, where it embeds texts, and the field of a request that has the text."""

    running: Running
    path: str
    field: str = "inputs"

    def embed(self, text: str) -> NDArray[np.float64]:
        """Its vector for a text: of vectors of tokens, the mean."""
        connection = http.client.HTTPConnection("127.0.0.1", self.running.port, timeout=60)
        headers = {"content-type": "application/json", "x-use-cache": "false"}
        with contextlib.closing(connection):
            connection.request("POST", self.path, json.dumps({self.field: text}), headers)
            answer = json.loads(connection.getresponse().read())
        vectors = np.array(answer["data"][0]["embedding"] if isinstance(answer, dict) else answer, np.float64)
        mean: NDArray[np.float64] = vectors.reshape(-1, vectors.shape[-1]).mean(axis=0)
        return mean

    def load(self, kind: str, *, connections: int, seconds: float, rate: float | None = None) -> Outcome:
        """What comes of a load with that kind of inputs."""
        return send_load(
            Plan(
                port=self.running.port,
                path=self.path,
                bodies=[json.dumps({self.field: json.loads(body)["inputs"]}) for body in bodies(kind)],
                connections=connections,
                seconds=seconds,
                rate=rate,
                headers={"x-use-cache": "false"},
            )
        )


def main() -> None:
    """Measure every precision of a bundle and store the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each load (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="of each server at each load (default: %(default)s)")
    parser.add_argument("--peers", action="store_true", help="measure those whose environment is under --root too")
    parser.add_argument("--setup", action="store_true", help="make these environments first")
    parser.add_argument("--root", type=Path, default=Path(".cache/peers"), help="where they are (default: %(default)s)")
    parser.add_argument("--litserve", metavar="PYTHON", help="an interpreter that has LitServe")
    parser.add_argument("--infinity", metavar="PYTHON", help="an interpreter that has infinity-emb[optimum,server]")
    args = parser.parse_args()
    missing = set_up(args.root) if args.setup else {}
    pythons = {"LitServe": args.litserve, "infinity": args.infinity}
    if args.peers:
        pythons["LitServe"] = args.litserve or found(args.root, "litserve")
        pythons["infinity"] = args.infinity or found(args.root, "infinity-server")
    bundle = open_bundle(args.bundle)
    path = f"/models/{bundle.manifest.id}/pipeline/feature-extraction"
    rows: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for precision in bundle.manifest.variants:
        with contextlib.ExitStack() as stack:
            bare = stack.enter_context(Running("onnxpipe_bench.peers.bare_server", args.bundle, precision))
            ours = stack.enter_context(onnxpipe_server(args.bundle, precision=precision))
            servers = {_BARE: Target(bare, "/"), _OURS: Target(ours, path)}
            for name, python in pythons.items():
                try:
                    servers |= start_peer(stack, name, python, args.bundle, precision)
                except OSError as error:
                    missing[name] = str(error)
            same = compare(servers)
            measured = measure_closed(servers, seconds=args.seconds, turns=args.turns)
            rows += [{"precision": precision, **row, "same": same[row["server"]]} for row in measured]
            ours.resume()
            others.append({"precision": precision, **measure_open(servers[_OURS], measured, seconds=3 * args.seconds)})
    http_cpu_ms = measure_http(args.bundle, path, seconds=args.seconds)
    print(f"HTTP and JSON: {http_cpu_ms} ms of CPU per request")
    result = {"seconds": args.seconds, "turns": args.turns, "http_cpu_ms": http_cpu_ms, "rows": rows, "open": others}
    result |= {"missing": missing}
    print(f"-> {write_result('server_load', {'model': bundle.manifest.id, **result})}")


def start_peer(
    stack: contextlib.ExitStack, name: str, python: str | None, bundle: str, precision: str
) -> dict[str, Target]:
    """A peer by its name, until the end of the stack. Raises OSError where it does not start."""
    if python is None:
        return {}
    start, path, field = SERVERS[name]
    return {name: Target(stack.enter_context(start(python, bundle, precision)), path, field)}


def compare(servers: Mapping[str, Target]) -> dict[str, dict[str, float]]:
    """The worst cosine of each server's vectors to ours, asked one by one and all at once.

    Raises ValueError where one gives other vectors even to a text alone: it has not understood the model.
    """
    ours = [servers[_OURS].embed(text) for text in _TEXTS]
    same = {}
    for name, server in servers.items():
        with ThreadPoolExecutor(len(_TEXTS)) as pool:
            ways = {"alone": [server.embed(text) for text in _TEXTS], "together": list(pool.map(server.embed, _TEXTS))}
        same[name] = {
            way: round(min(_cosine(*pair) for pair in zip(ours, vectors, strict=True)), 4)
            for way, vectors in ways.items()
        }
        if same[name]["alone"] < _SAME:
            raise ValueError(f"{name} gives other vectors than ours: cosine {same[name]['alone']}")
    return same


def bodies(kind: str) -> list[str]:
    """Requests of 16 tokens, or of lengths as texts have them: half below 40 tokens, one in twenty above 160."""
    draw = random.Random(0)  # noqa: S311 - the same texts every time
    lengths = (
        [_SHORT_TOKENS] if kind == "short" else [min(int(draw.lognormvariate(3.7, 0.85)), 256) for _ in range(200)]
    )
    return [json.dumps({"inputs": "word " * max(length - 2, 1)}) for length in lengths]


def measure_closed(servers: dict[str, Target], *, seconds: float, turns: int) -> list[dict[str, Any]]:
    """The figures of each server, kind of input and number of connections; servers take turns."""
    found: dict[tuple[str, str, int], list[dict[str, float]]] = defaultdict(list)
    for server in servers.values():
        server.load("mixed", connections=4, seconds=min(seconds, 1))
        server.running.pause()
    for turn in range(turns):
        for kind in ("short", "mixed"):
            for connections in _CONNECTIONS:
                for name, server in list(servers.items())[:: 1 if turn % 2 else -1]:
                    with server.running.awake():
                        begin = server.running.cpu_s
                        outcome = server.load(kind, connections=connections, seconds=seconds)
                        cpu_ms = 1e3 * (server.running.cpu_s - begin) / len(outcome.times_ms[200])
                    found[name, kind, connections].append({**figures(outcome), "cpu_ms": round(cpu_ms, 3)})
    rows = []
    for (name, kind, connections), measured in found.items():
        row = {figure: round(statistics.median(one[figure] for one in measured), 3) for figure in measured[0]}
        memory = {"memory_mb": servers[name].running.memory_mb}
        rows.append({"server": name, "inputs": kind, "connections": connections, **row, **memory})
        print(*rows[-1].values(), sep="  ")
    return rows


def measure_open(server: Target, rows: Sequence[dict[str, Any]], *, seconds: float) -> dict[str, Any]:
    """The server at 80 % of the peak of short inputs, and at twice that."""
    own = [row for row in rows if row["server"] == _OURS and row["inputs"] == "short"]
    peak = max(row["per_second"] for row in own)
    steady = server.load("short", connections=_OPEN_CONNECTIONS, seconds=seconds, rate=0.8 * peak)
    before = server.running.memory_mb
    overload = server.load("short", connections=_OPEN_CONNECTIONS, seconds=seconds, rate=2 * peak)
    refused = overload.times_ms.get(429, [0.0])
    found = {
        "peak_per_second": peak,
        "steady": figures(steady),
        "overload": {
            **figures(overload),
            "refused": len(refused),
            "refused_p99_ms": round(float(np.percentile(refused, 99)), 2),
            "statuses": sorted(overload.times_ms),
            "memory_mb": [before, server.running.memory_mb],
        },
    }
    print(json.dumps(found))
    return found


def measure_http(bundle: str, path: str, *, seconds: float) -> float:
    """Milliseconds of CPU that a request takes beside tokenising, pooling and the run."""
    pipeline = make_pipeline(idle_model(bundle), "feature-extraction")
    (body,) = bodies("short")
    text, count = json.loads(body)["inputs"], 2000
    begin = time.process_time()
    for _ in range(count):
        pipeline(text)
    direct_s = (time.process_time() - begin) / count
    with Running("onnxpipe_bench.peers.idle_server", bundle) as running:
        server = Target(running, path)
        server.load("short", connections=2, seconds=min(seconds, 1))
        begin = running.cpu_s
        outcome = server.load("short", connections=2, seconds=2 * seconds)
        served_s = (running.cpu_s - begin) / len(outcome.times_ms[200])
    return round(1e3 * (served_s - direct_s), 3)


def figures(outcome: Outcome) -> dict[str, float]:
    """Answers per second, and percentiles of the time to one."""
    p50, p99 = np.percentile(outcome.times_ms.get(200, [0.0]), [50, 99])
    return {"per_second": round(outcome.per_second, 1), "p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2)}


def _cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


if __name__ == "__main__":
    main()
