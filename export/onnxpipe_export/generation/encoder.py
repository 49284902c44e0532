"""The encoder as one module: its input and a mask in, the keys and values of every cross-attention out."""

from pathlib import Path
from typing import Any

import torch

from onnxpipe_export.generation.families import prepared_encoder
from onnxpipe_export.generation.shapes import DecoderShape
from onnxpipe_export.generation.trace import Feed, pairs, trace

Tensor = Any  # torch is untyped here
Module = Any  # torch is untyped here


class EncoderGraph(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    """What each layer of the decoder will look up in a source, (b, heads, S, D), worked out once for all steps."""

    def __init__(self, model: Module, shape: DecoderShape) -> None:
        super().__init__()
        self.encoder = model.get_encoder()
        self.projections = torch.nn.ModuleList(
            torch.nn.ModuleList(_projections(layer)) for layer in _decoder_layers(model)
        )
        self._shape = shape

    def forward(self, source: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Keys and values of all layers, in turn; `source` is what the encoder takes first, ids or features."""
        states = self.encoder(source, attention_mask=attention_mask).last_hidden_state
        heads, size = self._shape.kv_heads, self._shape.head_size
        return tuple(
            project(states).view(*states.shape[:2], heads, size).transpose(1, 2)
            for layer in self.projections
            for project in layer
        )


def trace_encoder(model: Module, shape: DecoderShape, file: Path) -> None:
    """Write the graph of a model's encoder, before any rewriting: of ids with a mask, or of sound features without."""
    axes = {0: "sources", 1: "source_length"}
    inputs = [
        Feed("input_ids", torch.ones(2, 7, dtype=torch.int64), axes),
        Feed("attention_mask", torch.ones(2, 7, dtype=torch.int64), axes),
    ]
    if not takes_mask(model):
        # as long as its position embeddings: all sources are padded with silence to this
        features = torch.zeros(2, model.config.num_mel_bins, 2 * model.config.max_source_positions)
        inputs = [Feed("input_features", features, {0: "sources"})]
    outputs = pairs("cross_key_values", shape.layers, {0: "sources", 2: "source_length"})
    with prepared_encoder(model.get_encoder()):
        trace(EncoderGraph(model, shape), inputs, outputs, file)


def takes_mask(model: Module) -> bool:
    """Whether sources of one batch differ in length, as texts do."""
    return str(model.main_input_name) == "input_ids"


def _decoder_layers(model: Module) -> Any:
    decoder = model.get_decoder()
    return decoder.layers if hasattr(decoder, "layers") else decoder.block


def _projections(layer: Module) -> tuple[Module, Module]:
    """The linear layers of keys and values in one layer's cross-attention."""
    if hasattr(layer, "encoder_attn"):
        return layer.encoder_attn.k_proj, layer.encoder_attn.v_proj
    attention = layer.layer[1].EncDecAttention
    return attention.k, attention.v
