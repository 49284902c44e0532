"""Which way to run a bundle is the fastest on this machine within a budget: measured, chosen, measured again."""

import dataclasses
import datetime
import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from onnxpipe.bundle import Bundle
from onnxpipe.errors import InvalidInput, OnnxpipeError
from onnxpipe.machine import inspect_machine
from onnxpipe.pipeline import AnyPipeline
from onnxpipe.recipe import Recipe, fingerprint, machine_facts
from onnxpipe_bench.desk.budget import Budget
from onnxpipe_bench.desk.candidates import BASELINE, Candidate, main_task
from onnxpipe_bench.desk.grid import group_by_memory, make_grid
from onnxpipe_bench.desk.judgement import Judgement
from onnxpipe_bench.desk.probe import measure_afresh
from onnxpipe_bench.desk.progress import Progress
from onnxpipe_bench.desk.race import BLOCK, Race
from onnxpipe_bench.desk.requests import Requests
from onnxpipe_bench.desk.state import State
from onnxpipe_bench.desk.timing import speed, summarize, time_calls
from onnxpipe_bench.measure import stamp

Figures = dict[str, Any]  # JSON

_BATCHES = (1, 2, 4, 8, 16, 32)
_ENOUGH = 0.95  # of the most rows a second
_QUALITY_S, _PROCESS_S, _CONFIRM_S, _BATCH_S = 5.0, 3.0, 6.0, 1.0  # planned for each of its kind
_LEAST_BLOCKS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be tuned, within which budget and by which requests; `seconds` bound the race."""

    bundle: Bundle
    budget: Budget
    task: str | None = None
    lengths: Sequence[int] = ()
    data: Path | None = None
    rows: int | None = None
    precisions: Sequence[str] = ()
    threads: Sequence[int] = ()
    providers: Sequence[str] = ()
    seconds: float = 120.0


class Tuning:
    """One run of `onnxpipe tune`. Raises InvalidInput for a bundle without fp32, or when nothing is in the budget."""

    def __init__(self, order: Order, state_folder: Path | None = None) -> None:
        self._order = order
        bundle = order.bundle
        if BASELINE not in bundle.manifest.variants:
            held = ", ".join(bundle.manifest.variants)
            raise InvalidInput(f"precisions are held against {BASELINE}, which {bundle.path} lacks; it has: {held}")
        self._task = order.task or main_task(bundle)
        self.baseline = Candidate(path=str(bundle.path), precision=BASELINE, threads=inspect_machine().threads)
        self.candidates = make_grid(
            bundle, precisions=order.precisions, threads=order.threads, providers=order.providers
        )
        self._lengths: list[int] = sorted(set(order.lengths))
        self._unit = ""
        self._judge = Judgement(self._task, order.data, order.rows)
        self._refused: dict[str, str] = {}  # key of a candidate -> why
        self.state = State(self._question(), state_folder)
        measured = _QUALITY_S * len(bundle.manifest.variants) + _PROCESS_S + _BATCH_S * len(_BATCHES)
        self.planned_s = order.seconds + measured + _CONFIRM_S * (len(order.lengths) or 3)
        self._progress = Progress(self.planned_s)

    def run(self) -> Recipe:
        """Measure, choose and confirm; the recipe, not yet written."""
        try:
            pipeline = self.baseline.load(self._task)
            requests = Requests(pipeline, self._task)
            self._unit, self._lengths = requests.unit, self._lengths or list(requests.lengths)
            quality = self._measure_quality(pipeline)
            racers = self._within_budget(quality)
            chosen, standings = self._race(racers, quality)
            evidence = self._confirm(chosen, pipeline)
        finally:
            self._progress.end()
        evidence |= {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "stamp": stamp(),
            "task": self._task,
            "unit": self._unit,
            "budget": {**dataclasses.asdict(self._order.budget), "told": self._order.budget.told},
            "quality": quality,
            "quality_on": self._judge.told,
            "candidates": standings,
        }
        return Recipe(
            bundle=self._order.bundle.digest,
            fingerprint=fingerprint(),
            precision=chosen.precision,
            providers=chosen.providers,
            threads=chosen.threads,
            level=chosen.level,
            batch=evidence["batch"],
            machine=machine_facts(),
            evidence=evidence,
        )

    def _question(self) -> Figures:
        """What the figures depend on."""
        order = self._order
        data = hashlib.sha256(order.data.read_bytes()).hexdigest() if order.data and order.data.is_file() else None
        return {
            "bundle": order.bundle.digest,
            "machine": machine_facts(),
            "budget": dataclasses.asdict(order.budget),
            "task": self._task,
            "lengths": self._lengths,
            "data": [data, order.rows],
            "candidates": [candidate.key for candidate in self.candidates],
        }

    def _measure_quality(self, baseline: AnyPipeline) -> dict[str, Figures]:
        """The figures of each precision, from fp32 on."""
        found = {}
        names = dict.fromkeys([BASELINE, *(candidate.precision for candidate in self.candidates)])
        for precision in names:
            kept = self.state.get(f"quality {precision}")
            if kept is None:
                self._progress.begin(f"quality of {precision}")
                one = dataclasses.replace(self.baseline, precision=precision)
                figures = self._judge.figures(one, baseline if precision == BASELINE else None)
                assert figures is not None  # noqa: S101 - fp32 is there
                kept = [figures, self._judge.told]
                self.state.set(f"quality {precision}", kept)
            found[precision], self._judge.told = kept
            self._progress.done(_QUALITY_S)
        return found

    def _within_budget(self, quality: dict[str, Figures]) -> list[Candidate]:
        """Who may race. Raises InvalidInput when nobody may."""
        budget = self._order.budget
        reasons: dict[str, str] = {}
        for precision in dict.fromkeys(candidate.precision for candidate in self.candidates):
            drop = quality[precision]["drop"]
            if drop["value"] > budget.max_drop:
                reasons[precision] = f"{drop['value']:.2%} worse than fp32, more than {budget.max_drop:.2%}"
            elif budget.memory_bytes is not None:
                peak_mb = self._process(dataclasses.replace(self.baseline, precision=precision))["peak_mb"]
                if peak_mb is None:
                    raise InvalidInput("--memory: this system does not tell the memory of a process; leave it out")
                if peak_mb * 2**20 > budget.memory_bytes:
                    reasons[precision] = f"takes {peak_mb:.0f} MiB, more than {budget.memory_bytes / 2**20:.0f} MiB"
        for candidate in self.candidates:
            if candidate.precision in reasons:
                self._refused[candidate.key] = reasons[candidate.precision]
        left = [candidate for candidate in self.candidates if candidate.precision not in reasons]
        if not left:
            told = "; ".join(f"{precision}: {reason}" for precision, reason in reasons.items())
            raise InvalidInput(f"no precision is in the budget ({told}); allow more, or `onnxpipe quantize` another")
        return left

    def _process(self, candidate: Candidate) -> Figures:
        """Memory and first answer in a fresh process."""
        name = f"process {candidate.key}"
        found: Figures | None = self.state.get(name)
        if found is None:
            self._progress.begin(f"a fresh process, {candidate.key}")
            found = measure_afresh(candidate, self._task, self._lengths[-1])
            self.state.set(name, found)
        return found

    def _race(self, racers: Sequence[Candidate], quality: dict[str, Figures]) -> tuple[Candidate, list[Figures]]:
        """The fastest, and how everybody fared. Groups that fit into memory race one after the other.

        Raises OnnxpipeError when none of them can be loaded.
        """
        percentile, by_key = self._order.budget.percentile, {candidate.key: candidate for candidate in racers}
        standings: dict[str, Figures] = {}
        champions: list[Candidate] = []
        groups = list(group_by_memory(self._order.bundle, racers))
        for number, group in enumerate(groups):
            race = self._race_group(number, [*champions, *group], self._order.seconds / len(groups))
            for key, times in race.times.items():
                if next(iter(times.values())):
                    told = {str(length): summarize(values) for length, values in times.items()}
                    standings[key] = {"latency": told, "out": race.out.get(key)}
            if race.alive:
                tied = [by_key[key] for key in race.ties(percentile)]
                champions = [min(tied, key=lambda one: self._taste(one, race, quality))]
                for one in tied:
                    if one not in champions:
                        standings[one.key]["out"] = "as fast, and not preferred"
        if not champions:
            raise OnnxpipeError(f"no candidate can be loaded: {'; '.join(self._refused.values())}")
        rows = []
        for candidate in self.candidates:
            figures = standings.get(candidate.key, {"out": self._refused.get(candidate.key)})
            if candidate != champions[0] and not figures["out"]:
                figures["out"] = "slower, though not for sure"
            rows.append({"name": candidate.key, **dataclasses.asdict(candidate), **figures})
            rows[-1].pop("path")
        return champions[0], rows

    def _taste(self, one: Candidate, race: Race, quality: dict[str, Figures]) -> tuple[object, ...]:
        """Among those as fast: what can be kept prepared for the machine, fewer threads, better answers."""
        score = race.score(one.key, self._order.budget.percentile)
        return one.level != "all", one.threads, quality[one.precision]["drop"]["value"], score

    def _race_group(self, number: int, group: Sequence[Candidate], seconds: float) -> Race:
        """The race of some, gone on with where an interrupted run has left it."""
        kept = self.state.get(f"race {number}")
        race = Race({one.key: {length: [] for length in self._lengths} for one in group})
        if kept is not None:
            times, race.out = kept
            race.times = {key: {int(length): values for length, values in by.items()} for key, by in times.items()}
        calls = self._load(group, race)
        percentile = self._order.budget.percentile
        spent_s = race.spent_s
        self._progress.done(spent_s)
        while race.alive and not (race.turns and race.is_over(percentile)):
            if spent_s >= seconds and race.turns >= _LEAST_BLOCKS * BLOCK:
                break
            self._progress.begin(f"race of {len(race.alive)}, turn {race.turns}")
            race.run_block(calls)
            for key in race.eliminate(percentile):
                calls.pop(key)
            self.state.set(f"race {number}", [race.times, race.out])
            spent_s, before_s = race.spent_s, spent_s
            self._progress.done(spent_s - before_s)
        self._progress.done(max(0.0, seconds - spent_s))
        return race

    def _load(self, group: Sequence[Candidate], race: Race) -> dict[str, dict[int, Callable[[], object]]]:
        """The calls of those that are still in the race; who cannot be loaded leaves it."""
        calls: dict[str, dict[int, Callable[[], object]]] = {}
        for candidate in group:
            if candidate.key in race.out:
                continue
            self._progress.begin(f"loading {candidate.key}")
            try:
                pipeline = candidate.load(self._task)
            except OnnxpipeError as error:
                race.out[candidate.key] = self._refused[candidate.key] = str(error)
                continue
            calls[candidate.key] = self._calls(pipeline)
        return calls

    def _calls(self, pipeline: AnyPipeline, batch: int = 0) -> dict[int, Callable[[], object]]:
        """One request of each length; with a `batch`, a list of so many."""
        requests = Requests(pipeline, self._task)
        made = {length: requests.make(length) for length in self._lengths}
        return {
            length: functools.partial(pipeline, [one.inputs] * batch if batch else one.inputs, **one.parameters)
            for length, one in made.items()
        }

    def _confirm(self, chosen: Candidate, baseline: AnyPipeline) -> Figures:
        """Measured afresh beside fp32 as it runs by default, and run in the same way as what was chosen.

        Who was chosen for a good moment would look better than it is.
        """
        pipeline = chosen.load(self._task)
        slow, fast = self._calls(baseline), self._calls(pipeline)
        same = None if chosen.baseline == self.baseline else self._calls(chosen.baseline.load(self._task))
        figures: Figures = {}
        for length in self._lengths:
            self._progress.begin(f"confirming {chosen.key} at {length} {self._unit}")
            calls = {"fp32": slow[length], "chosen": fast[length]}
            if same is not None:
                calls["fp32_same_way"] = same[length]
            times = time_calls(calls, _CONFIRM_S)
            percentile = self._order.budget.percentile
            figures[str(length)] = {
                **{name: summarize(values) for name, values in times.items()},
                "speed": speed(times.get("fp32_same_way", times["fp32"]), times["chosen"], percentile).plain(),
                "speed_to_default": speed(times["fp32"], times["chosen"], percentile).plain(),
            }
            self._progress.done(_CONFIRM_S)
        rates = self._rates(pipeline)
        most = max(rates.values())
        batch = next(batch for batch, rate in rates.items() if rate >= _ENOUGH * most)
        process = self._process(chosen)
        self._progress.done(_PROCESS_S)
        return {
            "baseline": self.baseline.key,
            "chosen": chosen.key,
            "figures": figures,
            "rows_per_s": {str(count): round(rate, 2) for count, rate in rates.items()},
            "batch": batch,
            "process": process,
        }

    def _rates(self, pipeline: AnyPipeline) -> dict[int, float]:
        """Requests of the middle length in a second, by how many come at once."""
        length = self._lengths[len(self._lengths) // 2]
        calls = {str(batch): self._calls(pipeline, batch)[length] for batch in _BATCHES}
        self._progress.begin("how many rows in a run")
        times = time_calls(calls, _BATCH_S * len(_BATCHES), least=3)
        self._progress.done(_BATCH_S * len(_BATCHES))
        return {batch: 1e3 * batch / summarize(times[str(batch)])["p50"] for batch in _BATCHES}
