"""Times of calls that take turns, and how sure the figures are that come of them."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxpipe_bench.measure import percentiles

Floats = NDArray[np.float64]
Calls = Mapping[str, Callable[[], object]]

# calls of a candidate's turn that count
BURST = 3
_WARM_UP = 2
_LEAST, _MOST = 3, 700  # turns
_RESAMPLES = 1000
_QUANTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)


@dataclasses.dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def plain(self, digits: int = 4) -> dict[str, float]:
        """As JSON has it."""
        return {name: round(value, digits) for name, value in dataclasses.asdict(self).items()}


def time_calls(calls: Calls, seconds: float, *, least: int = _LEAST) -> dict[str, list[float]]:
    """Milliseconds of the calls, which take turns for about that many seconds, `least` turns at least."""
    for _ in range(_WARM_UP):
        begin = time.perf_counter()
        for call in calls.values():
            call()
        turn_s = (1 + BURST) * (time.perf_counter() - begin)
    return take_turns(calls, int(min(max(seconds / max(turn_s, 1e-6), least), _MOST)))


def take_turns(calls: Calls, turns: int) -> dict[str, list[float]]:
    """Milliseconds of BURST calls in each of the turns, which go backwards every other time.

    A turn begins with a call that does not count: among many candidates it finds none of its own weights in the caches,
    and would be slower the more there are.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(turns):
        for name, call in list(calls.items())[:: 1 if turn % 2 else -1]:
            call()
            for _ in range(BURST):
                begin = time.perf_counter()
                call()
                times[name].append(1e3 * (time.perf_counter() - begin))
    return times


def summarize(times_ms: Sequence[float]) -> dict[str, Any]:  # JSON
    """Percentiles, the mean, how many calls there were, and the quantiles that a plot needs."""
    values = np.asarray(times_ms, np.float64)
    quantiles = {f"{q}": round(float(np.percentile(values, q)), 4) for q in _QUANTILES}
    return {
        **percentiles(list(times_ms)),
        "mean": round(float(values.mean()), 3),
        "calls": len(values),
        "quantiles": quantiles,
    }


def speed(baseline_ms: Sequence[float], times_ms: Sequence[float], quantile: float = 50) -> Interval:
    """How many times faster than the baseline, at a percentile; the interval from resampling the turns they shared."""
    turns = min(len(baseline_ms), len(times_ms)) // BURST
    samples = draw_samples(turns, _RESAMPLES)
    whole = compare(baseline_ms, times_ms, quantile, np.arange(turns)[None])
    low, high = np.percentile(np.exp(compare(baseline_ms, times_ms, quantile, samples)), (2.5, 97.5))
    return Interval(float(np.exp(whole[0])), float(low), float(high))


def compare(one_ms: Sequence[float], other_ms: Sequence[float], quantile: float, samples: NDArray[np.int64]) -> Floats:
    """Logarithms of how much longer one takes than the other, of each sample of turns (R, turns).

    At the median it is that of the ratios within each turn: what slows the machine down for seconds hits both. Other
    percentiles are compared as a whole.
    """
    turns = samples.shape[1]
    one, other = (np.asarray(times, np.float64)[: turns * BURST].reshape(-1, BURST) for times in (one_ms, other_ms))
    if quantile == 50:
        ratios = np.log(np.median(one, axis=1)) - np.log(np.median(other, axis=1))
        medians: Floats = np.median(ratios[samples], axis=1)
        return medians
    slow, fast = (np.percentile(times[samples].reshape(len(samples), -1), quantile, axis=1) for times in (one, other))
    apart: Floats = np.log(slow) - np.log(fast)
    return apart


def draw_samples(count: int, resamples: int = _RESAMPLES, seed: int = 0) -> NDArray[np.int64]:
    """Places (resamples, count) of what is drawn again with replacement, always the same."""
    return np.random.default_rng(seed).integers(0, count, (resamples, count))
