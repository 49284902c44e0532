"""A precision's graph files from the fp32 ones."""

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from onnxpipe.errors import UnsupportedModel

# what int8 inference runs as; an int8 file without any of them would be fp32 in all but name
_INTEGER_OPERATORS = ("MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv")


def quantize(source: Path, target: Path, precision: str, *, float_narrowing: bool = False) -> dict[str, float]:
    """Write `target` in `precision` and return what was made of it, by name.

    `float_narrowing` leaves the products in float that give fewer numbers than they take: the second of a feed-forward
    block, whose inputs behind the activation have outliers, and most heads.
    Raises UnsupportedModel for a precision we cannot make, or when nothing in the graph became what was asked for.
    """
    if precision not in QUANTIZERS:
        raise UnsupportedModel(f"cannot make precision {precision!r}; precisions: fp32, {', '.join(QUANTIZERS)}")
    QUANTIZERS[precision](source, target, _narrowing(source) if float_narrowing else [])
    return {"integer_operators": float(_count_integer_operators(target))}


def _dynamic_int8(source: Path, target: Path, excluded: list[str]) -> None:
    """Weights to signed 8 bits, one scale per output channel; activations get theirs at run time.

    Weights use seven of their eight bits: on x86 without VNNI the kernels add products in pairs of 16 bits, where full
    weights would saturate, and a bundle must answer there as it does here.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet_root_logger():
        quantize_dynamic(
            source,
            target,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=excluded,
        )


def _narrowing(file: Path) -> list[str]:
    """The names of products with a constant matrix of more rows than columns."""
    import onnx

    graph = onnx.load(file, load_external_data=False).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer if len(tensor.dims) == 2}
    found = []
    for node in graph.node:
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in shapes:
            transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
            rows, columns = shapes[node.input[1]][:: -1 if transposed else 1]
            if rows > columns:
                # the quantiser makes a MatMul of a Gemm first, under the second name
                found += [node.name, f"{node.name}_MatMul"]
    return found


# precision -> what makes it: the fp32 file, the new one, and the names of the products that stay in float
QUANTIZERS: dict[str, Callable[[Path, Path, list[str]], None]] = {"int8": _dynamic_int8}


def _count_integer_operators(file: Path) -> int:
    import onnx

    operators = Counter(node.op_type for node in onnx.load(file, load_external_data=False).graph.node)
    count = sum(operators[name] for name in _INTEGER_OPERATORS)
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
