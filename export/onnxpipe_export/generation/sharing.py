"""Weights that two graphs of one model have in common, stored once: the embedding of encoder-decoder models."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir

from onnxpipe_export.generation.graphs import array

# smaller ones stay inside both files
_LEAST_BYTES = 2**16
# where large weights begin in a file: at a memory page, so that they can be used where they lie
_ALIGNMENT = 4096

_Key = tuple[ir.DataType, tuple[int, ...], bytes]


def share_weights(first: Path, second: Path) -> int:
    """Store the large weights that two graphs have in common beside the second alone; how many bytes that saves.

    They lie in `{second}_data`, and both graphs, which must be in one folder, name their places there. Files without
    such weights stay as they are.
    """
    one, other = ir.load(first), ir.load(second)
    known = dict(_large(other))
    common = [(value, known[key]) for key, value in _large(one) if key in known]
    if not common:
        return 0
    data = f"{second.name}_data"
    shared = [value for value in dict.fromkeys(value for _, value in common) if _place(value, data) is None]
    _move_out(shared, second.parent, data)
    ir.save(other, second)
    for value, owner in common:
        place = _place(owner, data)
        assert place is not None  # noqa: S101 - as they have just been moved there
        value.const_value = ir.ExternalTensor(
            data,
            place.offset,
            place.length,
            place.dtype,
            shape=place.shape,
            name=str(value.name),
            base_dir=first.parent,
        )
    own = f"{first.name}_data"
    _move_out([value for value in one.graph.initializers.values() if _place(value, own)], first.parent, own)
    ir.save(one, first)
    return sum(array(owner).nbytes for _, owner in common)


def _large(model: ir.Model) -> Iterator[tuple[_Key, ir.Value]]:
    """The large weights of a graph, by what is in them."""
    for value in model.graph.initializers.values():
        numbers = array(value)
        if numbers.nbytes >= _LEAST_BYTES and value.const_value is not None:
            yield (value.const_value.dtype, numbers.shape, hashlib.sha256(numbers.tobytes()).digest()), value


def _place(value: ir.Value, file: str) -> ir.ExternalTensor | None:
    """Where a weight lies in a file; None when it lies elsewhere."""
    tensor = value.const_value
    return tensor if isinstance(tensor, ir.ExternalTensor) and str(tensor.location) == file else None


def _move_out(values: list[ir.Value], folder: Path, file: str) -> None:
    """Write the numbers of weights into a file, which has no others then."""
    if not values:
        return
    tensors = [ir.tensor(np.array(array(value)), name=value.name) for value in values]  # they may lie in that file
    moved = ir.external_data.convert_tensors_to_external(
        tensors, folder, file, alignment=_ALIGNMENT, align_threshold=_LEAST_BYTES - 1
    )
    for value, tensor in zip(values, moved, strict=True):
        value.const_value = tensor
