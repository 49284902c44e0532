"""What shapes a distribution before a token is drawn from it: temperature and the cuts of its tail.

Every function returns a processor as in `logits`; removed tokens get -inf. At least `keep` of the best tokens of each
row stay. Reference: transformers 4.57.6. Where a token lies exactly on a limit, within float rounding, ours may fall on
the other side; and where `top_p` cuts between tokens with equal scores, the later ones stay, while there it is by
chance which.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats
from onnxpipe.generation.logits import LARGEST_FACTOR, Processor
from onnxpipe.generation.scores import Tokens, kth_largest, largest, log_softmax

# Tokens that are sorted first where a cut usually lies within a few hundred: sorting all takes ten times as long.
_HEAD = 1024


def temperature(value: float) -> Processor:
    """Scores divided by `value`: below 1 the likely become likelier, above 1 less so."""
    divisor = np.float32(max(value, 1 / LARGEST_FACTOR))

    def apply(_: Tokens, scores: Floats) -> Floats:
        with np.errstate(over="ignore"):  # of the smallest float32, which may stand for -inf, becomes -inf
            scaled: Floats = scores / divisor
        return scaled

    return apply


def top_k(k: int, keep: int = 1) -> Processor:
    """The `k` best tokens, and those equal to the last of them."""
    return _keeping(lambda scores: largest(scores, max(k, keep)))


def top_p(p: float, keep: int = 1) -> Processor:
    """The fewest best tokens whose probabilities add up to `p` (Holtzman et al. 2020, "The Curious Case")."""
    return _keeping(lambda scores: _nucleus(scores, p, keep))


def min_p(p: float, keep: int = 1) -> Processor:
    """Tokens at least `p` times as likely as the best (Nguyen et al. 2024, "Turning Up the Heat")."""

    def apply(_: Tokens, scores: Floats) -> Floats:
        limits = np.exp(scores - scores.max(axis=-1, keepdims=True)) < np.float32(p)
        return _remove(scores, limits, keep)

    return apply


def epsilon_cutoff(epsilon: float, keep: int = 1) -> Processor:
    """Tokens with a probability of at least `epsilon` (Hewitt et al. 2022, "Truncation Sampling")."""

    def apply(_: Tokens, scores: Floats) -> Floats:
        return _remove(scores, np.exp(log_softmax(scores)) < np.float32(epsilon), keep)

    return apply


def eta_cutoff(eta: float, keep: int = 1) -> Processor:
    """Tokens with a probability of at least min(eta, sqrt(eta) * exp(-entropy)) (Hewitt et al. 2022)."""

    def apply(_: Tokens, scores: Floats) -> Floats:
        logprobs = log_softmax(scores)
        probabilities = np.exp(logprobs)
        limit = np.minimum(eta, np.sqrt(eta) * np.exp(-_entropy(logprobs, probabilities)))
        return _remove(scores, probabilities < limit.astype(np.float32), keep)

    return apply


def typical_p(mass: float, keep: int = 1) -> Processor:
    """The tokens whose surprise is nearest the expected one, until they add up to `mass` (Meister et al. 2022)."""
    return _keeping(lambda scores: _typical(scores, mass, keep))


def renormalize(_: Tokens, scores: Floats) -> Floats:
    """Log probabilities: what is left adds up to 1 again."""
    return log_softmax(scores)


def _keeping(kept_of: Callable[[Floats], NDArray[np.intp]]) -> Processor:
    """The tokens whose indices are given for each row's scores (V,)."""

    def apply(_: Tokens, scores: Floats) -> Floats:
        changed = np.full_like(scores, -np.inf)
        for row, given in zip(changed, scores, strict=True):
            kept = kept_of(given)
            row[kept] = given[kept]
        return changed

    return apply


def _remove(scores: Floats, removed: NDArray[np.bool_], keep: int) -> Floats:
    removed &= scores < kth_largest(scores, keep)
    changed = scores.copy()
    changed[removed] = -np.inf
    return changed


def _entropy(logprobs: Floats, probabilities: Floats) -> Floats:
    """In nats along the last axis, which stays; a token that cannot come adds nothing, though 0 * inf is no number."""
    surprise: Floats = np.where(probabilities > 0, logprobs, np.float32(0)) * probabilities
    entropy: Floats = -surprise.sum(axis=-1, keepdims=True)
    return entropy


def _nucleus(scores: Floats, p: float, keep: int) -> NDArray[np.intp]:
    """Indices of the tokens that `top_p` keeps of (V,) scores."""
    candidates = np.flatnonzero(scores > -np.inf)
    values = scores[candidates]
    if not len(values):
        return candidates
    weights = np.exp(values - values.max())
    total = float(weights.sum(dtype=np.float64))
    rest = np.float32(1 - p)  # what may be cut, in the precision of the reference: its own limits are this coarse
    ranked, below = np.sort(_head(values)), 0.0
    if len(ranked) < len(values):
        head = float(np.exp(ranked - ranked[-1]).sum(dtype=np.float64))
        below = (total - head) / total
        if below > rest:  # the cut lies below the head
            ranked, below = np.sort(values), 0.0
    mass = below + np.cumsum(np.exp(ranked - ranked[-1]), dtype=np.float64) / total
    cut = min(int(np.count_nonzero(mass.astype(np.float32) <= rest)), max(0, len(ranked) - keep))
    limit = ranked[cut]
    kept = values >= limit
    equals = int(np.count_nonzero(ranked[:cut] == limit))
    if equals:
        kept[np.flatnonzero(values == limit)[:equals]] = False
    kept_ids: NDArray[np.intp] = candidates[kept]
    return kept_ids


def _head(values: Floats) -> Floats:
    """The largest values, all of them where they are few."""
    return values if len(values) <= 2 * _HEAD else values[largest(values, _HEAD)]


def _typical(scores: Floats, mass: float, keep: int) -> NDArray[np.intp]:
    """Indices of the tokens that `typical_p` keeps of (V,) scores."""
    candidates = np.flatnonzero(scores > -np.inf)
    if not len(candidates):
        return candidates
    logprobs = log_softmax(scores[candidates])
    probabilities = np.exp(logprobs)
    distances = np.abs(-logprobs - _entropy(logprobs, probabilities))
    nearest = np.sort(largest(-distances, _HEAD)) if len(distances) > 2 * _HEAD else np.arange(len(distances))
    if len(nearest) < len(distances) and probabilities[nearest].sum(dtype=np.float64) < mass:
        nearest = np.arange(len(distances))
    order = nearest[np.argsort(distances[nearest], kind="stable")]
    reached = np.cumsum(probabilities[order], dtype=np.float64).astype(np.float32) < np.float32(mass)
    last = min(int(np.count_nonzero(reached)), len(order) - 1)
    kept = distances <= distances[order[last]]
    kept[order[:keep]] = True
    kept_ids: NDArray[np.intp] = candidates[kept]
    return kept_ids
