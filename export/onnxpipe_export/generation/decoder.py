"""The decoder as one module: tokens, lengths and buffers in, logits and the buffers out.

Rules of GroupQueryAttention on the CPU (onnxruntime 1.31, found by trying) that whoever drives the graph must keep:

- Row b's T new tokens fill positions seqlens_k[b] + 1 - T to seqlens_k[b] of its buffers. What lies behind is not read,
  so buffers need no clearing, and rows of one batch may differ in length when T is 1.
- T > 1 behind a past, that is a prompt in chunks, takes a batch of one. A text's first T tokens, that is
  total_sequence_length == T, may be a batch of any size, all rows having T tokens.
- Buffers may be longer than total_sequence_length at will; past and present bound to the same memory copy nothing.
- Rotary tables and position embeddings end at the shape's `positions`: a longer text is an error of the run.
- Models with rotary frequencies that change with the length (dynamic, longrope) turn new keys by text_lengths[b]: the
  length of the text at its own step, or that of the whole prompt in each of its pieces, as transformers does.
"""

from pathlib import Path
from typing import Any

import torch

from onnxpipe_export.generation.alignment import alignment_layers, kept_queries
from onnxpipe_export.generation.encoder import takes_mask
from onnxpipe_export.generation.families import make_bias, prepared
from onnxpipe_export.generation.shapes import DecoderShape
from onnxpipe_export.generation.step import Pair, SourceCache, Step, StepCache, tracing
from onnxpipe_export.generation.trace import Feed, pairs, trace

Tensor = Any  # torch is untyped here

# example sizes: all different and none 1, so that no axis is taken for another or for a constant
_ROWS, _TOKENS, _BUFFER, _SOURCES, _SOURCE = 6, 5, 8, 2, 7


class DecoderGraph(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    """One step of a prepared model. Encoder-decoder models take cross keys and values, and a mask, before the past."""

    def __init__(self, model: Any, shape: DecoderShape, tables: dict[str, Tensor]) -> None:
        super().__init__()
        self.model = model
        self._layers = shape.layers
        self._sources = bool(model.config.is_encoder_decoder)
        self._aligned = alignment_layers(model)
        self._bias = make_bias(model)
        for name, table in tables.items():  # as parts of the module they are stored once, under these names
            self.register_buffer(name, table)

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        seqlens_k: Tensor,
        total_sequence_length: Tensor,
        logit_positions: Tensor,
        text_lengths: Tensor,
        *rest: Tensor,
    ) -> tuple[Tensor, ...]:
        """Logits (B, K, V), the present of every layer, and the queries of layers whose attention follows sound."""
        step = Step(
            seqlens_k=seqlens_k,
            total_sequence_length=total_sequence_length,
            input_ids=input_ids,
            position_ids=position_ids,
            logit_positions=logit_positions,
            text_lengths=text_lengths,
            past=_paired(rest[-2 * self._layers :]),
        )
        options: dict[str, Any] = {"use_cache": True}
        if self._sources:
            *mask, step.cross = *rest[: -4 * self._layers], _paired(rest[-4 * self._layers : -2 * self._layers])
            step.cross_mask = mask[0] if mask else None
            # no one looks at the encoder's states any more, but models want to see some
            options |= {"decoder_input_ids": input_ids, "encoder_outputs": (torch.zeros(1, 1, 1),)}
        else:
            options["input_ids"] = input_ids
            if self.model.config.model_type != "bloom":
                options["position_ids"] = position_ids
        if self._bias is not None:
            step.bias = self._bias(step)
        with tracing(step), kept_queries(self.model, self._aligned) as queries:
            cache = SourceCache(step) if self._sources else StepCache(step)
            logits = self.model(past_key_values=cache, **options).logits
        return (logits, *(tensor for layer in range(self._layers) for tensor in step.present[layer]), *queries)


def trace_decoder(model: Any, shape: DecoderShape, file: Path) -> None:  # a torch module
    """Write the graph of a model's decoder, before any rewriting."""
    rows, step = {0: "batch"}, {0: "batch", 1: "sequence"}
    kept, buffer = {0: "batch", 1: "kept"}, {0: "batch", 2: "buffer"}
    inputs = [
        Feed("input_ids", torch.ones(_ROWS, _TOKENS, dtype=torch.int64), step),
        Feed("position_ids", torch.arange(_TOKENS).repeat(_ROWS, 1), step),
        Feed("seqlens_k", torch.full((_ROWS,), _TOKENS - 1, dtype=torch.int32), rows),
        Feed("total_sequence_length", torch.tensor(_TOKENS, dtype=torch.int32), {}),
        Feed("logit_positions", torch.zeros(_ROWS, 3, dtype=torch.int64), kept),
        Feed("text_lengths", torch.full((_ROWS,), _TOKENS, dtype=torch.int32), rows),
    ]
    if model.config.is_encoder_decoder:
        source = {0: "sources", 2: "source_length"}
        if takes_mask(model):
            mask = torch.ones(_SOURCES, _SOURCE, dtype=torch.int64)
            inputs.append(Feed("encoder_attention_mask", mask, {0: "sources", 1: source[2]}))
        inputs += pairs("cross_key_values", shape.layers, source, (_SOURCES, shape.kv_heads, _SOURCE, shape.head_size))
    inputs += pairs("past_key_values", shape.layers, buffer, (_ROWS, shape.kv_heads, _BUFFER, shape.head_size))
    queries = [Feed(f"cross_query.{layer}", None, step) for layer in alignment_layers(model)]
    outputs = [Feed("logits", None, kept), *pairs("present", shape.layers, buffer), *queries]
    with prepared(model, shape.head_size, shape.positions or 0) as tables:
        trace(DecoderGraph(model, shape, tables), inputs, outputs, file)


def _paired(tensors: tuple[Tensor, ...]) -> list[Pair]:
    return list(zip(tensors[::2], tensors[1::2], strict=True))
