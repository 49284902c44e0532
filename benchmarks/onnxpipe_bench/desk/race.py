"""Candidates that take turns until it is clear which of them are not the fastest (successive elimination).

After every block of turns those go that are slower than the best for sure, in the mean over lengths of the logarithms
of their times' ratios; how sure that is comes from resampling the turns, which all have shared.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from onnxpipe_bench.desk.timing import BURST, compare, draw_samples, take_turns

Times = dict[int, list[float]]  # milliseconds by length

BLOCK = 4  # turns
_MOST_TURNS = 120
# Candidates this close to the best are as good: which of them is taken is a matter of taste.
TIE = 0.02
# Each block looks once more, so that every look has to be surer.
_SURE = (0.5, 99.5)
# And the first has too little to look at for more than the obvious.
_OBVIOUS = 0.2
_RESAMPLES = 400


@dataclasses.dataclass
class Race:
    """The standing of a race, which can be stored and gone on with: `times` of every candidate, and who has left.

    `calls` has the calls of each candidate by length.
    """

    times: dict[str, Times]
    out: dict[str, str] = dataclasses.field(default_factory=dict)  # who has left -> why

    @property
    def alive(self) -> list[str]:
        """Who is still in it."""
        return [name for name in self.times if name not in self.out]

    @property
    def turns(self) -> int:
        """How many turns those have had."""
        return min((len(times) for name in self.alive for times in self.times[name].values()), default=0) // BURST

    @property
    def spent_s(self) -> float:
        """Seconds of all calls that count."""
        return sum(sum(values) for times in self.times.values() for values in times.values()) / 1e3

    def run_block(self, calls: Mapping[str, Mapping[int, Callable[[], object]]]) -> None:
        """Some more turns at every length for those that are left."""
        for length in next(iter(self.times.values())):
            some = take_turns({name: calls[name][length] for name in self.alive}, BLOCK)
            for name, milliseconds in some.items():
                self.times[name][length] += [round(value, 4) for value in milliseconds]

    def eliminate(self, percentile: int) -> list[str]:
        """Take out who is slower than the best for sure; their names."""
        names, best = self.alive, self.best(percentile)
        margin = _OBVIOUS if self.turns <= BLOCK else 0.0
        gone = []
        for name in names:
            low, high = self._apart(name, best, percentile)
            if name != best and low > margin:
                self.out[name] = (
                    f"{np.expm1(low):.0%} to {np.expm1(high):.0%} slower than ({best}) after {self.turns} turns"
                )
                gone.append(name)
        return gone

    def is_over(self, percentile: int) -> bool:
        """Whether one is left, or all that are left are as good, or nothing more can be told in a sensible time."""
        names = self.alive
        if len(names) == 1 or self.turns >= _MOST_TURNS:
            return True
        best = self.best(percentile)
        return all(self._apart(name, best, percentile)[1] < TIE for name in names)

    def best(self, percentile: int) -> str:
        """The fastest of those that are left, as it seems."""
        return min(self.alive, key=lambda name: self.score(name, percentile))

    def _apart(self, name: str, best: str, percentile: int) -> tuple[float, float]:
        """How much slower than the best, as logarithms: at least and at most."""
        samples = draw_samples(self.turns, _RESAMPLES, seed=self.turns)
        by_length = [
            compare(self.times[name][length], self.times[best][length], percentile, samples)
            for length in self.times[name]
        ]
        low, high = np.percentile(np.mean(by_length, axis=0), _SURE)
        return float(low), float(high)

    def ties(self, percentile: int) -> list[str]:
        """Those that are as good as the best."""
        best = min(self.score(name, percentile) for name in self.alive)
        return [name for name in self.alive if self.score(name, percentile) <= best + TIE]

    def score(self, name: str, percentile: int) -> float:
        """The lower, the faster; a difference of 0.01 is one percent."""
        return float(np.mean([np.log(np.percentile(times, percentile)) for times in self.times[name].values()]))
