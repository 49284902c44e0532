"""A precision's graph files from the fp32 ones."""

import contextlib
import logging
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from onnxpipe.errors import UnsupportedModel
from onnxpipe_export.static import Rows, quantize_convolutions

# what int8 inference runs as; an int8 file without any of them would be fp32 in all but name
_INTEGER_OPERATORS = {"MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv"}
# what onnxruntime makes such of when their inputs come from integers; a Conv's result has to become integers again
_PRODUCTS = ("Gemm", "MatMul")
_ACTIVATIONS = ("Relu", "Clip")  # between a Conv and that: they vanish in the rounding


def quantize(
    source: Path,
    target: Path,
    precision: str,
    *,
    float_narrowing: bool = False,
    kept: Sequence[str] = (),
    rows: Rows | None = None,
) -> dict[str, float]:
    """Write `target` in `precision` and return what was made of it, by name.

    `float_narrowing` leaves the products in float that give fewer numbers than they take: the second of a feed-forward
    block, whose inputs behind the activation have outliers, and most heads; `kept` names others. `rows` are typical
    inputs, which scales are taken from where that is the way to integers; convolutions stay in float without.
    Raises UnsupportedModel for a precision we cannot make, or when nothing in the graph became what was asked for.
    """
    if precision not in QUANTIZERS:
        raise UnsupportedModel(f"cannot make precision {precision!r}; precisions: fp32, {', '.join(QUANTIZERS)}")
    excluded = [*kept, *(narrowing_products(source) if float_narrowing else [])]
    # the quantiser makes a MatMul of a Gemm first, under the second name; `products` under the third
    excluded += [f"{name.removesuffix('.MatMul')}{end}" for name in excluded for end in ("", "_MatMul")]
    with _quiet_root_logger():
        made = QUANTIZERS[precision](source, target, excluded, rows)
    return {"integer_operators": float(_count_integer_operators(target)), **made}


def _int8(source: Path, target: Path, excluded: list[str], rows: Rows | None) -> dict[str, float]:
    """Convolutions by scales fixed beforehand where they gain by it, products by scales of the run.

    A graph that is all convolutions keeps fixed scales alone, and so answers a row alike in every batch.
    """
    if rows is None:
        _dynamic_int8(source, target, excluded)
        return {}
    with tempfile.TemporaryDirectory() as folder:
        static = Path(folder) / "static.onnx"
        calibrated = quantize_convolutions(source, static, rows)
        if calibrated and not _has_float_products(static):
            shutil.move(static, target)
        else:
            _dynamic_int8(static if calibrated else source, target, excluded)
    return {"calibration_rows": float(calibrated)} if calibrated else {}


def _dynamic_int8(source: Path, target: Path, excluded: list[str]) -> None:
    """Weights of products to signed 8 bits, one scale per output channel; activations get theirs at run time.

    Weights use seven of their eight bits: on x86 without VNNI the kernels add products in pairs of 16 bits, where full
    weights would saturate, and a bundle must answer there as it does here.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.registry import IntegerOpsRegistry

    quantize_dynamic(
        source,
        target,
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=[name for name in IntegerOpsRegistry if name != "Conv"],
        nodes_to_exclude=excluded,
    )


def _has_float_products(file: Path) -> bool:
    """Whether a graph has products with constant weights that are still in float."""
    import onnx

    graph = onnx.load(file).graph
    weights = {tensor.name for tensor in graph.initializer}
    return any(node.op_type in _PRODUCTS and node.input[1] in weights for node in graph.node)


def narrowing_products(file: Path) -> list[str]:
    """The names of products with a constant matrix of more rows than columns."""
    import onnx

    graph = onnx.load(file, load_external_data=False).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer if len(tensor.dims) == 2}
    found = []
    for node in graph.node:
        if node.op_type in _PRODUCTS and node.input[1] in shapes:
            transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
            rows, columns = shapes[node.input[1]][:: -1 if transposed else 1]
            if rows > columns:
                found.append(node.name)
    return found


# precision -> what makes it: from the fp32 file, the new one, the names of products that stay in float, and rows
QUANTIZERS: dict[str, Callable[[Path, Path, list[str], Rows | None], dict[str, float]]] = {"int8": _int8}


def _count_integer_operators(file: Path) -> int:
    """How many convolutions and products run on integers: as such, or as onnxruntime makes them on loading."""
    import onnx

    nodes = onnx.load(file, load_external_data=False).graph.node
    makers = {name: node.op_type for node in nodes for name in node.output}
    readers = defaultdict(list)
    for node in nodes:
        for name in node.input:
            readers[name].append(node)

    def becomes_integer(name: str) -> bool:
        return bool(readers[name]) and all(
            node.op_type == "QuantizeLinear" or (node.op_type in _ACTIVATIONS and becomes_integer(node.output[0]))
            for node in readers[name]
        )

    count = 0
    for node in nodes:
        wrapped = all(makers.get(name) == "DequantizeLinear" for name in node.input[:2]) and (
            node.op_type in _PRODUCTS or (node.op_type == "Conv" and becomes_integer(node.output[0]))
        )
        count += wrapped or node.op_type in _INTEGER_OPERATORS
    if not count:
        raise UnsupportedModel(f"{file.name}: quantisation left every operator in float; this model cannot be int8")
    return count


@contextlib.contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """The quantiser advises pre-processing through the root logger; measured here, it gains nothing on these graphs."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
