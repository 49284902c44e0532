"""Convolutions in 8-bit integers: which of a graph gain by it, and their scales, from pictures of the model's kind.

Unlike products, whose inputs get a scale for each run, convolutions get theirs beforehand: onnxruntime's kernels for
scales of the run are 2 to 12 times slower than those for floats. And they gain only in chains, from convolution to
convolution through operators that integers are as good for: each way out of integers and back costs about what one
convolution saves (`benchmarks/results/vision_quantization.json`).
"""

import math
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from onnxpipe.batching import Row
from onnxpipe.session import Session

Rows = Callable[[], Iterator[Row]]
Node = Any  # a NodeProto or a GraphProto: what protobuf makes has no types for mypy

# what keeps a chain in integers: kernels of their own, and what moves numbers without changing them
_ARITHMETIC = {"Add", "AveragePool", "Clip", "Concat", "GlobalAveragePool", "MaxPool", "Relu"}
_LAYOUT = {"Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
_PRODUCTS = {"Gemm", "MatMul"}
_INTEGER = {"Conv"} | _ARITHMETIC | _LAYOUT | _PRODUCTS

# Of a graph's multiply-adds, how many must lie in chains. Convolutional networks with ReLU have nearly all there,
# those with SiLU or GELU and transformers next to none.
_WORTHWHILE = 0.5


def quantize_convolutions(source: Path, target: Path, rows: Rows) -> int:
    """Write `target` with the chains of convolutions in integers; the number of rows their scales were taken from.

    None, and nothing written, where too little of the work lies in chains. Everything else stays in float, but for a
    product right behind a chain, such as a classifier's last layer. Weights are signed, one scale per output channel,
    in seven bits for the reason that `quantize` states; activations are unsigned, of which the kernels on x86 are the
    faster ones.
    """
    if _is_split(source):
        return 0
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        graph = prepare(source, prepared)
        chains = find_chains(graph)
        if not chains or _share(prepared, chains, next(rows())) < _WORTHWHILE:
            return 0
        reader = _Reader(rows())
        _quantize(prepared, target, reader, chains)
        return reader.read


def _is_split(file: Path) -> bool:
    """Whether weights lie outside of a graph's file: beyond 2 GB, as only transformers are."""
    import onnx

    graph = onnx.load(file, load_external_data=False).graph
    return any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer)


def find_chains(graph: Node) -> list[str]:
    """The names of a graph's nodes that lie in chains of convolutions.

    A chain begins at the graph's inputs. A convolution continues it where what it gives goes on to nothing but
    operators that integers are as good for.
    """
    constants = {tensor.name for tensor in graph.initializer}
    consumers = defaultdict(set)
    for node in graph.node:
        for name in node.input:
            consumers[name].add(node.op_type)
    integer = {port.name for port in graph.input}
    chains = []
    for node in graph.node:  # in the order they run in
        if node.op_type not in _INTEGER or not _takes_integers(node, integer, constants):
            continue
        if node.op_type == "Conv" and not consumers[node.output[0]] <= _INTEGER:
            continue
        chains.append(node.name)
        if node.op_type not in _PRODUCTS:  # what follows them has its own range, and is for the dynamic method
            integer.add(node.output[0])
    return chains if any(node.op_type == "Conv" and node.name in set(chains) for node in graph.node) else []


def _takes_integers(node: Node, integer: set[str], constants: set[str]) -> bool:
    if node.op_type == "Conv" or node.op_type in _PRODUCTS:
        return node.input[0] in integer and node.input[1] in constants
    if node.op_type in ("Add", "Concat"):
        return set(node.input) <= integer
    return node.input[0] in integer


def prepare(source: Path, target: Path) -> Node:
    """Write `source` with its constants worked out and padding and batch norms joined with convolutions; its graph.

    What onnxruntime itself does on loading, but could no longer do between operators that turn numbers to integers.
    """
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    model = onnx.load(target)
    for index, node in enumerate(model.graph.node):
        node.name = f"{index}_{node.op_type}"  # what was joined may have none, or one twice
    onnx.save(model, target)
    return model.graph


def _share(file: Path, chains: list[str], row: Row) -> float:
    """The share that nodes have in the multiply-adds with constant weights, for a row."""
    counts = multiply_adds(file, row)
    return sum(counts.get(name, 0) for name in chains) / max(1, sum(counts.values()))


def multiply_adds(file: Path, row: Row) -> dict[str, int]:
    """How many multiply-adds each convolution and product with constant weights takes for a row, by node name."""
    import onnx

    model = onnx.load(file)
    graph = model.graph
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    nodes = [
        node
        for node in graph.node
        if node.op_type in ("Conv", *_PRODUCTS) and len(node.input) > 1 and node.input[1] in weights
    ]
    del graph.output[:]
    for number, node in enumerate(nodes):  # shapes and not values: those of a large picture would fill the memory
        graph.node.append(onnx.helper.make_node("Shape", node.output[:1], [f"shape {number}"]))
        graph.output.append(onnx.helper.make_tensor_value_info(f"shape {number}", onnx.TensorProto.INT64, None))
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(model, Path(folder) / "shapes.onnx")
        shapes = Session(Path(folder) / "shapes.onnx").run({name: array[None] for name, array in row.items()})
    return {
        node.name: int(np.prod(shapes[f"shape {number}"])) * _depth(node, weights[node.input[1]])
        for number, node in enumerate(nodes)
    }


def _depth(node: Node, shape: tuple[int, ...]) -> int:
    """The multiply-adds behind one number that a node gives."""
    if node.op_type == "Conv":
        return math.prod(shape[1:])
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return shape[-1] if transposed or len(shape) == 1 else shape[-2]


class _Reader:
    """Rows as the quantiser asks for them; `read` counts them."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self.read = 0

    def get_next(self) -> Row | None:
        row = next(self._rows, None)
        if row is None:
            return None
        self.read += 1
        return {name: array[None] for name, array in row.items()}


def _quantize(source: Path, target: Path, reader: _Reader, chains: list[str]) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static

    quantize_static(
        source,
        target,
        reader,
        nodes_to_quantize=chains,
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        # a classifier's logits keep all their digits
        extra_options={"OpTypesToExcludeOutputQuantization": list(_PRODUCTS)},
    )
