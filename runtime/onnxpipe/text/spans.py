"""Spans of neighbouring tokens: the likeliest of them, and the whole words they touch.

Shape letters: T tokens, W tokens of the widest span, K spans.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats


class Spans(NamedTuple):
    """The tokens from `first` to `last`, both included, and how likely they are what is sought: each (K,)."""

    first: NDArray[np.intp]
    last: NDArray[np.intp]
    scores: Floats


def best_spans(starts: Floats, ends: Floats, *, max_tokens: int, k: int) -> Spans:
    """The `k` likeliest spans of at most `max_tokens` tokens, likeliest first; of equals the one that begins first.

    `starts` and `ends` (T,) are each token's probability of being a span's first and last; the product is the span's.
    Spans without any probability are left out. Reference: decode_spans of transformers 4.57.6, which fills a (T, T)
    matrix, leaves the order of equals to numpy's partition, and fills up with impossible spans.
    """
    width = min(max_tokens, starts.size)
    last = np.arange(starts.size)[:, None] + np.arange(width)  # (T, W): a row for each first token
    scores = (starts[:, None] * np.concatenate([ends, np.zeros(width, ends.dtype)])[last]).ravel()
    kept = np.flatnonzero(scores)
    if k < kept.size:
        # everything that equals the k-th, so that order and not the partition decides; NaN is below nothing: it shows
        bound = np.partition(scores[kept], -k)[-k]
        kept = kept[~(scores[kept] < bound)]
    best = kept[np.argsort(-scores[kept], kind="stable")][:k]
    return Spans(best // width, last.ravel()[best], scores[best])


def whole_words(words: NDArray[np.int64], spans: Spans) -> Spans:
    """The spans widened to the first token of their first word and the last of their last.

    `words` (T,) holds each token's word, in rising order. Reference: word_to_chars of tokenizers 0.22.
    """
    first = np.searchsorted(words, words[spans.first], "left")
    last = np.searchsorted(words, words[spans.last], "right") - 1
    return Spans(first, last, spans.scores)
