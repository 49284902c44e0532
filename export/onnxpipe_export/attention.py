"""Attention of many nodes as one: MultiHeadAttention, which needs no transposes around it.

An exporter's graph has about thirty nodes for it, many to work out shapes. In float that is a small share of the time;
where products are three times as fast it is a larger one: MiniLM with its products in integers is 5 to 13 % faster so.
Left out are forms of attention with anything but two products, factors, a mask and softmax.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from onnxpipe.batching import Row
from onnxpipe.session import Array
from onnxpipe.verification.figures import relative_error
from onnxpipe_export.activations import probed
from onnxpipe_export.generation.graphs import MICROSOFT, array, insert, is_constant, producer, put_in_place
from onnxpipe_export.products import open_graph

_HEADS_FIRST = [0, 2, 1, 3]
_KEYS_TURNED = [0, 2, 3, 1]
_LAST_TURNED = [0, 1, 3, 2]
_AXES = 4
# of joined graphs beside the others: they add in another order
_TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class _Attention:
    """Queries, keys and values (B, T, H * D), queries by heads (B, H, T, D), and the node that gives the result."""

    query: ir.Value
    key: ir.Value
    value: ir.Value
    heads: ir.Value
    factors: tuple[tuple[str, ir.Value], ...]
    mask: ir.Value | None
    last: ir.Node


def open_joined(source: Path, rows: Sequence[Row]) -> ir.Model:
    """`open_graph` with every attention of the usual form exchanged; none where outputs would change.

    Sizes and factors are those of the largest row, for graphs work them out as they run.
    """
    model = open_graph(source)
    found = [match for node in model.graph if node.op_type == "Softmax" and (match := _match(node)) is not None]
    if not found or not rows:
        return model
    rows = sorted(rows, key=lambda row: sum(numbers.size for numbers in row.values()))[::-1]
    asked = [value for match in found for value in _asked(match)]
    outputs = list(model.graph.outputs)
    with probed(model, [*asked, *outputs]) as ask:
        seen, small = ask(rows[0]), ask(rows[-1])
    if not sum([_join(match, seen) for match in found]):
        return model
    common.RemoveUnusedNodesPass()(model)
    with probed(model, outputs) as ask:
        same = [
            relative_error(before[str(value.name)], after[str(value.name)]) <= _TOLERANCE
            for before, after in ((seen, ask(rows[0])), (small, ask(rows[-1])))
            for value in outputs
        ]
    return model if all(same) else open_graph(source)


def _match(softmax: ir.Node) -> _Attention | None:
    """What an attention is made of, if it is of the usual form."""
    after, last = _only_reader(softmax.outputs[0], "MatMul"), None
    if after is not None and after.inputs[0] is softmax.outputs[0]:
        turned = _only_reader(after.outputs[0], "Transpose", _HEADS_FIRST)
        last = _only_reader(turned.outputs[0], "Reshape") if turned is not None else None
    scores, mask, factors = softmax.inputs[0], None, list[tuple[str, ir.Value]]()
    if (add := producer(scores, "Add")) is not None:
        scores, mask = add.inputs
        if producer(_without_factors(scores, []), "MatMul") is None:
            scores, mask = mask, scores
    product = producer(_without_factors(scores, factors), "MatMul")
    if product is None or last is None or after is None:
        return None
    query, key = (_without_factors(value, factors) for value in product.inputs)
    plain = _joined(query, _HEADS_FIRST), _joined(key, _KEYS_TURNED), _joined(after.inputs[1], _HEADS_FIRST)
    if query is None or None in plain:
        return None
    first, second, third = plain
    assert first is not None and second is not None and third is not None  # noqa: S101, PT018 - as was asked above
    return _Attention(first, second, third, query, tuple(factors), mask, last)


def _without_factors(value: ir.Value | None, factors: list[tuple[str, ir.Value]]) -> ir.Value | None:
    """What a value is before it is multiplied with or divided by others, which go to `factors`."""
    while value is not None and (node := value.producer()) is not None and node.op_type in ("Mul", "Div"):
        left, right = node.inputs
        if left is None or right is None:
            return None
        if node.op_type == "Mul" and _is_number(left):
            left, right = right, left
        if not _is_number(right):
            break
        factors.append((node.op_type, right))
        value = left
    return value


def _is_number(value: ir.Value) -> bool:
    """Whether a value is, or may be, one number: a constant, or worked out from shapes."""
    if is_constant(value):
        return array(value).size == 1
    node = value.producer()
    return node is not None and node.op_type in ("Sqrt", "Cast", "Div", "Pow")


def _joined(value: ir.Value | None, order: list[int]) -> ir.Value | None:
    """What (B, T, H * D) a value was before it was cut into heads and turned around."""
    node = producer(value, "Transpose")
    if node is not None and order == _KEYS_TURNED and _order(node) == _LAST_TURNED:  # in two steps
        node, order = producer(node.inputs[0], "Transpose"), _HEADS_FIRST
    if node is None or _order(node) != order:
        return None
    cut = producer(node.inputs[0], "Reshape")
    return None if cut is None else cut.inputs[0]


def _only_reader(value: ir.Value, operator: str, order: list[int] | None = None) -> ir.Node | None:
    """The node that alone reads a value, if it is an `operator`, that turns axes into `order`."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output() or uses[0].node.op_type != operator:
        return None
    node = uses[0].node
    return node if order is None or _order(node) == order else None


def _order(node: ir.Node) -> list[int]:
    attribute = node.attributes.get("perm")
    return [] if attribute is None else list(attribute.as_ints())


def _asked(match: _Attention) -> list[ir.Value]:
    parts = [match.query, match.key, match.value, match.heads, match.last.outputs[0]]
    return [*parts, *(value for _, value in match.factors), *([] if match.mask is None else [match.mask])]


def _join(match: _Attention, seen: Mapping[str, Array]) -> bool:
    """Put one node in the place of many, where what was seen is as it takes it."""
    query, key, value, heads, result = (seen[str(part.name)] for part in _asked(match)[:5])
    factors = [(operator, seen[str(number.name)]) for operator, number in match.factors]
    flat = query.ndim == key.ndim == value.ndim == _AXES - 1 and query.shape[-1] == key.shape[-1]
    if not flat or heads.ndim != _AXES or result.shape != (*query.shape[:2], value.shape[-1]):
        return False
    count, length = heads.shape[1], key.shape[1]
    if query.shape[-1] != count * heads.shape[-1] or any(number.size != 1 for _, number in factors):
        return False
    if match.mask is not None:
        mask = seen[str(match.mask.name)]
        if mask.ndim != _AXES or mask.shape[1] not in (1, count) or mask.shape[2:] != (query.shape[1], length):
            return False
    scale = float(np.prod([float(n.item()) ** (1 if operator == "Mul" else -1) for operator, n in factors]))
    inputs = [match.query, match.key, match.value, *([] if match.mask is None else [None, None, match.mask])]
    settings: dict[str, int | float] = {"num_heads": count, "scale": scale}
    put_in_place(match.last, insert(match.last, "MultiHeadAttention", inputs, settings, domain=MICROSOFT).outputs[0])
    return True
