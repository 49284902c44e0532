"""ONNX graphs by nodes and values (onnx_ir): the few questions and changes that rewriting and quantising share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[Any]  # any dtype: weights, integers, shapes

MICROSOFT = "com.microsoft"
# what a protobuf file may hold, less some room for the nodes
_LARGEST_BYTES = 2**31 - 2**24


def save(model: ir.Model, file: Path) -> None:
    """Write a model, with its weights in `{file}_data` when they pass what one file may hold."""
    size = 0
    for value in model.graph.initializers.values():
        value.const_value = ir.tensor(np.array(array(value)), name=value.name)  # the old file may be the one we write
        size += value.const_value.nbytes
    ir.save(model, file, external_data=f"{file.name}_data" if size > _LARGEST_BYTES else None)


def producer(value: ir.Value | None, operator: str) -> ir.Node | None:
    """The node that makes a value, if it is an `operator`."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == operator else None


def before(value: ir.Value | None, *operators: str) -> ir.Value | None:
    """The first input of a chain of operators, named from its end, that makes `value`; None where there is none."""
    for operator in operators:
        node = producer(value, operator)
        if node is None:
            return None
        value = node.inputs[0]
    return value


def is_constant(value: ir.Value | None) -> bool:
    """Whether a value is a weight or another initializer."""
    return value is not None and value.is_initializer() and value.const_value is not None


def array(value: ir.Value) -> Array:
    """An initializer's numbers. Raises ValueError for other values."""
    if value.const_value is None:
        raise ValueError(f"{value.name} is no initializer")
    return value.const_value.numpy()


def numbers(value: ir.Value | None, most: int = 64) -> tuple[int, ...] | None:
    """A small initializer's numbers, such as a shape's; None for other values."""
    if value is None or not is_constant(value) or array(value).size > most:
        return None
    return tuple(int(number) for number in array(value).reshape(-1))


def owner(node: ir.Node) -> ir.Graph:
    """The graph of a node. Raises ValueError for one that was removed."""
    if not isinstance(node.graph, ir.Graph):
        raise ValueError(f"{node.name} is not part of a graph")  # noqa: TRY004  # removed, not of the wrong type
    return node.graph


def add_constant(graph: ir.Graph, name: str, values: Array) -> ir.Value:
    """A new initializer."""
    value = ir.Value(name=name, const_value=ir.tensor(values, name=name))
    value.dtype, value.shape = ir.DataType.from_numpy(values.dtype), ir.Shape(values.shape)
    graph.register_initializer(value)
    return value


def insert(
    place: ir.Node,
    operator: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, int | float] | None = None,
    *,
    domain: str = "",
    outputs: int = 1,
) -> ir.Node:
    """A new node before another one, named after it."""
    name = f"{place.name}.{operator}"
    made = ir.node(operator, inputs, dict(attributes or {}), domain=domain, num_outputs=outputs, name=name)
    owner(place).insert_before(place, made)
    return made


def put_in_place(node: ir.Node, value: ir.Value) -> None:
    """Let all readers of a node's only output read `value`, which takes its type and, as a graph's output, its name."""
    old = node.outputs[0]
    value.type, value.shape = value.type or old.type, value.shape or old.shape
    if old.is_graph_output():
        old.name, value.name = None, old.name
    ir.convenience.replace_all_uses_with(old, value, replace_graph_outputs=True)
    owner(node).remove(node, safe=True)
