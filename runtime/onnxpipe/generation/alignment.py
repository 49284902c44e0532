"""When each token was said: what the decoder looked at in the sound while it wrote, brought into one order.

Reference: transformers 4.57.6 `WhisperGenerationMixin._extract_token_timestamps`, after Radford et al. 2022, "Robust
Speech Recognition". Shape letters: A heads, T tokens, S positions of the source, D numbers per head.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from onnxpipe.arrays import Floats, softmax
from onnxpipe.session import Array

_Indices = NDArray[np.intp]

# the ways into a cell: from both before, from the token before, from the position before
_BOTH, _TOKEN, _POSITION = 0, 1, 2


def attention_of(
    queries: Mapping[int, Floats], source: Mapping[str, Array], heads: Sequence[tuple[int, ...]]
) -> Floats:
    """How much each token looked at each position of the source (A, T, S), by the heads (layer, head).

    `queries` are (T, heads * D) by layer, unscaled; `source` is the encoder's answer: keys (heads, S, D) of each layer.
    """
    weights = []
    for layer, head in heads:
        keys = source[f"cross_key_values.{layer}.key"][head].astype(np.float32)
        size = keys.shape[1]
        query = queries[layer][:, head * size : (head + 1) * size].astype(np.float32)
        weights.append(softmax(query @ keys.T * np.float32(size**-0.5)))
    return np.stack(weights)


def token_starts(weights: Floats, width: int) -> NDArray[np.int64]:
    """The position (T,) at which each token begins, from attention (A, T, S), S at least 1; it never runs backwards.

    `width` is that of the median filter along the positions.
    """
    # the same for all tokens, or a single token: nothing to tell one position from another by, where the reference
    # divides 0 by 0 and gives a time before the beginning
    spread = weights.std(axis=1, keepdims=True)
    centred = weights - weights.mean(axis=1, keepdims=True)
    normal = np.divide(centred, spread, out=np.zeros_like(weights), where=spread > 0)
    tokens, positions = warp(-median_filter(normal, width).mean(axis=0))
    starts: NDArray[np.int64] = positions[np.diff(tokens, prepend=-1) > 0]
    return starts


def median_filter(values: Floats, width: int) -> Floats:
    """The median of the `width` (odd) numbers around each along the last axis, mirrored at its ends.

    An axis too short to be mirrored stays as it is.
    """
    beside = width // 2
    if values.shape[-1] <= beside:
        return values
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(beside, beside)], mode="reflect")
    medians: Floats = np.partition(sliding_window_view(padded, width, axis=-1), beside, axis=-1)[..., beside]
    return medians


def warp(costs: Floats) -> tuple[_Indices, _Indices]:
    """The cheapest path through costs (T, S): the tokens and the positions that it passes, neither ever falling.

    Dynamic time warping (Sakoe and Chiba 1978); of equal ways the one along the positions is taken.
    """
    height, length = costs.shape
    totals = np.full((height + 1, length + 1), np.inf, np.float32)
    totals[0, 0] = 0
    ways = np.full((height + 1, length + 1), _POSITION, np.int8)
    ways[1:, 0] = _TOKEN
    # cells of one diagonal do not depend on each other
    for diagonal in range(2, height + length + 1):
        rows = np.arange(max(1, diagonal - length), min(height, diagonal - 1) + 1)
        columns = diagonal - rows
        both, token = totals[rows - 1, columns - 1], totals[rows - 1, columns]
        position = totals[rows, columns - 1]
        way = np.where((token < both) & (token < position), _TOKEN, _POSITION)
        way[(both < token) & (both < position)] = _BOTH
        ways[rows, columns] = way
        before = np.choose(way, (both, token, position))
        totals[rows, columns] = costs[rows - 1, columns - 1].astype(np.float64) + before
    return _trace(ways)


def _trace(ways: NDArray[np.int8]) -> tuple[_Indices, _Indices]:
    """The path that ends in the last cell, from its beginning."""
    row, column = ways.shape[0] - 1, ways.shape[1] - 1
    path = []
    while row > 0 or column > 0:
        path.append((row - 1, column - 1))
        way = ways[row, column]
        row -= way != _POSITION
        column -= way != _TOKEN
    tokens, positions = np.array(path[::-1], np.intp).T
    return tokens, positions
