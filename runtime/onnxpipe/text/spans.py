"""Spans of neighbouring tokens: the likeliest of them, and the whole words they touch. T tokens, W widest span."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats


class Span(NamedTuple):
    """The tokens from `first` to `last`, both included, and how likely they are the answer."""

    first: int
    last: int
    score: float


def best_spans(starts: Floats, ends: Floats, *, max_tokens: int, k: int) -> list[Span]:
    """The `k` likeliest spans of at most `max_tokens` tokens, likeliest first; of equals the one that begins first.

    `starts` and `ends` (T,) are each token's probability of being a span's first and last; the product is the span's.
    Spans without any probability are left out. Reference: decode_spans of transformers 4.57.6, which fills a (T, T)
    matrix, leaves the order of equals to numpy's partition, and fills up with impossible spans.
    """
    if not starts.size:
        return []
    width = min(max_tokens, starts.size)
    # (T, W): row t holds the spans that begin with token t; those that would run over the end score 0
    following = np.lib.stride_tricks.sliding_window_view(np.append(ends, np.zeros(width - 1, ends.dtype)), width)
    scores = (starts[:, None] * following).ravel()
    possible = np.flatnonzero(scores)
    k = min(k, possible.size)
    if not k:
        return []
    # everything that equals the k-th, so that order and not the partition decides; NaN is below nothing, and so shows
    bound = np.partition(scores[possible], -k)[-k]
    kept = possible[~(scores[possible] < bound)]
    best = kept[np.argsort(-scores[kept], kind="stable")][:k]
    first, beyond = np.divmod(best, width)
    return list(map(Span, first.tolist(), (first + beyond).tolist(), scores[best].tolist()))


def whole_words(words: NDArray[np.int64], span: Span) -> Span:
    """The span widened to the first token of its first word and the last of its last.

    `words` (T,) holds each token's word, in rising order. Reference: word_to_chars of tokenizers 0.22.
    """
    first = np.searchsorted(words, words[span.first], "left")
    last = np.searchsorted(words, words[span.last], "right") - 1
    return Span(int(first), int(last), span.score)
