"""A precision's graph files from the fp32 ones."""

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from onnxpipe.errors import UnsupportedModel

# what int8 inference runs as; an int8 file without any of them would be fp32 in all but name
_INTEGER_OPERATORS = ("MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv")


def quantize(source: Path, target: Path, precision: str) -> dict[str, float]:
    """Write `target` in `precision` and return what was made of it, by name.

    Raises UnsupportedModel for a precision we cannot make, or when nothing in the graph became what was asked for.
    """
    if precision not in QUANTIZERS:
        raise UnsupportedModel(f"cannot make precision {precision!r}; precisions: fp32, {', '.join(QUANTIZERS)}")
    QUANTIZERS[precision](source, target)
    return {"integer_operators": float(_count_integer_operators(target))}


def _dynamic_int8(source: Path, target: Path) -> None:
    """Weights to signed 8 bits, one scale per output channel; activations get theirs at run time.

    Weights use seven of their eight bits: on x86 without VNNI the kernels add products in pairs of 16 bits, where full
    weights would saturate, and a bundle must answer there as it does here.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet_root_logger():
        quantize_dynamic(source, target, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)


QUANTIZERS: dict[str, Callable[[Path, Path], None]] = {"int8": _dynamic_int8}


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
