"""Keys and values of texts that are being written: one buffer per tensor, a slot per row, nothing copied per step.

A row lies at the front of its slot, whatever its neighbours' lengths; what is behind it is not read.
Shape letters: N slots, H heads, S positions, D numbers per head.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from onnxpipe.bundle import Tensor
from onnxpipe.session import Array

Slots = NDArray[np.intp]


class Cache:
    """Buffers (N, H, S, D), one per tensor, that `reserve` makes larger. For one thread at a time."""

    def __init__(self, tensors: Sequence[Tensor], *, length_step: int) -> None:
        """`tensors` as the graph has them: of their shape (N, H, S, D), H and D are fixed.

        Slots get as long as the longest row wants, rounded up to a multiple of `length_step`.
        """
        self._length_step = length_step
        self._tensors = {
            tensor.name: (int(tensor.shape[1]), int(tensor.shape[3]), np.dtype(tensor.dtype)) for tensor in tensors
        }
        self.buffers: dict[str, Array] = {}
        self.slots = 0
        self.length = 0

    @property
    def shape(self) -> tuple[int, int]:
        """(slots, positions) of every buffer: other arrays lie there when it changes."""
        return self.slots, self.length

    @property
    def bytes_per_position(self) -> int:
        """Memory of one position of one slot, in all buffers together."""
        return sum(heads * size * dtype.itemsize for heads, size, dtype in self._tensors.values())

    def reserve(self, slots: int, length: int) -> None:
        """Room for so many slots of so many positions each, and maybe more; what lies in the buffers stays.

        What has not been written yet takes no memory.
        """
        slots, length = self._grown(slots, length)
        if (slots, length) == (self.slots, self.length):
            return
        for name, (heads, size, dtype) in self._tensors.items():
            # the system hands zeros out page by page, when they are first written
            buffer = np.zeros((slots, heads, length, size), dtype)
            if name in self.buffers:
                buffer[: self.slots, :, : self.length] = self.buffers[name]
            self.buffers[name] = buffer
        self.slots, self.length = slots, length

    def clear(self) -> None:
        """Give the memory back."""
        self.buffers.clear()
        self.slots = self.length = 0

    def copy(self, sources: Slots, targets: Slots, length: int) -> None:
        """The first `length` positions of slots `sources` to slots `targets`, all read before one is written."""
        moved = sources != targets
        if not moved.any():
            return
        sources, targets = sources[moved], targets[moved]
        for buffer in self.buffers.values():
            buffer[targets, :, :length] = buffer[sources, :, :length]

    def write(self, slot: int, arrays: Mapping[str, Array]) -> None:
        """Fill the front of a slot with arrays (H, s, D)."""
        for name, array in arrays.items():
            self.buffers[name][slot, :, : array.shape[1]] = array

    def _grown(self, slots: int, length: int) -> tuple[int, int]:
        if slots > self.slots and self.slots:
            slots = max(slots, 2 * self.slots)
        rounded = -(-length // self._length_step) * self._length_step
        return max(slots, self.slots), max(rounded, self.length)
