"""Fewer nodes in a traced graph: at one token a step, each costs time by being there.

No rule changes what a graph computes, beyond rounding. A layer of a Llama-shaped model comes out as the eleven nodes
that onnxruntime-genai's model builder would write.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir
from onnx_ir.passes import common

from onnxpipe_export.generation.graphs import (
    MICROSOFT,
    Array,
    add_constant,
    array,
    before,
    insert,
    is_constant,
    numbers,
    owner,
    producer,
    put_in_place,
    save,
)
from onnxpipe_export.generation.trace import OPSET

# a product: its input, its weight (inputs, outputs) and its bias, None without
Linear = tuple[ir.Value, Array, Array | None]

# norms, and the same with the sum before them
_WITH_SUM = {
    "SimplifiedLayerNormalization": "SkipSimplifiedLayerNormalization",
    "LayerNormalization": "SkipLayerNormalization",
}


def rewrite(source: Path, target: Path) -> None:
    """Write `target`, the graph of `source` with all rules applied and without the inputs that nothing reads."""
    model = ir.load(source)
    ir.passes.Sequential(
        common.IdentityEliminationPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
    )(model)
    graph = model.graph
    for rule in _RULES:
        for node in list(graph):
            if node.graph is graph:  # not removed meanwhile
                rule(node)
        common.RemoveUnusedNodesPass()(model)
    for value in list(graph.inputs):
        if not value.uses():
            graph.inputs.remove(value)
    common.TopologicalSortPass()(model)
    graph.opset_imports[MICROSOFT] = 1
    save(model, target)


def _fold_constants(node: ir.Node) -> None:
    """Small numbers that come from constants alone, sizes for the most part, are worked out."""
    inputs = [value for value in node.inputs if value is not None]
    if node.domain or len(node.outputs) > 1 or not inputs or any(numbers(value) is None for value in inputs):
        return
    proto = ir.to_proto(node)
    if isinstance(proto, onnx.NodeProto):
        evaluator = onnx.reference.ReferenceEvaluator(proto, opsets={"": OPSET})
        [result] = evaluator.run(None, {str(value.name): array(value) for value in inputs})
        put_in_place(node, add_constant(owner(node), f"{node.name}.folded", np.asarray(result)))


def _fold_transpose(node: ir.Node) -> None:
    """A weight is stored as its product reads it; one that an embedding shares stays as it is, to be stored once."""
    weight = node.inputs[0] if node.op_type == "Transpose" else None
    if weight is not None and is_constant(weight) and len(weight.uses()) == 1:
        turned = np.ascontiguousarray(array(weight).T)
        put_in_place(node, add_constant(owner(node), f"{weight.name}.transposed", turned))


def _cancel_transposes(node: ir.Node) -> None:
    """Two transpositions that undo each other, as around the attention that the operator has replaced, both go.

    A norm between them runs along the last axis, which neither moves.
    """
    if node.op_type != "Transpose":
        return
    norm = producer(node.inputs[0], "SimplifiedLayerNormalization")
    first = producer(node.inputs[0] if norm is None else norm.inputs[0], "Transpose")
    if first is None or first.inputs[0] is None:
        return
    outer, inner = (list(part.attributes["perm"].as_ints()) for part in (node, first))
    if [inner[axis] for axis in outer] != list(range(len(outer))):
        return
    if norm is None:
        put_in_place(node, first.inputs[0])
    elif len(norm.outputs[0].uses()) == 1 and inner[-1] == len(inner) - 1:
        norm.replace_input_with(0, first.inputs[0])
        put_in_place(node, norm.outputs[0])


def _keep_ids(node: ir.Node) -> None:
    """Token ids have the two axes that models reshape them to."""
    if node.op_type == "Reshape" and node.inputs[0] is not None and node.inputs[0].name == "input_ids":
        put_in_place(node, node.inputs[0])


def _shortcut_reshapes(node: ir.Node) -> None:
    """Of two reshapes in a row only the second counts, unless it keeps axes of the first by a 0."""
    if node.op_type == "Reshape" and 0 not in (numbers(node.inputs[1]) or ()):
        while (first := producer(node.inputs[0], "Reshape")) is not None:
            node.replace_input_with(0, first.inputs[0])


def _join_heads(node: ir.Node) -> None:
    """States that were split into heads and joined again before attention go there as they are."""
    if node.op_type in ("GroupQueryAttention", "MultiHeadAttention"):
        for index, value in enumerate(list(node.inputs[:3])):
            if (states := before(value, "Reshape", "Reshape")) is not None:
                node.replace_input_with(index, states)


def _skip_reshapes(node: ir.Node) -> None:
    """Attention's output, split into heads and joined again, goes to the next product as it is."""
    value = node.inputs[0] if node.op_type == "MatMul" else None
    while (reshape := producer(value, "Reshape")) is not None:
        source = reshape.inputs[0]
        attention = source.producer() if source is not None else None
        if attention is not None and attention.op_type == "MultiHeadAttention" and _is_folded(attention):
            node.replace_input_with(0, value)  # this one leads from sources back to rows
        elif attention is not None and attention.op_type in ("GroupQueryAttention", "MultiHeadAttention"):
            node.replace_input_with(0, source)
        value = source


def _is_folded(attention: ir.Node) -> bool:
    """Whether rows were made queries of their sources."""
    return producer(attention.inputs[0], "Reshape") is not None


def _name_axes(node: ir.Node) -> None:
    """A reshape that asks for the lengths of the two axes it keeps names them by a 0 instead."""
    concat = producer(node.inputs[1], "Concat") if node.op_type == "Reshape" else None
    if concat is None:
        return
    sizes = [numbers(value, 1) for value in concat.inputs[2:]]
    if None not in sizes and all(_is_length(value, axis, node) for axis, value in enumerate(concat.inputs[:2])):
        shape = np.array([0, 0, *(size[0] for size in sizes if size)], np.int64)
        node.replace_input_with(1, add_constant(owner(node), f"{node.name}.shape", shape))


def _is_length(value: ir.Value | None, axis: int, reshape: ir.Node) -> bool:
    """Whether `value` is the length of an axis of what the reshape's input is a product of: it has the same one."""
    gather = producer(before(value, "Unsqueeze"), "Gather")
    measured = before(gather.inputs[0], "Shape") if gather is not None else None
    if gather is None or measured is None or numbers(gather.inputs[1]) != (axis,):
        return False
    states = reshape.inputs[0]
    while states is not None and states is not measured:
        node = states.producer()
        if node is None or node.op_type not in ("MatMul", "Add", "Slice", "Split"):
            return False
        states = next((part for part in node.inputs if part is not None and not is_constant(part)), None)
    return states is not None


def _scale_inside(node: ir.Node) -> None:
    """A factor on the queries becomes part of the attention's own."""
    product = producer(node.inputs[0], "Mul") if node.op_type == "GroupQueryAttention" else None
    factor = product.inputs[1] if product is not None else None
    if product is not None and factor is not None and is_constant(factor) and array(factor).size == 1:
        node.replace_input_with(0, product.inputs[0])
        scale = node.attributes["scale"].as_float() * float(array(factor).item())
        node.attributes["scale"] = ir.AttrFloat32("scale", scale)


def _pack_states(node: ir.Node) -> None:
    """Queries, keys and values of one input become one product, which the attention takes as it is."""
    if node.op_type == "GroupQueryAttention" and node.inputs[1] is not None:
        packed = _cut_from(node) or _merge(node, [_linear(value) for value in node.inputs[:3]])
        if packed is not None:
            for index, value in enumerate((packed, None, None)):
                node.replace_input_with(index, value)


def _cut_from(node: ir.Node) -> ir.Value | None:
    """What queries, keys and values are cut from, where they lie side by side and in this order."""
    values = [value for value in node.inputs[:3] if value is not None]
    cuts = [cut for value in values if (cut := value.producer()) is not None]
    if len(cuts) != len(node.inputs[:3]) or len({cut.inputs[0] for cut in cuts}) != 1:
        return None
    if all(cut.op_type == "Split" for cut in cuts) and [value.index() for value in values] == [0, 1, 2]:
        return cuts[0].inputs[0]
    if all(cut.op_type == "Slice" for cut in cuts):
        starts, ends = ([numbers(cut.inputs[index]) for cut in cuts] for index in (1, 2))
        return cuts[0].inputs[0] if starts == [(0,), *ends[:2]] else None
    return None


def _linear(value: ir.Value | None) -> Linear | None:
    """The product, and the sum with its bias, that make `value`; None where something else reads it or it is no such.

    A product with a transposed weight is none either: an embedding shares that.
    """
    bias = None
    addition = producer(value, "Add")
    if value is not None and addition is not None and len(value.uses()) == 1:
        constants = [part for part in addition.inputs if part is not None and is_constant(part)]
        if len(constants) != 1:
            return None
        bias = array(constants[0])
        value = next(part for part in addition.inputs if part is not constants[0])
    product = producer(value, "MatMul")
    if product is None or value is None or len(value.uses()) != 1:
        return None
    states, weight = product.inputs
    return (states, array(weight), bias) if states is not None and weight is not None and is_constant(weight) else None


def _merge(place: ir.Node, parts: list[Linear | None]) -> ir.Value | None:
    """One product for several of the same input, before `place`; None where they are not that."""
    found = [part for part in parts if part is not None]
    if len(found) != len(parts) or len({states for states, _, _ in found}) != 1:
        return None
    graph = owner(place)
    weight = add_constant(graph, f"{place.name}.weight", np.concatenate([weight for _, weight, _ in found], axis=1))
    product = insert(place, "MatMul", [found[0][0], weight]).outputs[0]
    if all(bias is None for _, _, bias in found):
        return product
    biases = [np.zeros(weight.shape[1], weight.dtype) if bias is None else bias for _, weight, bias in found]
    return insert(place, "Add", [product, add_constant(graph, f"{place.name}.bias", np.concatenate(biases))]).outputs[0]


def _norm_with_sum(node: ir.Node) -> None:
    """A sum of states and the norm behind it become one operator, which also gives the sum."""
    addition = producer(node.inputs[0], "Add") if node.op_type in _WITH_SUM else None
    if addition is None or any(value is None or is_constant(value) for value in addition.inputs):
        return
    made = insert(
        addition,  # whatever reads the sum may stand between it and the norm
        _WITH_SUM[node.op_type],
        [*addition.inputs, *node.inputs[1:]],
        {"epsilon": node.attributes["epsilon"].as_float()},
        domain=MICROSOFT,
        outputs=4,
    )
    put_in_place(node, made.outputs[0])
    put_in_place(addition, made.outputs[3])


_RULES: tuple[Callable[[ir.Node], None], ...] = (
    _fold_constants,
    _fold_transpose,
    _cancel_transposes,
    _keep_ids,
    _shortcut_reshapes,
    _join_heads,
    _skip_reshapes,
    _name_axes,
    _scale_inside,
    _pack_states,
    _norm_with_sum,
)
