"""Attention of one layer in a traced step, however its model calls it."""

from typing import Any

import torch

from onnxpipe_export.generation.operators import FullAttention, GroupQueryAttention, JoinHeads, SplitHeads
from onnxpipe_export.generation.step import current

Tensor = Any  # torch is untyped here
Module = Any  # torch is untyped here

# the names under which transformers' registry knows `attend` and `attend_source`
IMPLEMENTATION = "onnxpipe"
SOURCE_IMPLEMENTATION = "onnxpipe-source"


def register() -> None:
    """Make both known to transformers' modelling code; repeating it changes nothing."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, attend)
    ALL_ATTENTION_FUNCTIONS.register(SOURCE_IMPLEMENTATION, attend_source)


def attend(
    module: Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **__: object,
) -> tuple[Tensor, None]:
    """Attention as transformers 4.57's registry wants it: from (B, heads, T, D) to (B, T, heads, D), without weights.

    Masks are not looked at: rows are left-aligned, and the operators know their lengths.
    """
    heads, size = int(query.shape[1]), int(query.shape[3])
    scale = _scale(module, size) if scaling is None else scaling
    joined = JoinHeads.apply(query)
    if any(key is keys for keys, _ in current().cross):
        return SplitHeads.apply(attend_cross(joined, key, value, scale), heads), None
    output = attend_self(
        int(module.layer_idx),
        (joined, JoinHeads.apply(key), JoinHeads.apply(value)),
        heads=heads,
        kv_heads=int(key.shape[1]),
        scale=scale,
        window=sliding_window,
        softcap=softcap,
    )
    return SplitHeads.apply(output, heads), None


def attend_source(
    _: Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, scaling: float, **__: object
) -> tuple[Tensor, None]:
    """Attention within a source, as above; `mask` (b, S) is 1 where there is something, None where all is."""
    heads = int(query.shape[1])
    query, key, value = (JoinHeads.apply(states) for states in (query, key, value))
    return SplitHeads.apply(_attend_all(query, key, value, mask, heads, scaling), heads), None


def attend_self(
    layer: int,
    states: tuple[Tensor, Tensor | None, Tensor | None],
    *,
    heads: int,
    kv_heads: int,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Causal attention over the text so far, (B, T, heads * D); the layer's present is left in the step.

    `states` are queries, keys and values with joined heads, or all three packed into the first.
    """
    step = current()
    cos, sin = step.take_tables()
    attributes: dict[str, float] = {"num_heads_i": heads, "kv_num_heads_i": kv_heads, "scale_f": float(scale)}
    if cos is not None:
        attributes["do_rotary_i"] = 1
    if window:
        attributes["local_window_size_i"] = int(window)
    if softcap:
        attributes["softcap_f"] = float(softcap)
    past_key, past_value = step.past[layer]
    output, present_key, present_value = GroupQueryAttention.apply(
        *states, past_key, past_value, step.seqlens_k, step.total_sequence_length, cos, sin, step.bias, attributes
    )
    step.present[layer] = (present_key, present_value)
    return output


def attend_cross(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Attention of rows (B, T, heads * D) over sources (b, heads, S, D): the B / b rows of a source are its queries.

    So keys and values are read once for all beams of a source, and never repeated.
    """
    step = current()
    # lengths asked of the same tensors in every layer, so that the graph asks once
    rows, sources, width = step.seqlens_k.shape[0], step.cross[0][0].shape[0], int(query.shape[2])
    folded = query.reshape(sources, -1, width)
    return _attend_all(folded, key, value, step.cross_mask, int(key.shape[1]), scale).reshape(rows, -1, width)


def _attend_all(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, heads: int, scale: float) -> Tensor:
    # far below any score, and still finite: a wholly masked source must not give NaN
    attributes = {"num_heads_i": heads, "scale_f": float(scale), "mask_filter_value_f": -1e30}
    return FullAttention.apply(query, key, value, None if mask is None else mask.to(torch.int32), attributes)


def _scale(module: Module, size: int) -> float:
    """GPT-2 passes none: its own settings tell, as its eager attention reads them and the others forget to."""
    scale = size**-0.5 if getattr(module, "scale_attn_weights", True) else 1.0
    return scale / (module.layer_idx + 1) if getattr(module, "scale_attn_by_inverse_layer_idx", False) else scale
