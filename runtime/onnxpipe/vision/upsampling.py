"""Planes of numbers to another size, bilinearly, and which plane is largest at each pixel without making them all.

Reference: torch 2.13 `nn.functional.interpolate` with `align_corners=False`: pixel centres are aligned, borders repeat,
nothing is smoothed when a plane shrinks. Shape letters: K planes, h w their size, H W the size asked for.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats

HeightWidth = tuple[int, int]

# Pixels of a tile's edge. Measured for 100 masks at 800 x 1066: 32 to 128 take about the same time where masks are
# smooth, smaller ones rule more planes out where they are not.
_TILE = 64


def resize(planes: Floats, size: HeightWidth) -> Floats:
    """Planes (K, h, w) as (K, H, W), bilinearly."""
    rows, columns = (_Axis.make(*edges) for edges in zip(planes.shape[1:], size, strict=True))
    (down, row_weights), (across, column_weights) = rows.part(0, size[0]), columns.part(0, size[1])
    return _product(row_weights, planes[:, down, across], column_weights)


def nearest(size: int, new: int) -> NDArray[np.intp]:
    """For each of `new` places, the one of `size` that torch's mode "nearest" takes its value from."""
    # in float32, for the rounding at places that fall between two
    places = np.arange(new, dtype=np.float32) * (np.float32(size) / np.float32(new))
    return np.minimum(places.astype(np.intp), size - 1)


@dataclasses.dataclass(frozen=True)
class Largest:
    """Which plane is largest at each pixel (H, W), the first of equals.

    `won` (K,) counts the pixels where each is, `areas` (K,) those where it is at least the threshold.
    """

    numbers: NDArray[np.int16]
    won: NDArray[np.int64]
    areas: NDArray[np.int64]


def largest_plane(planes: Floats, size: HeightWidth, threshold: float = np.inf) -> Largest:
    """What becomes of planes (K, h, w), resized to (H, W), at each pixel.

    Only a tile of the resized planes exists at a time, and of that only the planes that matter: interpolation stays
    between a tile's smallest and largest number, so a plane whose largest is below another's smallest is nowhere the
    largest there. Masks, being mostly empty or full, leave a few of a hundred.
    """
    rows, columns = (_Axis.make(*edges) for edges in zip(planes.shape[1:], size, strict=True))
    numbers = np.empty(size, np.int16)
    won, areas = np.zeros((2, len(planes)), np.int64)
    column_parts = [(span, *columns.part(*span)) for span in _spans(size[1])]
    for row_span in _spans(size[0]):
        down, row_weights = rows.part(*row_span)
        for column_span, across, column_weights in column_parts:
            tile = planes[:, down, across]
            low, high = tile.min(axis=(1, 2)), tile.max(axis=(1, 2))
            target = numbers[slice(*row_span), slice(*column_span)]
            full = low >= threshold
            areas[full] += target.size
            partial = (high >= threshold) & ~full
            # not >=, so that no NaN gets lost
            chosen = np.flatnonzero(~(high < low.max()) | partial)
            if len(chosen) == 1 and not partial[chosen[0]]:
                target[...] = chosen[0]
                won[chosen[0]] += target.size
                continue
            resized = _product(row_weights, tile[chosen], column_weights)
            _mark_largest(resized, chosen, target)
            won += np.bincount(target.ravel(), minlength=len(planes))
            counted = partial[chosen]
            areas[chosen[counted]] += np.count_nonzero(resized[counted] >= threshold, axis=(1, 2))
    return Largest(numbers, won, areas)


def _product(rows: Floats, planes: Floats, columns: Floats) -> Floats:
    """Planes (K, h, w) by weights (H, h) and (W, w), as (K, H, W)."""
    product: Floats = np.matmul(np.matmul(rows, planes), columns.T, dtype=np.float32)
    return product


def _mark_largest(planes: Floats, numbers: NDArray[np.intp], target: NDArray[np.int16]) -> None:
    """Write the number of the largest plane into each pixel of `target`: argmax over the first axis, but in strides."""
    best = planes[0].copy()
    target[...] = numbers[0]
    for plane, number in zip(planes[1:], numbers[1:], strict=True):
        np.copyto(target, np.int16(number), where=plane > best)
        np.maximum(best, plane, out=best)


def _spans(length: int) -> list[tuple[int, int]]:
    return [(start, min(start + _TILE, length)) for start in range(0, length, _TILE)]


@dataclasses.dataclass(frozen=True)
class _Axis:
    """Where each place of a resized axis lies on the original one: between `before` and `after`, at `share` of it."""

    before: NDArray[np.intp]
    after: NDArray[np.intp]
    share: Floats

    @classmethod
    def make(cls, size: int, new: int) -> "_Axis":
        # all in float32, as the reference: at a thousand pixels, its rounding moves shares by 1e-4
        scale, half = np.float32(size) / np.float32(new), np.float32(0.5)
        places = np.maximum(scale * (np.arange(new, dtype=np.float32) + half) - half, 0)
        before = np.minimum(places.astype(np.intp), size - 1)
        return cls(before, np.minimum(before + 1, size - 1), places - before.astype(np.float32))

    def part(self, start: int, stop: int) -> tuple[slice, Floats]:
        """What places `start` to `stop` are made of, and the matrix (stop - start, length of that) that makes them."""
        source, rows = slice(int(self.before[start]), int(self.after[stop - 1]) + 1), np.arange(stop - start)
        matrix = np.zeros((stop - start, source.stop - source.start), np.float32)
        matrix[rows, self.before[start:stop] - source.start] = 1 - self.share[start:stop]
        # added, for at the far border both are one place
        matrix[rows, self.after[start:stop] - source.start] += self.share[start:stop]
        return source, matrix
