"""The sizes of a model's decoder that its graph's inputs have, from its configuration."""

import dataclasses
from typing import Any

from onnxpipe.errors import UnsupportedModel

# tokens: rotary tables of 16 MB for heads of 128. Models that promise more are exported for texts up to here.
LONGEST = 32768

DECODERS = (
    "bloom",
    "gemma",
    "gemma2",
    "gemma3_text",
    "gpt2",
    "gpt_neo",
    "gpt_neox",
    "granite",
    "llama",
    "mistral",
    "opt",
    "phi3",
    "qwen2",
    "qwen3",
    "smollm3",
)
ENCODER_DECODERS = ("bart", "blenderbot-small", "m2m_100", "marian", "mbart", "mt5", "pegasus", "t5", "whisper")

# These attend relative to where they are, to any length.
_ENDLESS = ("bloom", "t5", "mt5")


@dataclasses.dataclass(frozen=True)
class DecoderShape:
    """Layers, key and value heads, numbers per head; `positions` is the longest text, None where there is no limit."""

    layers: int
    kv_heads: int
    head_size: int
    positions: int | None


def decoder_shape(config: Any) -> DecoderShape:  # a transformers configuration, untyped
    """The sizes of a model's decoder. Raises UnsupportedModel for families without a generation graph."""
    kind = config.model_type
    if kind not in (*DECODERS, *ENCODER_DECODERS):
        known = ", ".join(sorted((*DECODERS, *ENCODER_DECODERS)))
        raise UnsupportedModel(f"no generation graph is known for {kind!r} models; known are {known}")
    longest = getattr(config, "max_target_positions", None) or getattr(config, "max_position_embeddings", None)
    positions = None if kind in _ENDLESS else min(longest or LONGEST, LONGEST)
    if kind in ("t5", "mt5"):
        shape = DecoderShape(config.num_decoder_layers, config.num_heads, config.d_kv, positions)
    elif kind in ENCODER_DECODERS:
        heads = config.decoder_attention_heads
        shape = DecoderShape(config.decoder_layers, heads, config.d_model // heads, positions)
    else:
        heads = config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // heads
        shape = DecoderShape(config.num_hidden_layers, getattr(config, "num_key_value_heads", heads), size, positions)
    if shape.head_size % 8:
        raise UnsupportedModel(
            f"its attention heads have {shape.head_size} numbers each; onnxruntime's operator takes multiples of 8"
        )
    return shape
