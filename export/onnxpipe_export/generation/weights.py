"""Integer weights for generation graphs, made from an fp32 file.

Decoding reads every weight once for each token, so it is as fast as the weights are few bytes: blocks of 4 or 8 bits
with a scale each (MatMulNBits). Its activations get their 8 bits by blocks of a row, so rows do not change each other.
Long inputs, as encoders have them, are bound by arithmetic instead, where 8 bits for whole channels (MatMulInteger) are
faster; there all rows of a run share one scale of activations.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from onnxpipe.errors import UnsupportedModel
from onnxpipe_export.generation.graphs import (
    MICROSOFT,
    add_constant,
    array,
    insert,
    is_constant,
    owner,
    producer,
    put_in_place,
    save,
)
from onnxpipe_export.generation.rounding import round_blocks
from onnxpipe_export.quiet import quiet

# packed integers (outputs, blocks, bytes), scales (outputs, blocks) and, where zero lies anywhere, the packed zeros
Blocks = tuple[ir.Value, ...]

# activations of 8 bits in MatMulNBits: its fast kernels
_ACCURACY_LEVEL = 4


def quantize_blocks(source: Path, target: Path, *, bits: int, block_size: int, embedding_bits: int = 8) -> int:
    """Write `target` with every product's weights in blocks of `bits`, and return how many products that were.

    `bits` is 4 or 8; `block_size` a power of two from 16 on. An embedding that is also the last product's weight is
    stored once for both, in `bits`; another one in `embedding_bits`. Raises UnsupportedModel when there is no product.
    """
    model = ir.load(source)
    for node in list(model.graph):
        _join_gate(node)
    common.TopologicalSortPass()(model)
    with quiet():
        count = _exchange(model, bits, block_size, embedding_bits)
    if not count:
        raise UnsupportedModel(f"{source.name}: no product has weights of its own; this graph cannot be int{bits}")
    save(model, target)
    return count


def quantize_channels(source: Path, target: Path, *, block_size: int) -> int:
    """Write `target` with int8 weights of one scale per output channel, and return how many products became integer.

    Activations get their scale at run time. Embeddings, and products that share an embedding's weights, are stored in
    blocks as `quantize_blocks` does. Raises UnsupportedModel when there is no product.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet():
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            # seven of eight bits, as everywhere here: see onnxpipe_export.quantize
            reduce_range=True,
            weight_type=QuantType.QInt8,
            # the quantiser looks up types that no one has inferred through onnxruntime's own operators
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT, "MatMulConstBOnly": True},
        )
        model = ir.load(target)
        _exchange(model, 8, block_size, 8)
    count = sum(node.op_type == "MatMulInteger" for node in model.graph)
    if not count:
        raise UnsupportedModel(f"{source.name}: no product has weights of its own; this graph cannot be int8")
    save(model, target)
    return count


def _exchange(model: ir.Model, bits: int, block_size: int, embedding_bits: int) -> int:
    """Products and embeddings with float weights become those with blocks; the number of products."""
    graph, count = model.graph, 0
    shared: dict[ir.Value, Blocks] = {}
    for node in list(graph):
        weight = product_weight(node)
        if weight is not None:
            turned = weight is not node.inputs[1]
            blocks = make_blocks(graph, weight, bits, block_size, outputs_first=turned)
            if turned:
                shared[weight] = blocks
            exchange_product(node, blocks, bits, block_size)
            count += 1
    exchange_embeddings(
        model, embedding_bits, block_size, {weight: (blocks, bits) for weight, blocks in shared.items()}
    )
    common.RemoveUnusedNodesPass()(model)
    return count


def exchange_product(node: ir.Node, blocks: Blocks, bits: int, block_size: int) -> None:
    """A product with these blocks in the place of one with float weights."""
    weight = product_weight(node)
    assert weight is not None  # noqa: S101 - blocks were made of it
    outputs, inputs = array(weight).shape[:: 1 if weight is not node.inputs[1] else -1]
    settings = {"K": inputs, "N": outputs, "bits": bits, "block_size": block_size, "accuracy_level": _ACCURACY_LEVEL}
    made = insert(node, "MatMulNBits", [node.inputs[0], *blocks], settings, domain=MICROSOFT)
    put_in_place(node, made.outputs[0])


def exchange_embeddings(
    model: ir.Model, bits: int, block_size: int, shared: Mapping[ir.Value, tuple[Blocks, int]] | None = None
) -> int:
    """Tables that tokens are looked up in become blocks of `bits`, or those of `shared` with theirs; their number."""
    graph, count = model.graph, 0
    for node in list(graph):
        weight, ids = node.inputs if node.op_type == "Gather" else (None, None)
        if weight is not None and ids is not None and is_constant(weight) and ids.name == "input_ids":
            blocks, width = (shared or {}).get(weight) or (
                make_blocks(graph, weight, bits, block_size, outputs_first=True),
                bits,
            )
            _exchange_embedding(node, array(weight).shape, blocks, width, block_size)
            count += 1
    return count


def _join_gate(node: ir.Node) -> None:
    """Of a gated feed-forward, the products of the gate and of what it lets through become one, cut in two behind it.

    At one token each product takes about as long to hand out to threads as to compute. In fp32, which reads eight times
    as much, one wide product is slower than the two.
    """
    if node.op_type != "Mul":
        return
    gate, through = (_product(value) for value in node.inputs)
    if gate is None or through is None or gate is through or gate.inputs[0] is not through.inputs[0]:
        return
    weights = [array(weight) for product in (gate, through) if (weight := product.inputs[1]) is not None]
    graph = owner(gate)
    joined = add_constant(graph, f"{gate.name}.joined", np.concatenate(weights, axis=1))
    widths = add_constant(graph, f"{gate.name}.widths", np.array([weight.shape[1] for weight in weights]))
    whole = insert(gate, "MatMul", [gate.inputs[0], joined])
    parts = insert(gate, "Split", [whole.outputs[0], widths], {"axis": -1}, outputs=2)
    for product, part in zip((gate, through), parts.outputs, strict=True):
        put_in_place(product, part)


def _product(value: ir.Value | None) -> ir.Node | None:
    """The product with a constant matrix that a value comes from, by way of the first inputs that are none."""
    while value is not None and (node := value.producer()) is not None:
        if node.op_type == "MatMul":
            return node if is_constant(node.inputs[1]) else None
        value = next((part for part in node.inputs if not is_constant(part)), None)
    return None


def product_weight(node: ir.Node) -> ir.Value | None:
    """A product's constant matrix, be it transposed on the way; None when it has none."""
    if node.op_type != "MatMul":
        return None
    transpose = producer(node.inputs[1], "Transpose")
    weight = node.inputs[1] if transpose is None else transpose.inputs[0]
    return weight if weight is not None and is_constant(weight) and array(weight).ndim == _MATRIX else None


_MATRIX = 2  # axes
_FEW = 4  # bits, where it matters how they are made


def make_blocks(
    graph: ir.Graph, weight: ir.Value, bits: int, block_size: int, *, outputs_first: bool, symmetric: bool = True
) -> Blocks:
    """A matrix as initializers of the packed kind, blocks running along its inputs; the last is filled with zeros."""
    name = f"{weight.name}.int{bits}"
    if bits == _FEW and symmetric:
        outputs = array(weight) if outputs_first else array(weight).T
        integers, scales = round_blocks(outputs, block_size)
        return add_constant(graph, name, integers), add_constant(graph, f"{name}_scales", scales)
    with quiet():  # the import itself sets the root logger to talk
        from onnxruntime.quantization import matmul_nbits_quantizer as nbits

    matrix = np.ascontiguousarray(array(weight).T) if outputs_first else array(weight)
    settings = nbits.DefaultWeightOnlyQuantConfig(block_size=block_size, is_symmetric=symmetric, bits=bits)
    packed, scales, zeros = nbits.DefaultWeightOnlyQuantizer(settings).qbits_block_quant(matrix)
    parts = {name: packed, f"{name}_scales": scales} | ({} if symmetric else {f"{name}_zeros": zeros})
    return tuple(add_constant(graph, part, numbers) for part, numbers in parts.items())


def _exchange_embedding(node: ir.Node, shape: tuple[int, ...], blocks: Blocks, bits: int, block_size: int) -> None:
    """Rows gathered from blocks: the same bytes as a product's, seen as (tokens, bytes)."""
    graph, (packed, scales, *_), (tokens, width) = owner(node), blocks, shape
    row_bytes = array(packed).size // tokens
    rows = insert(node, "Reshape", [packed, add_constant(graph, f"{packed.name}_rows", np.array([tokens, row_bytes]))])
    settings = {"bits": bits, "block_size": block_size, "gather_axis": 0, "quantize_axis": 1}
    inputs = [rows.outputs[0], node.inputs[1], scales]
    made = insert(node, "GatherBlockQuantized", inputs, settings, domain=MICROSOFT)
    if width % block_size:  # rows are stored in whole blocks
        bounds = {"start": 0, "end": width, "axis": -1}
        cut = [add_constant(graph, f"{packed.name}_{name}", np.array([number])) for name, number in bounds.items()]
        made = insert(node, "Slice", [made.outputs[0], *cut])
    put_in_place(node, made.outputs[0])
