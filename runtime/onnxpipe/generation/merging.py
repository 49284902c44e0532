"""One text from those of windows that overlap.

Reference: transformers 4.57.6 `_find_longest_common_sequence` of tokenization_whisper.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Span = tuple[float, float]  # when a token begins and ends, in seconds
Timed = tuple[list[int], list[Span]]  # tokens, and when each was said; no spans where nobody asked


def merge(parts: Sequence[Timed]) -> Timed:
    """The tokens of all parts in turn, what two neighbours have in common once; with their spans where they have them.

    The right end of one part and the left end of the next are laid over one another where most tokens are the same (not
    later in the left one, where there are spans). Up to the middle of that the left part counts, from there the right.
    """
    ids, spans = parts[0]
    whole: Timed = ([], [])
    for right_ids, right_spans in parts[1:]:
        left_middle, right_middle = _middles(ids, right_ids, spans, right_spans)
        whole[0].extend(ids[:left_middle])
        whole[1].extend(spans[:left_middle])
        ids, spans = right_ids[right_middle:], right_spans[right_middle:]
    return whole[0] + ids, whole[1] + spans


def _middles(
    left: list[int], right: list[int], left_spans: Sequence[Span], right_spans: Sequence[Span]
) -> tuple[int, int]:
    """Where to leave the left part and to enter the right one."""
    if not left or not right:
        return len(left), 0
    same = np.array(left)[:, None] == np.array(right)
    if left_spans and right_spans:
        same &= _not_later(np.array(left_spans)[:, None], np.array(right_spans))
    # by how many tokens the right part is moved over the left one, from none on: matches on each diagonal
    moves = np.arange(1, len(left) + len(right))
    lefts, rights = np.nonzero(same)
    matches = np.bincount(len(left) - lefts + rights, minlength=len(moves) + 1)[1:]
    # a little for length: of perfect matches the longer one
    scores = np.where(matches > 1, matches / moves + moves / 10000.0, 0.0)
    move = int(moves[scores.argmax()])
    if not scores.max():
        return len(left), 0
    begins = max(0, len(left) - move), max(0, move - len(left))
    ends = min(len(left), len(left) + len(right) - move), min(len(right), move)
    return (begins[0] + ends[0]) // 2, (begins[1] + ends[1]) // 2


def _not_later(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether spans (..., 2) come before others or are the same, by their beginnings and then by their ends."""
    earlier: NDArray[np.bool_] = left[..., 0] < right[..., 0]
    earlier |= (left[..., 0] == right[..., 0]) & (left[..., 1] <= right[..., 1])
    return earlier
