"""ONNX Runtime's operators as torch functions: each gives something of the right shape, and is traced as itself.

What the torch side computes is never looked at: exported graphs are compared with the untouched model.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch.onnx import symbolic_helper

# torch hands `symbolic` its own graph and values, which have no public types; so it does with the context of `forward`
Graph = Any
Value = Any
Context = Any
Tensor = Any  # torch is untyped here

DOMAIN = "com.microsoft"


class GroupQueryAttention(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    """Causal attention of new tokens over their row's buffer: output, present key, present value.

    query (B, T, heads * D), key and value (B, T, kv_heads * D), or query alone with all three side by side on the last
    axis; past (B, kv_heads, S, D); seqlens_k (B,) int32; total () int32; rotary tables (positions, rotated / 2) or
    None; bias (1 or B, 1 or heads, T, total) or None.
    """

    @staticmethod
    def forward(_: Context, query: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Zeros, and the past as it is."""
        past_key, past_value, attributes = rest[2], rest[3], rest[-1]
        width = int(attributes["num_heads_i"]) * past_key.shape[3]
        return query.new_zeros((*query.shape[:2], width)), past_key.clone(), past_value.clone()

    @staticmethod
    def symbolic(
        graph: Graph,
        query: Value,
        key: Value,
        value: Value,
        past_key: Value,
        past_value: Value,
        seqlens_k: Value,
        total: Value,
        cos: Value,
        sin: Value,
        bias: Value,
        attributes: Mapping[str, float],
    ) -> Any:
        """The operator; no position ids, for seqlens_k tells them."""
        inputs = [query, key, value, past_key, past_value, seqlens_k, total, cos, sin, None, bias]
        return _node(graph, "GroupQueryAttention", inputs, [query, past_key, past_value], attributes)


class FullAttention(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    """Attention of queries (b, Q, heads * D) over keys and values where `mask` (b, S) int32 is 1 or None.

    Keys and values have joined heads, (b, S, heads * D), or split ones, (b, heads, S, D).
    """

    @staticmethod
    def forward(_: Context, query: Tensor, *__: Any) -> Tensor:
        """The queries."""
        return query.clone()

    @staticmethod
    def symbolic(
        graph: Graph, query: Value, key: Value, value: Value, mask: Value, attributes: Mapping[str, float]
    ) -> Any:
        """The operator, without a bias of its own."""
        return _node(graph, "MultiHeadAttention", [query, key, value, None, mask], [query], attributes)[0]


class JoinHeads(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    """States (B, heads, T, D) as (B, T, heads * D)."""

    @staticmethod
    def forward(_: Context, states: Tensor) -> Tensor:
        """The same in torch."""
        return states.transpose(1, 2).flatten(2)

    @staticmethod
    def symbolic(graph: Graph, states: Value) -> Any:
        """A reshape that names the axes it keeps, so that no node has to ask for their lengths."""
        turned = graph.op("Transpose", states, perm_i=[0, 2, 1, 3])
        return graph.op("Reshape", turned, graph.op("Constant", value_t=torch.tensor([0, 0, -1]))).setType(
            states.type().with_sizes([None, None, None])
        )


class SplitHeads(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    """States (B, T, heads * D) as (B, T, heads, D)."""

    @staticmethod
    def forward(_: Context, states: Tensor, heads: int) -> Tensor:
        """The same in torch."""
        return states.unflatten(2, (heads, -1))

    @staticmethod
    def symbolic(graph: Graph, states: Value, heads: int) -> Any:
        """As above."""
        shape = graph.op("Constant", value_t=torch.tensor([0, 0, heads, -1]))
        return graph.op("Reshape", states, shape).setType(states.type().with_sizes([None, None, heads, None]))


class GatherRows(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    """The hidden states (B, T, H) at positions (B, K): (B, K, H)."""

    @staticmethod
    def forward(_: Context, hidden: Tensor, positions: Tensor) -> Tensor:
        """The same in torch."""
        return hidden.gather(1, positions[..., None].expand(-1, -1, hidden.shape[-1]))

    @staticmethod
    def symbolic(graph: Graph, hidden: Value, positions: Value) -> Any:
        """GatherND, which copies whole states where GatherElements would go number by number."""
        last = graph.op("Constant", value_t=torch.tensor([-1]))
        return graph.op("GatherND", hidden, graph.op("Unsqueeze", positions, last), batch_dims_i=1).setType(
            hidden.type()
        )


class RootMeanSquareNorm(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    """Hidden states over the root of their mean square, times a weight."""

    @staticmethod
    def forward(_: Context, hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """The same in torch."""
        return weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + epsilon)

    @staticmethod
    def symbolic(graph: Graph, hidden: Value, weight: Value, epsilon: float) -> Any:
        """The operator that onnxruntime's own fusion would make of six."""
        return graph.op(
            "SimplifiedLayerNormalization", hidden, weight, axis_i=-1, epsilon_f=epsilon, stash_type_i=1
        ).setType(hidden.type())


def _node(
    graph: Graph, name: str, inputs: list[Value], types: list[Value], attributes: Mapping[str, float]
) -> tuple[Value, ...]:
    """A node of onnxruntime's domain; None among the inputs is one left out. Outputs take the types of `types`."""
    while inputs[-1] is None:
        inputs.pop()
    filled = [symbolic_helper._optional_input_placeholder_tensor(graph) if value is None else value for value in inputs]
    made = graph.op(f"{DOMAIN}::{name}", *filled, outputs=len(types), **attributes)
    outputs = (made,) if len(types) == 1 else tuple(made)
    for output, like in zip(outputs, types, strict=True):
        output.setType(like.type())
    return outputs
