"""Small numpy functions that several tasks share. Shape letters: B rows, T tokens, H hidden, C classes."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def softmax(logits: Floats) -> Floats:
    """Probabilities along the last axis; shifted by the maximum, so that large logits do not overflow."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Floats = shifted / shifted.sum(axis=-1, keepdims=True)
    return probabilities


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + exp(-x)) for each element, without overflow at either end."""
    small = np.exp(-np.abs(logits))  # in (0, 1], whatever the sign
    probabilities: Floats = np.where(logits >= 0, np.float32(1), small) / (1 + small)
    return probabilities


def descending(scores: Floats, k: int | None = None) -> NDArray[np.intp]:
    """Indices of the `k` largest of (C,) scores (all when None), largest first, ties in index order."""
    keys = -scores
    if k is None or k >= len(keys):
        return np.argsort(keys, kind="stable")
    # a few of a whole vocabulary: sort only those up to the k-th, with its ties; `not >`, so that no NaN gets lost
    candidates = np.flatnonzero(~(keys > np.partition(keys, k - 1)[k - 1]))
    return candidates[np.argsort(keys[candidates], kind="stable")][:k]


def normalize(vectors: Floats) -> Floats:
    """Vectors of length 1 along the last axis; a zero vector stays zero (torch's normalize, eps 1e-12)."""
    # plain ufuncs: after a run has filled the caches, np.linalg.norm's many lines cost more than its sum
    lengths = np.sqrt(np.square(vectors).sum(axis=-1, keepdims=True))
    units: Floats = vectors / np.maximum(lengths, np.float32(1e-12))
    return units
