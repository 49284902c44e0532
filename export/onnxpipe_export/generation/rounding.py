"""Weights to blocks of 4 bits with a scale each, chosen for the least squared error of what comes back.

The usual scale makes the largest weight of a block the largest integer. One that cuts it off a little, or is turned
around (integers go to -8, but only to 7), is mostly nearer to all others. `onnxpipe_bench.language_quality` has what
that is worth.
"""

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats

_LOWEST, _HIGHEST = -8, 7
# of the usual scale; each is tried both ways round
_FACTORS = (1.05, 1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
_TOGETHER = 2**18  # weights: what is made of them on the way stays in the processor's cache


def round_blocks(matrix: Floats, block_size: int) -> tuple[NDArray[np.uint8], Floats]:
    """Packed integers (N, blocks, block_size / 2), zero stored as 8, low bits first, and their scales (N, blocks).

    `matrix` (N, K) holds a row for each output; the last block of a row is filled up with zeros.
    """
    outputs, inputs = matrix.shape
    count = -(-inputs // block_size)
    padded = np.zeros((outputs, count * block_size), np.float32)
    padded[:, :inputs] = matrix
    blocks: Floats = padded.reshape(-1, block_size)
    scales = np.empty(len(blocks), np.float32)
    integers = np.empty(blocks.shape, np.uint8)
    step = max(_TOGETHER // block_size, 1)
    for begin in range(0, len(blocks), step):
        part = slice(begin, begin + step)
        scales[part] = fit_scales(blocks[part])
        levels: Floats = blocks[part] / scales[part, None]
        integers[part] = _rounded(levels) - _LOWEST
    packed: NDArray[np.uint8] = integers[:, 0::2] | integers[:, 1::2] << np.uint8(4)
    return packed.reshape(outputs, count, -1), scales.reshape(outputs, count)


def fit_scales(blocks: Floats) -> Floats:
    """The scales (B,) of blocks (B, S) with the least squared error of those that were tried; 1 for zeros."""
    peaks = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1)[:, None], axis=1)[:, 0]
    usual: Floats = np.where(peaks == 0, np.float32(1), peaks / np.float32(_LOWEST))
    levels: Floats = blocks / usual[:, None]
    best, gain = np.ones_like(usual), np.full(len(blocks), -np.inf, np.float32)
    for factor in (*_FACTORS, *(-factor for factor in _FACTORS)):
        integers = _rounded(levels * np.float32(1 / factor))
        # the best scale for these integers is p / q, and the error is smaller by p * p / q than that of zeros
        products = np.einsum("bs,bs->b", integers, levels)
        squares = np.maximum(np.einsum("bs,bs->b", integers, integers), np.float32(1))
        better = products * products / squares > gain
        gain = np.where(better, products * products / squares, gain)
        best = np.where(better & (products != 0), products / squares, best)
    return best * usual


def _rounded(levels: Floats) -> Floats:
    np.rint(levels, out=levels)
    return np.clip(levels, _LOWEST, _HIGHEST, out=levels)
