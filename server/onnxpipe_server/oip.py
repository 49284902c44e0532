"""The Open Inference Protocol, version 2: tensors of a graph to rows and back, as JSON or as bytes behind it.

Source: the protocol's own text (kserve/open-inference-protocol, specification/protocol/inference_rest.md) and Triton's
extension for binary tensors (triton-inference-server/server, docs/protocol/extension_binary_data.md).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from onnxpipe.batching import Row
from onnxpipe.bundle import Graph, Tensor
from onnxpipe.records import FieldError, Record, parameter, show
from onnxpipe.session import Array, Arrays
from onnxpipe_server.status import NotFinite

Json = dict[str, Any]  # a JSON object: nothing more to say about it that mypy could follow

# numpy's name -> the protocol's
_DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputTensor(Record):
    """An input of the graph; without `data` its bytes stand behind the JSON, `binary_data_size` of them."""

    name: str
    datatype: str = parameter(description="Such as INT64 or FP32.")
    shape: tuple[int, ...] = parameter(description="The size of each axis, that of the batch first.")
    data: tuple[Any, ...] | None = parameter(None, description="The numbers in row-major order, flat or nested.")
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WantedTensor(Record):
    """An output that is asked for; with the parameter `binary_data` as bytes behind the JSON."""

    name: str
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InferenceRequest(Record):
    """Tensors for a graph."""

    id: str | None = parameter(None, description="Comes back with the answer.")
    inputs: tuple[InputTensor, ...]
    outputs: tuple[WantedTensor, ...] = parameter((), description="Those that come back; all when absent.")
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class OutputTensor:
    """An output of the graph."""

    name: str
    datatype: str
    shape: list[int]
    data: list[float]


@dataclasses.dataclass(frozen=True)
class InferenceResponse:
    """What the graph makes of the tensors."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | None = None


@dataclasses.dataclass(frozen=True)
class InferenceError:
    """The body of every error."""

    error: str


@dataclasses.dataclass(frozen=True)
class TensorMetadata:
    """An input or output of a graph; -1 is an axis of any size."""

    name: str
    datatype: str
    shape: list[int]


def describe(tensors: Sequence[Tensor]) -> list[TensorMetadata]:
    """The inputs or outputs of a graph as the protocol has them."""
    return [
        TensorMetadata(
            tensor.name,
            _DATATYPES[np.dtype(tensor.dtype).name],
            [-1 if isinstance(axis, str) else axis for axis in tensor.shape],
        )
        for tensor in tensors
    ]


def split(body: bytes, header_length: str | None) -> tuple[bytes, bytes]:
    """The JSON of a body and the bytes behind it, as inference-header-content-length says. Raises InvalidInput."""
    if header_length is None:
        return body, b""
    if not header_length.isdecimal() or int(header_length) > len(body):
        problem = f"expected a number up to {len(body)}, the size of the body; given {show(header_length)}"
        raise FieldError("inference-header-content-length", problem)
    return body[: int(header_length)], body[int(header_length) :]


def read_rows(asked: InferenceRequest, binary: bytes, graph: Graph) -> list[Row]:
    """The rows of a batch of tensors. Raises FieldError for what the graph does not take."""
    known = {tensor.name: tensor for tensor in graph.inputs}
    arrays: Arrays = {}
    for index, given in enumerate(asked.inputs):
        path = f"inputs[{index}]"
        if given.name not in known:
            raise FieldError(f"{path}.name", f"expected one of {', '.join(known)}; given {show(given.name)}")
        size = given.parameters.get("binary_data_size")
        if size is not None and (type(size) is not int or not 0 <= size <= len(binary)):
            problem = f"expected a number up to {len(binary)}, the bytes that are left; given {show(size)}"
            raise FieldError(f"{path}.parameters.binary_data_size", problem)
        arrays[given.name] = _array(given, None if size is None else binary[:size], known[given.name], path)
        binary = binary[size or 0 :]
    if missing := known.keys() - arrays.keys():
        raise FieldError("inputs", f"the graph wants {', '.join(known)}; {min(missing)} is missing")
    _check_axes(arrays, graph)
    count = len(arrays[graph.inputs[0].name])
    return [{name: array[index] for name, array in arrays.items()} for index in range(count)]


def write(
    outputs: Sequence[Arrays], asked: InferenceRequest, graph: Graph, names: Mapping[str, str]
) -> tuple[bytes, bytes]:
    """The JSON of an answer, `names` and the outputs of its rows, and the bytes behind it.

    Raises FieldError for an output the graph does not have, NotFinite where JSON would have to hold NaN or infinity.
    """
    known = [tensor.name for tensor in graph.outputs]
    everything = asked.parameters.get("binary_data_output") is True
    wanted = {one.name: one.parameters.get("binary_data", everything) is True for one in asked.outputs}
    for index, name in enumerate(wanted):
        if name not in known:
            raise FieldError(f"outputs[{index}].name", f"expected one of {', '.join(known)}; given {show(name)}")
    told, behind = [], b""
    for name, as_bytes in (wanted or dict.fromkeys(known, everything)).items():
        array = np.stack([row[name] for row in outputs])
        head: Json = {"name": name, "datatype": _DATATYPES[array.dtype.name], "shape": list(array.shape)}
        if as_bytes:
            content = _little_endian(array).tobytes()
            behind += content
            told.append(head | {"parameters": {"binary_data_size": len(content)}})
            continue
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise NotFinite(f"the output {name} holds NaN or infinity, which JSON cannot say; ask for binary data")
        told.append(head | {"data": array.reshape(-1)})
    value = {**names, **({} if asked.id is None else {"id": asked.id}), "outputs": told}
    return orjson.dumps(value, default=lambda array: array.tolist(), option=orjson.OPT_SERIALIZE_NUMPY), behind


def _array(given: InputTensor, content: bytes | None, tensor: Tensor, path: str) -> Array:
    dtype = np.dtype(tensor.dtype)
    if given.datatype != _DATATYPES[dtype.name]:
        raise FieldError(f"{path}.datatype", f"expected {_DATATYPES[dtype.name]}, given {show(given.datatype)}")
    expected = [-1 if isinstance(axis, str) else axis for axis in tensor.shape]
    fits = len(given.shape) == len(expected) and all(
        size >= 1 and axis in (-1, size) for size, axis in zip(given.shape, expected, strict=True)
    )
    if not fits:
        raise FieldError(f"{path}.shape", f"expected {expected} with -1 for 1 or more, given {list(given.shape)}")
    if content is None:
        array = _numbers(given.data, dtype, path)
    elif len(content) % dtype.itemsize:
        raise FieldError(path, f"expected {dtype.itemsize} bytes for each number, given {len(content)} in all")
    else:
        array = np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype)
    count = math.prod(given.shape)
    if array.size != count:
        raise FieldError(f"{path}.data", f"expected {count} numbers as the shape says, given {array.size}")
    return array.reshape(given.shape)


def _numbers(data: Sequence[Any] | None, dtype: np.dtype[Any], path: str) -> Array:
    if data is None:
        raise FieldError(f"{path}.data", "required, but missing")
    try:
        array = np.array(data)
    except ValueError:
        raise FieldError(f"{path}.data", "expected lists of equal lengths") from None
    kinds = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}[dtype.kind]
    if array.size and array.dtype.kind not in kinds:
        raise FieldError(f"{path}.data", f"expected numbers of {_DATATYPES[dtype.name]}, given {show(data)}")
    if dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise FieldError(f"{path}.data", f"expected numbers of {_DATATYPES[dtype.name]}, given one beyond it")
    return array.astype(dtype)


def _check_axes(arrays: Arrays, graph: Graph) -> None:
    """Raise FieldError unless axes of one name have one size in all inputs."""
    sizes: dict[str, tuple[int, str]] = {}
    for tensor in graph.inputs:
        for axis, size in zip(tensor.shape, arrays[tensor.name].shape, strict=True):
            if isinstance(axis, str) and sizes.setdefault(axis, (size, tensor.name))[0] != size:
                raise FieldError("inputs", f"{tensor.name} has {size} {axis}, but {sizes[axis][1]} {sizes[axis][0]}")


def _little_endian(array: Array) -> Array:
    return array.astype(array.dtype.newbyteorder("<"), copy=False)
