"""Numpy functions on scores of a vocabulary. Shape letters: R rows, V vocabulary, T tokens so far."""

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats
from onnxpipe.errors import InvalidInput

Tokens = NDArray[np.int64]

# Scores that share a maximum in `largest`.
_FOLDS = 64


def log_partition(scores: Floats) -> tuple[Floats, Floats]:
    """The maximum along the last axis, which stays with length 1, and log(sum(exp(x - maximum))).

    Subtract one after the other from scores: their sum would lose digits of large scores.
    """
    top = scores.max(axis=-1, keepdims=True)
    return top, np.log(np.exp(scores - top).sum(axis=-1, keepdims=True))


def log_softmax(scores: Floats) -> Floats:
    """Log probabilities along the last axis; -inf stays -inf."""
    logprobs: Floats = scores - scores.max(axis=-1, keepdims=True)
    logprobs -= np.log(np.exp(logprobs).sum(axis=-1, keepdims=True))
    return logprobs


def largest(scores: Floats, k: int) -> NDArray[np.intp]:
    """Indices of the `k` largest of (V,) scores in rising order; more where several equal the k-th; never one of -inf.

    Two passes over the vocabulary: of its maxima in `_FOLDS` folds the k-th largest is a bound below the k-th score, so
    only the few scores above it are ranked. Partitioning all of them takes twice as long, without AVX-512 ten times.
    """
    columns = len(scores) // _FOLDS
    if columns >= 2 * k:
        maxima = scores[: columns * _FOLDS].reshape(_FOLDS, columns).max(axis=0)
        bound = np.partition(maxima, columns - k)[columns - k]
        found = np.flatnonzero(scores >= bound if bound > -np.inf else scores > -np.inf)
    else:
        found = np.flatnonzero(scores > -np.inf)
    if len(found) <= k:
        return found
    values = scores[found]
    best: NDArray[np.intp] = found[values >= np.partition(values, len(values) - k)[len(values) - k]]
    return best


def kth_largest(scores: Floats, k: int) -> Floats:
    """The k-th largest of each row (R, 1); -inf where a row has fewer that are larger."""
    bounds = np.full((len(scores), 1), -np.inf, np.float32)
    for bound, row in zip(bounds, scores, strict=True):
        found = largest(row, k)
        if len(found) >= k:
            bound[0] = row[found].min()
    return bounds


def no_token_left() -> InvalidInput:
    """What to raise when every score of a row is -inf or not a number."""
    return InvalidInput(
        "no token may follow: the banned words, suppressed tokens and grammar together exclude the whole vocabulary, "
        "or the model gave no numbers; loosen them"
    )
