"""Drawing tokens, and what their log probabilities were."""

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats
from onnxpipe.generation.scores import Tokens, largest, log_partition, no_token_left

# A token that is less likely than the best by exp(-103) has probability 0 in float32.
_NEVER = np.float32(103)
# Weights that are added up in one block: the place of a draw is found among the blocks' sums, then inside its block.
_BLOCK = 256


def make_generators(seed: int, count: int) -> list[np.random.Generator]:
    """A generator for each row of one request. Those of the first rows do not depend on how many there are."""
    return [np.random.default_rng([seed, row]) for row in range(count)]


def settled_seed(given: int | None) -> int:
    """The seed that was given; where none was, one that nobody can foresee, below 2**64."""
    if given is not None:
        return given
    return int(np.random.SeedSequence().generate_state(1, np.uint64)[0])


def draw(scores: Floats, generator: np.random.Generator) -> int:
    """A token drawn by softmax of its scores (V,).

    It takes one number from the generator whatever the scores, so a seed means the same text in every batch.
    """
    candidates = np.flatnonzero(scores > -np.inf)
    values = scores[candidates]
    point = generator.random()
    weights = np.exp(values - values.max()) if len(values) else values
    sums = np.cumsum(np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK), dtype=np.float64))
    if not len(weights) or not np.isfinite(sums[-1]):
        raise no_token_left()
    point *= sums[-1]
    block = min(int(np.searchsorted(sums, point, side="right")), len(sums) - 1)
    inside = weights[block * _BLOCK : (block + 1) * _BLOCK].cumsum(dtype=np.float64)
    rest = point - (sums[block - 1] if block else 0.0)
    place = min(int(np.searchsorted(inside, rest, side="right")), len(inside) - 1)
    return int(candidates[block * _BLOCK + place])


def draw_several(scores: Floats, count: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """Indices of `count` different tokens drawn one after the other by softmax of scores (N,), in that order.

    Fewer where fewer can come. Perturbed by Gumbel noise, the largest scores are such a draw (Kool et al. 2019,
    "Stochastic Beams and Where to Find Them").
    """
    candidates = np.flatnonzero(scores > scores.max() - _NEVER)
    noisy = scores[candidates] + generator.gumbel(size=len(candidates))
    return candidates[np.argsort(-noisy, kind="stable")[:count]]


def token_logprobs(scores: Floats, ids: Tokens) -> Floats:
    """Log probabilities of one token in each row, by softmax of scores (R, V); ids (R,)."""
    top, rest = log_partition(scores)
    logprobs: Floats = (np.take_along_axis(scores, ids[:, None], axis=-1) - top - rest)[:, 0]
    return logprobs


def top_tokens(scores: Floats, count: int) -> list[tuple[int, float]]:
    """The `count` likeliest tokens by softmax of scores (V,) with log probabilities, best first, equal ones in order.

    Tokens that cannot come are never among them, so there may be fewer.
    """
    found = largest(scores, count) if count else np.empty(0, np.intp)
    ranked = found[np.argsort(-scores[found], kind="stable")[:count]]
    top, rest = log_partition(scores)
    logprobs = scores[ranked] - top - rest
    return list(zip(ranked.tolist(), logprobs.tolist(), strict=True))
