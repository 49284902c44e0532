"""How good answers are, row by row, so that a figure can be drawn again for its interval."""

import dataclasses
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxpipe_bench.desk.timing import Interval, draw_samples
from onnxpipe_bench.sts import spearman

Floats = NDArray[np.float64]

_RESAMPLES = 400
_LEAST_OVERLAP = 0.5


@dataclasses.dataclass(frozen=True)
class Score:
    """A figure that `total` makes of `rows` (N, K), one for each labelled input; `lower` says that less is better."""

    metric: str
    rows: Floats
    total: Callable[[Floats], float]
    lower: bool = False

    @property
    def value(self) -> float:
        """The figure."""
        return self.total(self.rows)

    @property
    def interval(self) -> Interval:
        """The figure with its interval from resampling the rows."""
        values = [self.total(self.rows[sample]) for sample in draw_samples(len(self.rows), _RESAMPLES)]
        return _interval(self.value, values)

    def drop_from(self, reference: "Score") -> Interval:
        """How much worse than a reference on the same inputs, as a share of it: 0.01 is one percent worse."""
        samples = draw_samples(len(self.rows), _RESAMPLES)
        drops = [self._drop(self.total(self.rows[one]), reference.total(reference.rows[one])) for one in samples]
        return _interval(self._drop(self.value, reference.value), drops)

    def _drop(self, own: float, reference: float) -> float:
        worse = own - reference if self.lower else reference - own
        return worse / abs(reference) if abs(reference) > 1e-9 else worse


def mean(rows: Floats) -> float:
    """The mean of the first column."""
    return float(rows[:, 0].mean())


def quotient(rows: Floats) -> float:
    """What the first column has for each in the second: errors for each word, hits for each answer."""
    return float(rows[:, 0].sum() / max(rows[:, 1].sum(), 1e-9))


def rank_correlation(rows: Floats) -> float:
    """Spearman's correlation of the two columns; 0 where one does not vary."""
    if np.ptp(rows[:, 0]) == 0 or np.ptp(rows[:, 1]) == 0:
        return 0.0
    return spearman(rows[:, 0], rows[:, 1])


def perplexity(rows: Floats) -> float:
    """From sums of negative log likelihoods and how many tokens they are of."""
    return float(np.exp(min(quotient(rows), 700.0)))


def cosine(left: Any, right: Any) -> float:  # vectors of any shape
    """Of two vectors, or the mean over those in the last axes of two arrays."""
    one, other = (np.asarray(value, np.float64).reshape(-1, np.shape(value)[-1]) for value in (left, right))
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return float(np.mean((one * other).sum(axis=-1) / np.maximum(lengths, 1e-12)))


def words(text: str) -> list[str]:
    """Its words in lower case without punctuation and articles, as SQuAD compares answers."""
    bare = text.lower().translate(str.maketrans("", "", string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def word_f1(given: str, expected: str) -> float:
    """Harmonic mean of precision and recall over words; 1 for two texts without any."""
    one, other = words(given), words(expected)
    return _f1((Counter(one) & Counter(other)).total(), len(one), len(other))


def set_f1(given: Sequence[object], expected: Sequence[object]) -> float:
    """The same over things that are equal or not."""
    one, other = Counter(given), Counter(expected)
    return _f1((one & other).total(), one.total(), other.total())


def word_errors(given: str, expected: str) -> tuple[int, int]:
    """Words to change, leave out or put in, and words that were expected; case and punctuation do not count."""
    table = str.maketrans("", "", string.punctuation)
    one, other = (text.lower().translate(table).split() for text in (given, expected))
    costs = list(range(len(other) + 1))
    for row, word in enumerate(one, 1):
        before, costs[0] = costs[0], row
        for place, target in enumerate(other, 1):
            before, costs[place] = (
                costs[place],
                min(costs[place] + 1, costs[place - 1] + 1, before + (word != target)),
            )
    return costs[-1], len(other)


def common_beginning(given: str, expected: str) -> float:
    """The share of the words, counted in the longer text, up to the first that differs."""
    one, other = given.split(), expected.split()
    same = next((place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    longest = max(len(one), len(other))
    return (min(len(one), len(other)) if same is None else same) / longest if longest else 1.0


def box_f1(given: Sequence[Mapping[str, Any]], expected: Sequence[Mapping[str, Any]]) -> float:
    """F1 over objects that have the same label and overlap by half, each counted once."""
    left = list(expected)
    hits = 0
    for one in given:
        match = max(left, key=lambda other: _overlap(one, other), default=None)
        if match is not None and _overlap(one, match) >= _LEAST_OVERLAP:
            left.remove(match)
            hits += 1
    return _f1(hits, len(given), len(expected))


def _overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    if one["label"] != other["label"]:
        return 0.0
    (left, top, right, bottom), (left2, top2, right2, bottom2) = (
        [item["box"][side] for side in ("xmin", "ymin", "xmax", "ymax")] for item in (one, other)
    )
    shared = max(0, min(right, right2) - max(left, left2)) * max(0, min(bottom, bottom2) - max(top, top2))
    area = (right - left) * (bottom - top) + (right2 - left2) * (bottom2 - top2) - shared
    return float(shared / area) if area else 0.0


def _f1(hits: int, given: int, expected: int) -> float:
    return 2 * hits / (given + expected) if given + expected else 1.0


def _interval(value: float, values: Sequence[float]) -> Interval:
    low, high = np.percentile(values, (2.5, 97.5))
    return Interval(value, float(low), float(high))
