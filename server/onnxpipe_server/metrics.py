"""What the server has done and does, as Prometheus reads it."""

import asyncio
import bisect
import itertools
import os
import resource
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from onnxpipe.version import __version__
from onnxpipe_server.explain import Account
from onnxpipe_server.scheduler import Scheduler
from onnxpipe_server.totals import Family, Totals, merge
from onnxpipe_server.workers import Workers

_MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
# What several processes do not have the sum of.
_MAXIMA = ("onnxpipe_info", "onnxpipe_loop_lag_seconds", "onnxpipe_loop_lag_worst_seconds")
# How often the event loop is asked how late it is.
_BEAT_S = 0.5

# What is read when somebody asks: a name, what it is, and the values by label.
Reading = tuple[str, str, Iterable[tuple[dict[str, str], float]]]
Sample = tuple[str, list[tuple[str, str]], float]


class Counter:
    """Sums by the values of their labels."""

    kind: ClassVar[Literal["counter"]] = "counter"

    def __init__(self, name: str, about: str, *labels: str) -> None:
        self.name = name
        self.about = about
        self._labels = labels
        self._sums: dict[tuple[str, ...], float] = {}

    def add(self, amount: float, *values: str) -> None:
        """Add to the sum of these values."""
        self._sums[values] = self._sums.get(values, 0) + amount

    def samples(self) -> Iterator[Sample]:
        """Its numbers, each with its name and labels."""
        for values, amount in self._sums.items():
            yield self.name, list(zip(self._labels, values, strict=True)), amount


class Histogram:
    """How often what was seen lies below each bound, by the values of its labels."""

    kind: ClassVar[Literal["histogram"]] = "histogram"

    def __init__(self, name: str, about: str, bounds: Sequence[float], *labels: str) -> None:
        self.name = name
        self.about = about
        self._bounds = bounds
        self._labels = labels
        self._seen: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}

    def see(self, value: float, *values: str) -> None:
        """Count a value."""
        if values not in self._seen:
            self._seen[values] = [0] * (len(self._bounds) + 1), [0.0]
        counts, total = self._seen[values]
        counts[bisect.bisect_left(self._bounds, value)] += 1
        total[0] += value

    def samples(self) -> Iterator[Sample]:
        """Its numbers, each with its name and labels."""
        for values, (counts, (total,)) in self._seen.items():
            labels = list(zip(self._labels, values, strict=True))
            for bound, count in zip((*self._bounds, "+Inf"), itertools.accumulate(counts), strict=True):
                yield f"{self.name}_bucket", [*labels, ("le", str(bound))], count
            yield f"{self.name}_sum", labels, total
            yield f"{self.name}_count", labels, sum(counts)


class Metrics:
    """The counts of a server. All but `text` is called in the event loop.

    `readings` are asked for what is so now. Labels are models that are served, their tasks, and words of our own: what
    clients send makes no series. With `totals` they are those of all processes of the server.
    """

    def __init__(self, readings: Sequence[Callable[[], Iterable[Reading]]] = (), totals: Totals | None = None) -> None:
        of = ("model", "task")
        self._readings = (*readings, _process)
        self._totals = totals
        self._published = False
        self._requests = Counter("onnxpipe_requests_total", "Requests by HTTP status.", *of, "status")
        self._errors = Counter("onnxpipe_errors_total", "Requests that failed, by kind.", *of, "error_type")
        self._tokens = Counter("onnxpipe_tokens_total", "Tokens read and written.", *of, "direction")
        self._elements = Counter("onnxpipe_batch_elements_total", "Tokens, or numbers of files, in batches.", *of)
        self._padding = Counter("onnxpipe_batch_padding_total", "Of these, padding.", *of)
        self._cache = Counter("onnxpipe_cache_requests_total", "Requests by what the cache did.", *of, "outcome")
        self._seconds = Histogram("onnxpipe_request_seconds", "Time of whole requests.", _SECONDS, *of)
        self._stages = Histogram("onnxpipe_stage_seconds", "Time of their stages.", _SECONDS, *of, "stage")
        self._rows = Histogram("onnxpipe_batch_rows", "Rows of the batches they were in.", _ROWS, *of)
        self.lag = LoopLag(self._publish_changes)

    def note(self, account: Account, status: int) -> None:
        """Count a request that is over."""
        self._published = False
        of = account.model, account.task
        self._requests.add(1, *of, str(status))
        if account.error_type:
            self._errors.add(1, *of, account.error_type)
        if not account.model:
            return
        self._seconds.see(account.total_ms / 1e3, *of)
        self._cache.add(1, *of, account.cache)
        for stage, milliseconds in account.stages.items():
            self._stages.see(milliseconds / 1e3, *of, stage)
        self._tokens.add(account.tokens, *of, "read")
        if new_tokens := account.new_tokens:
            self._tokens.add(new_tokens, *of, "written")
        if account.batch_rows:
            self._rows.see(account.batch_rows, *of)
            self._elements.add(account.elements, *of)
            self._padding.add(account.padding, *of)

    def text(self) -> str:
        """All of it, in Prometheus' text format 0.0.4."""
        told = self._families()
        self.lag.forget()
        if self._totals is not None:
            told = merge([*told, *self._totals.others()])
        lines = (
            line
            for family in told
            for line in (
                _head(family.name, family.kind, family.about),
                *(_sample(name, labels, value) for name, labels, value in family.samples),
            )
        )
        return "".join(lines)

    def publish(self) -> None:
        """Tell the other processes."""
        if self._totals is not None:
            self._totals.publish(self._families())
            self._published = True

    def _publish_changes(self) -> None:
        if not self._published:
            self.publish()

    def _families(self) -> list[Family]:
        counted = [one for one in vars(self).values() if isinstance(one, Counter | Histogram)]
        told = [Family(one.name, one.kind, one.about, "sum", list(one.samples())) for one in counted]
        for name, about, values in itertools.chain(self.lag.readings(), *(read() for read in self._readings)):
            samples: list[Sample] = [(name, list(labels.items()), value) for labels, value in values]
            kind: Literal["counter", "gauge"] = "counter" if name.endswith("_total") else "gauge"
            told.append(Family(name, kind, about, "max" if name in _MAXIMA else "sum", samples))
        return told


class LoopLag:
    """How late the event loop comes to what it has to do: what blocks it delays everybody."""

    def __init__(self, at_beat: Callable[[], None] = lambda: None) -> None:
        self._at_beat = at_beat
        self._loop: asyncio.AbstractEventLoop | None = None
        self._due = self._last = self._worst = 0.0

    def begin(self) -> None:
        """Measure the running loop from now on."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            self._plan(loop)

    def readings(self) -> Iterator[Reading]:
        """The last lag, and the worst since `forget`."""
        yield "onnxpipe_loop_lag_seconds", "How late the event loop was when last asked.", [({}, self._last)]
        yield "onnxpipe_loop_lag_worst_seconds", "How late it was at most since the last scrape.", [({}, self._worst)]

    def forget(self) -> None:
        """Begin to look for the worst again."""
        self._worst = 0.0

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + _BEAT_S
        loop.call_at(self._due, self._beat, loop)

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._last = max(loop.time() - self._due, 0.0)
        self._worst = max(self._worst, self._last)
        self._at_beat()
        if loop is self._loop:
            self._plan(loop)


def read_workers(workers: Mapping[str, Workers]) -> Callable[[], Iterator[Reading]]:
    """Asks for what these are at, by what they are for."""

    def read() -> Iterator[Reading]:
        loads = {name: one.load() for name, one in workers.items()}
        running = [({"workers": name}, running) for name, (running, _) in loads.items()]
        yield "onnxpipe_requests_running", "Requests that are worked on.", running
        waiting = [({"workers": name}, waiting) for name, (_, waiting) in loads.items()]
        yield "onnxpipe_requests_waiting", "Requests that wait for a thread.", waiting

    return read


def read_queue(scheduler: Scheduler) -> Callable[[], Iterator[Reading]]:
    """Asks for what waits for models, and runs."""

    def read() -> Iterator[Reading]:
        yield "onnxpipe_queue_rows", "Inputs, or pieces of them, that wait for models or run.", [({}, scheduler.rows)]
        yield "onnxpipe_queue_bytes", "Their memory.", [({}, scheduler.bytes)]

    return read


def make_route(metrics: Metrics) -> BaseRoute:
    """GET /metrics."""

    async def show(request: Request) -> Response:  # noqa: ARG001 - what Starlette calls
        return Response(metrics.text(), media_type=_MEDIA_TYPE)

    return Route("/metrics", show, methods=["GET"], include_in_schema=False)


def _process() -> Iterator[Reading]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    yield "onnxpipe_info", "This server.", [({"version": __version__}, 1)]
    yield "onnxpipe_processes", "Processes of the server.", [({}, 1)]
    yield (
        "process_resident_memory_bytes",
        "Memory, where processes share it counted for each.",
        [({}, _resident_bytes(used.ru_maxrss))],
    )
    yield "process_cpu_seconds_total", "CPU time.", [({}, used.ru_utime + used.ru_stime)]


def _resident_bytes(peak: int) -> int:
    """What is resident now; where the system does not tell, the peak, which is in kilobytes but on macOS."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak if sys.platform == "darwin" else peak * 1024


def _head(name: str, kind: str, about: str) -> str:
    return f"# HELP {name} {about}\n# TYPE {name} {kind}\n"


def _sample(name: str, labels: Iterable[tuple[str, str]], value: float) -> str:
    told = ",".join(f'{label}="{text.translate(_ESCAPES)}"' for label, text in labels)
    return f"{name}{{{told}}} {_number(value)}\n" if told else f"{name} {_number(value)}\n"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) or value != int(value) else str(int(value))
