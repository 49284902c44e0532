"""Rows to batches and back: group by length, pad, stack, run, split.

A row is one example's inputs without the batch axis. The graph's shape templates say which axes vary: a named axis is
padded to the longest row of the batch and cut back in the outputs that share its name or, convolved, follow it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from onnxpipe.bundle import Graph, Tensor
from onnxpipe.session import Array, Arrays, Engine

Row = Mapping[str, Array]
Shapes = tuple[tuple[int, ...], ...]

# Padded elements of the first input in one run. Bounds the memory of a call with thousands of rows; far above the
# point where a larger batch stops being faster on a CPU.
MAX_BATCH_ELEMENTS = 8192

# The same for inputs of real numbers, such as pixels: a dozen pictures of 224 x 224.
MAX_BATCH_NUMBERS = 2**21

# The same for samples of sound, half a minute of them: the first convolution makes a hundred numbers of each.
MAX_BATCH_SAMPLES = 2**19

# Numbers of one output in one run, 128 MB of float32: graphs that score a whole vocabulary at every token get there.
MAX_BATCH_OUTPUTS = 2**25


def run_rows(engine: Engine, graph: Graph, rows: Sequence[Row], *, together: bool) -> list[Arrays]:
    """The outputs of each row, in the order of `rows`, without the batch axis and without padding.

    `together` false runs every row alone, for graphs whose answer to a row depends on its neighbours.
    """
    outputs = dict(iterate_rows(engine, graph, rows, together=together))
    return [outputs[index] for index in range(len(rows))]


def iterate_rows(engine: Engine, graph: Graph, rows: Sequence[Row], *, together: bool) -> Iterator[tuple[int, Arrays]]:
    """The same batch by batch, each row's outputs with its index: rows of one length come one after the other.

    Outputs are views of their batch, which is in memory as long as one of them.
    """
    for members in _groups(rows, graph, together=together):
        yield from zip(members, run_batch(engine, graph, [rows[index] for index in members]), strict=True)


def run_batch(engine: Engine, graph: Graph, rows: Sequence[Row]) -> list[Arrays]:
    """The outputs of each row from one run of all of them, padded to the longest and cut back."""
    outputs = engine.run({tensor.name: stack([row[tensor.name] for row in rows], tensor) for tensor in graph.inputs})
    if len(rows) == 1:  # nothing was padded
        return [{tensor.name: outputs[tensor.name][0] for tensor in graph.outputs}]
    return [_unpad(outputs, position, row, graph) for position, row in enumerate(rows)]


def plan_batches(lengths: Sequence[int], max_elements: int) -> list[list[int]]:
    """Indices of rows that share a run: neighbours in length, longest x count at most `max_elements`, at least one."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        # sorted upwards, so the newcomer is the longest
        if batches and lengths[index] * (len(batches[-1]) + 1) <= max_elements:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def stack(arrays: Sequence[Array], tensor: Tensor) -> Array:
    """One batch (B, ...) of arrays, each padded at its end to the largest along every axis with the tensor's `pad`.

    Raises ValueError for arrays of different shapes where the tensor has no `pad`.
    """
    if len(arrays) == 1:
        return arrays[0][None]
    if all(array.shape == arrays[0].shape for array in arrays):
        return np.stack(arrays)
    if tensor.pad is None:
        raise ValueError(f"rows of different shapes for {tensor.name}, which cannot be padded")
    shape = np.max([array.shape for array in arrays], axis=0)
    batch = np.full((len(arrays), *shape), tensor.pad, dtype=arrays[0].dtype)
    for target, array in zip(batch, arrays, strict=True):
        target[tuple(map(slice, array.shape))] = array
    return batch


def _groups(rows: Sequence[Row], graph: Graph, *, together: bool) -> list[list[int]]:
    if not together or len(rows) <= 1:
        return [[index] for index in range(len(rows))]
    limit = max_elements(rows[0], graph)
    return [
        [members[index] for index in batch]
        for members in stackable_rows(rows, graph)
        for batch in plan_batches([row_size(rows[member], graph) for member in members], limit)
    ]


def row_size(row: Row, graph: Graph) -> int:
    """Elements of a row's first input: tokens, pixels or samples."""
    return int(row[graph.inputs[0].name].size)


def max_elements(row: Row, graph: Graph) -> int:
    """How many elements, padded, rows like this one may have in one run."""
    first = row[graph.inputs[0].name]
    if first.dtype.kind == "f":
        return MAX_BATCH_SAMPLES if first.ndim == 1 else MAX_BATCH_NUMBERS
    # every element of the input may give as many numbers as the fixed axes of an output have
    widest = max(math.prod(dim for dim in tensor.shape if isinstance(dim, int)) for tensor in graph.outputs)
    return min(MAX_BATCH_ELEMENTS, MAX_BATCH_OUTPUTS // widest)


def stackable_rows(rows: Sequence[Row], graph: Graph) -> list[list[int]]:
    """Indices of rows that may share a run: all, or where an input cannot be padded, those of one shape of it."""
    groups: dict[Shapes, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(rigid_shapes(row, graph), []).append(index)
    return list(groups.values())


def rigid_shapes(row: Row, graph: Graph) -> Shapes:
    """The shapes of the inputs that cannot be padded: rows that share a run have the same."""
    return tuple(row[tensor.name].shape for tensor in graph.inputs if tensor.pad is None)


def _unpad(outputs: Arrays, position: int, row: Row, graph: Graph) -> Arrays:
    sizes = {
        axis: size
        for tensor in graph.inputs
        for axis, size in zip(tensor.shape[1:], row[tensor.name].shape, strict=True)
        if isinstance(axis, str)
    }
    for name, convolved in (graph.convolved or {}).items():
        sizes[name] = convolved.size(sizes[convolved.of])
    return {
        tensor.name: outputs[tensor.name][position][
            tuple(slice(sizes.get(axis) if isinstance(axis, str) else None) for axis in tensor.shape[1:])
        ]
        for tensor in graph.outputs
    }
