"""Everything `onnxpipe bench` measures, candidates side by side: a result that can be stored, printed and drawn."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxpipe.errors import InvalidInput
from onnxpipe.generation.pipeline import WritingPipeline
from onnxpipe.pipeline import AnyPipeline
from onnxpipe_bench.desk.candidates import BASELINE, Candidate, main_task, name_candidates, open_bundles, size_bytes
from onnxpipe_bench.desk.energy import Meter
from onnxpipe_bench.desk.judgement import Judgement
from onnxpipe_bench.desk.labelled import check_task
from onnxpipe_bench.desk.probe import measure_afresh
from onnxpipe_bench.desk.progress import Progress
from onnxpipe_bench.desk.requests import Request, Requests
from onnxpipe_bench.desk.timing import speed, summarize, time_calls
from onnxpipe_bench.measure import stamp

Row = dict[str, Any]  # JSON: what was measured of one candidate

_BATCHES = {"tokens": (1, 8, 32), "pixels": (1, 4), "seconds": (1, 4), "requests": (1, 8)}
_PROCESS_S = 3.0  # planned for a fresh process
_QUALITY_S = 5.0  # and for answers to every labelled row


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured, and for how many seconds each figure's candidates take turns."""

    candidates: Sequence[Candidate]
    task: str | None = None
    lengths: Sequence[int] = ()
    batches: Sequence[int] = ()
    data: Path | None = None
    rows: int | None = None
    seconds: float = 4.0
    processes: bool = True


class Survey:
    """One run of `onnxpipe bench`. Raises what loading does, and InvalidInput for candidates of different tasks."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._names = name_candidates(plan.candidates)
        bundles = {str(bundle.path): bundle for bundle in open_bundles(one.path for one in plan.candidates)}
        tasks = {plan.task or main_task(bundle) for bundle in bundles.values()}
        if len(tasks) > 1:
            raise InvalidInput(
                f"bundles of several tasks ({', '.join(sorted(tasks))}) cannot be compared: name a --task"
            )
        (self._task,) = tasks
        if plan.data is not None:
            check_task(self._task)
        self._bundles = bundles
        self._rows: dict[Candidate, Row] = {}
        self._pipelines: dict[Candidate, AnyPipeline] = {}
        self._requests: dict[Candidate, Requests] = {}

    def run(self) -> dict[str, Any]:
        """Measure everything; the result as JSON has it."""
        plan = self._plan
        for candidate in plan.candidates:
            self._pipelines[candidate] = candidate.load(self._task)
            self._requests[candidate] = Requests(self._pipelines[candidate], self._task)
            self._rows[candidate] = self._described(candidate)
        unit = next(iter(self._requests.values())).unit
        lengths = sorted(set(plan.lengths or next(iter(self._requests.values())).lengths))
        batches = sorted(set(plan.batches or _BATCHES[unit]))
        middle = lengths[len(lengths) // 2]
        meter = Meter()
        progress = Progress(self._planned_seconds(len(lengths), len(batches), energy=meter.counts))
        try:
            for length in lengths:
                progress.begin(f"latency, {length} {unit}")
                self._measure_latency(length)
                progress.done(plan.seconds)
            for batch in batches:
                progress.begin(f"throughput, {batch} at once")
                self._measure_throughput(middle, batch)
                progress.done(plan.seconds)
            self._measure_writing(middle, progress)
            self._measure_processes(lengths[-1], progress)
            self._measure_energy(middle, meter, progress)
            quality = self._measure_quality(progress)
        finally:
            progress.end()
        return {
            "stamp": stamp(),
            "task": self._task,
            "unit": unit,
            "lengths": lengths,
            "middle": middle,
            "batches": batches,
            "seconds": plan.seconds,
            "quality": quality,
            "energy": meter.told,
            "rows": list(self._rows.values()),
        }

    def _planned_seconds(self, lengths: int, batches: int, *, energy: bool) -> float:
        plan = self._plan
        count = len(plan.candidates)
        writes = any(isinstance(pipeline, WritingPipeline) for pipeline in self._pipelines.values())
        processes = _PROCESS_S * count if plan.processes else 0.0
        return plan.seconds * (lengths + batches + writes + energy * count) + processes + _QUALITY_S * count

    def _described(self, candidate: Candidate) -> Row:
        bundle = self._bundles[candidate.path]
        variant = bundle.manifest.variants[candidate.precision]
        return {
            "name": self._names[candidate],
            "model": bundle.manifest.id,
            "digest": bundle.digest,
            **dataclasses.asdict(candidate),
            "size_mb": round(size_bytes(bundle, candidate.precision) / 1e6, 2),
            "batch_invariant": variant.batch_invariant,
            "verified": dict(variant.measured),
            "baseline": candidate.precision == BASELINE,
            "latency": [],
            "throughput": [],
        }

    def _baseline(self, candidate: Candidate) -> Candidate | None:
        """fp32 of the same bundle, run in the same way, where it is measured too."""
        return candidate.baseline if candidate.baseline in self._rows else None

    def _calls(self, length: int) -> tuple[dict[str, Callable[[], object]], dict[str, Request]]:
        requests = {self._names[one]: self._requests[one].make(length) for one in self._rows}
        calls: dict[str, Callable[[], object]] = {
            self._names[one]: functools.partial(
                self._pipelines[one], requests[self._names[one]].inputs, **requests[self._names[one]].parameters
            )
            for one in self._rows
        }
        return calls, requests

    def _measure_latency(self, length: int) -> None:
        calls, requests = self._calls(length)
        times = time_calls(calls, self._plan.seconds)
        for candidate, row in self._rows.items():
            name, baseline = self._names[candidate], self._baseline(candidate)
            figures: Row = {"length": length, "size": requests[name].size, **summarize(times[name])}
            if baseline is not None and baseline != candidate:
                figures["speed"] = speed(times[self._names[baseline]], times[name]).plain()
            row["latency"].append(figures)

    def _measure_throughput(self, length: int, batch: int) -> None:
        _, requests = self._calls(length)
        calls = {
            self._names[one]: functools.partial(
                self._pipelines[one],
                [requests[self._names[one]].inputs] * batch,
                **requests[self._names[one]].parameters,
            )
            for one in self._rows
        }
        times = time_calls(calls, self._plan.seconds, least=3)
        for candidate, row in self._rows.items():
            rate = 1e3 * batch / summarize(times[self._names[candidate]])["p50"]
            row["throughput"].append({"batch": batch, "rows_per_s": round(rate, 2)})

    def _measure_writing(self, length: int, progress: Progress) -> None:
        writers = {one: pipeline for one, pipeline in self._pipelines.items() if isinstance(pipeline, WritingPipeline)}
        if not writers:
            return
        progress.begin("first token, tokens per second")
        firsts: dict[str, list[float]] = {self._names[one]: [] for one in writers}
        rates: dict[str, list[float]] = {self._names[one]: [] for one in writers}

        def write(candidate: Candidate, pipeline: WritingPipeline[Any, Any, Any]) -> None:
            request = self._requests[candidate].make(length)
            begin = time.perf_counter()
            moments = [time.perf_counter() - begin for _ in pipeline.stream(request.inputs, **request.parameters)]
            firsts[self._names[candidate]].append(1e3 * moments[0])
            rates[self._names[candidate]].append((len(moments) - 1) / max(moments[-1] - moments[0], 1e-9))

        calls = {self._names[one]: functools.partial(write, one, pipeline) for one, pipeline in writers.items()}
        time_calls(calls, self._plan.seconds, least=3)
        for candidate in writers:
            name = self._names[candidate]
            self._rows[candidate]["writing"] = {
                "first_ms": summarize(firsts[name])["p50"],
                "tokens_per_s": summarize(rates[name])["p50"],
            }
        progress.done(self._plan.seconds)

    def _measure_processes(self, longest: int, progress: Progress) -> None:
        if not self._plan.processes:
            return
        for candidate, row in self._rows.items():
            progress.begin(f"a fresh process, {self._names[candidate]}")
            row["process"] = measure_afresh(candidate, self._task, longest)
            progress.done(_PROCESS_S)

    def _measure_energy(self, length: int, meter: Meter, progress: Progress) -> None:
        if not meter.counts:
            return
        calls, _ = self._calls(length)
        for candidate, row in self._rows.items():
            progress.begin(f"energy, {self._names[candidate]}")
            row["energy"] = meter.joules_per_call(calls[self._names[candidate]], self._plan.seconds)
            progress.done(self._plan.seconds)

    def _measure_quality(self, progress: Progress) -> Mapping[str, Any]:
        """Add each candidate's figure to its row; what was compared, and how."""
        judge = Judgement(self._task, self._plan.data, self._plan.rows)
        for candidate, row in self._rows.items():
            progress.begin(f"quality, {self._names[candidate]}")
            row["quality"] = judge.figures(candidate, self._pipelines[candidate])
            progress.done(_QUALITY_S)
        return judge.told
