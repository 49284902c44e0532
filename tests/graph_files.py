"""ONNX files written without the onnx package, so that tests work in a lean environment."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from onnxpipe.bundle import Graph, Tensor

DTYPES = {np.dtype("float32"): 1, np.dtype("int32"): 6, np.dtype("int64"): 7, np.dtype("float16"): 10, np.dtype("O"): 8}


# protobuf's wire format: a field is its number and wire type, then a varint (0) or a length and that many bytes (2)


def _varint(value: int) -> bytes:
    head = b""
    while value > 0x7F:
        head += bytes([value & 0x7F | 0x80])
        value >>= 7
    return head + bytes([value])


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _fields(number: int, values: Sequence[int | str | bytes]) -> bytes:
    return b"".join(_field(number, value) for value in values)


@dataclasses.dataclass(frozen=True)
class Port:
    """A graph's input or output."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def encode(self) -> bytes:
        """A ValueInfoProto: name = 1, type = 2 (tensor_type = 1: elem_type = 1, shape = 2, dim = 1: value 1, name 2)"""
        dims = _fields(1, [_field(1 if isinstance(dim, int) else 2, dim) for dim in self.shape])
        tensor = _field(1, DTYPES[np.dtype(self.dtype)]) + _field(2, dims)
        return _field(1, self.name) + _field(2, _field(1, tensor))


@dataclasses.dataclass(frozen=True)
class Node:
    """An operator with integer attributes."""

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def encode(self) -> bytes:
        """A NodeProto: input = 1, output = 2, op_type = 4, attribute = 5 (name = 1, i = 3, type = 20: INT is 2)."""
        attributes = [_field(1, name) + _field(3, value) + _field(20, 2) for name, value in self.attributes.items()]
        return _fields(1, self.inputs) + _field(2, self.output) + _field(4, self.operator) + _fields(5, attributes)


def encode_model(
    nodes: Sequence[Node], inputs: Sequence[Port], outputs: Sequence[Port], constants: Mapping[str, np.ndarray]
) -> bytes:
    """A ModelProto: ir_version = 1, graph = 7 (node = 1, name = 2, initializer = 5, in = 11, out = 12), opset = 8."""
    initializers = [
        _fields(1, array.shape) + _field(2, DTYPES[array.dtype]) + _field(8, name) + _field(9, array.tobytes())
        for name, array in constants.items()
    ]
    graph = (
        _fields(1, [node.encode() for node in nodes])
        + _field(2, "tiny")
        + _fields(5, initializers)
        + _fields(11, [port.encode() for port in inputs])
        + _fields(12, [port.encode() for port in outputs])
    )
    return _field(1, 9) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 17))


def graph_of(inputs: Sequence[Port], outputs: Sequence[Port]) -> Graph:
    """The manifest's description of a graph with these ports."""
    return Graph(
        inputs=tuple(Tensor(name=port.name, dtype=port.dtype, shape=port.shape) for port in inputs),
        outputs=tuple(Tensor(name=port.name, dtype=port.dtype, shape=port.shape) for port in outputs),
    )
