"""Tiny random models of every family that writes text, and what drives their graphs row by row.

Weights are drawn large enough that every position, head and scale shows in the logits.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import tokenizers
import torch
import transformers
from numpy.typing import NDArray

from zoo import _byte_level_bpe

VOCABULARY = 97
# random tokens start here: smaller ones are special somewhere
FIRST_TOKEN = 5
MAX_LENGTH = 64

_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": MAX_LENGTH,
}
_SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_GROUPED = {**_SIZES, **_SPECIAL, "num_key_value_heads": 2}
_GEMMA = {**_GROUPED, "head_dim": 32}
_BART = {
    "vocab_size": VOCABULARY,
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": MAX_LENGTH,
}
_WHISPER = {
    **{name: value for name, value in _BART.items() if name != "max_position_embeddings"},
    "max_source_positions": 20,
    "max_target_positions": 40,
    "num_mel_bins": 8,
    "pad_token_id": 1,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "decoder_start_token_id": 4,
    "begin_suppress_tokens": None,
    "suppress_tokens": None,
}
# distances reach the last bucket within the tests' texts
_T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 64,
    "d_kv": 24,
    "num_heads": 4,
    "d_ff": 48,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "decoder_start_token_id": 0,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
}


@dataclasses.dataclass(frozen=True)
class Kind:
    """A model to draw: its family and what differs from the family's defaults.

    `attention` is the reference's implementation: some of transformers' forget settings that its eager one honours.
    """

    model_type: str
    config: Mapping[str, object]
    attention: str | None = None


CAUSAL = {
    "gpt2": Kind(
        "gpt2", {"vocab_size": VOCABULARY, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": MAX_LENGTH}
    ),
    "gpt2, scaled by layer": Kind(
        "gpt2",
        {
            "vocab_size": VOCABULARY,
            "n_embd": 64,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": MAX_LENGTH,
            "scale_attn_by_inverse_layer_idx": True,
        },
        "eager",
    ),
    "gpt_neo": Kind(
        "gpt_neo",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 64,
            "num_layers": 4,
            "num_heads": 4,
            "max_position_embeddings": MAX_LENGTH,
            "window_size": 5,
            "attention_types": [[["global", "local"], 2]],
        },
    ),
    "gpt_neox": Kind("gpt_neox", {**_SIZES, "rotary_pct": 1.0}),
    "gpt_neox, half rotated": Kind("gpt_neox", {**_SIZES, "hidden_size": 128, "rotary_pct": 0.5}),
    "gpt_neox, rotated outside": Kind("gpt_neox", {**_SIZES, "rotary_pct": 0.5}),
    "opt": Kind("opt", {**_SIZES, "ffn_dim": 48}),
    "opt, projected": Kind("opt", {**_SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32, "do_layer_norm_before": False}),
    "bloom": Kind("bloom", {"vocab_size": VOCABULARY, "hidden_size": 64, "n_layer": 2, "n_head": 4}),
    "bloom, six heads": Kind("bloom", {"vocab_size": VOCABULARY, "hidden_size": 96, "n_layer": 2, "n_head": 6}),
    "llama": Kind("llama", {**_GROUPED, "tie_word_embeddings": True}),
    "llama, scaled": Kind(
        "llama",
        {
            **_GROUPED,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            },
        },
    ),
    "llama, biased": Kind("llama", {**_GROUPED, "attention_bias": True, "mlp_bias": True}),
    "llama, small heads": Kind("llama", {**_GROUPED, "hidden_size": 32}),
    "mistral": Kind("mistral", {**_GROUPED, "sliding_window": 6}),
    "qwen2": Kind("qwen2", _GROUPED),
    "qwen2, one layer sliding": Kind(
        "qwen2", {**_GROUPED, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}
    ),
    "qwen3": Kind("qwen3", {**_GROUPED, "head_dim": 32}),
    "phi3": Kind("phi3", _GROUPED),
    "phi3, half rotated": Kind("phi3", {**_GROUPED, "hidden_size": 128, "partial_rotary_factor": 0.5}),
    "gemma": Kind("gemma", _GEMMA),
    "gemma2": Kind(
        "gemma2",
        {
            **_GEMMA,
            "sliding_window": 6,
            "query_pre_attn_scalar": 20,
            "attn_logit_softcapping": 5.0,
            "final_logit_softcapping": 3.0,
        },
        "eager",
    ),
    "gemma3": Kind(
        "gemma3_text",
        {
            **_GEMMA,
            "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention"],
            "query_pre_attn_scalar": 20,
        },
    ),
    "granite": Kind(
        "granite",
        {
            **_GROUPED,
            "logits_scaling": 3.0,
            "residual_multiplier": 0.5,
            "embedding_multiplier": 2.0,
            "attention_multiplier": 0.3,
        },
    ),
    "smollm3": Kind("smollm3", {**_GROUPED, "no_rope_layers": [1, 0]}),
}
# rotary frequencies that change when a text passes 16 tokens
BY_LENGTH = {
    "llama, dynamic": Kind(
        "llama", {**_GROUPED, "max_position_embeddings": 16, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}
    ),
    "phi3, longrope": Kind(
        "phi3",
        {
            **_GROUPED,
            "original_max_position_embeddings": 16,
            "rope_scaling": {
                "type": "longrope",
                "short_factor": [1.0 + index / 8 for index in range(8)],
                "long_factor": [2.0 + index for index in range(8)],
            },
        },
    ),
}
SEQ2SEQ = {
    "bart": Kind("bart", {**_BART, "scale_embedding": True}),
    "pegasus": Kind("pegasus", _BART),
    "marian": Kind("marian", {**_BART, "pad_token_id": 96, "decoder_start_token_id": 96, "eos_token_id": 0}),
    "m2m_100": Kind("m2m_100", _BART),
    "mbart": Kind("mbart", _BART),
    "blenderbot-small": Kind("blenderbot-small", _BART),
    "t5": Kind("t5", _T5),
    "t5, gated": Kind("t5", {**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "mt5": Kind("mt5", {**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
}
WHISPER = Kind("whisper", _WHISPER)


def draw(kind: Kind, **settings: object) -> transformers.PreTrainedModel:
    """A random model in evaluation mode, the same in every call; `settings` go over the kind's own."""
    torch.manual_seed(1)
    config = transformers.AutoConfig.for_model(kind.model_type, **{**kind.config, **settings})
    auto = transformers.AutoModelForCausalLM
    if config.is_encoder_decoder:
        speech = kind.model_type == "whisper"
        auto = transformers.AutoModelForSpeechSeq2Seq if speech else transformers.AutoModelForSeq2SeqLM
    options = {"attn_implementation": kind.attention} if kind.attention else {}
    model = auto.from_config(config, **options).eval()
    # T5 does not scale its scores
    spread = 0.08 if kind.model_type in ("t5", "mt5") else 0.2
    with torch.no_grad():
        for module in model.modules():
            wide = isinstance(module, torch.nn.Embedding)
            for weight in module.parameters(recurse=False):
                if weight.ndim > 1:
                    weight.normal_(std=1.0 if wide else spread)
                else:
                    weight.add_(0.3 * torch.randn_like(weight))
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_()
    return model


def write(kind: Kind, folder: Path, corpus: Iterable[str]) -> Path:
    """A random model in hub layout, with a byte-level tokenizer of `corpus` whatever the family's own would be."""
    folder.mkdir(parents=True, exist_ok=True)
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    files = _byte_level_bpe(corpus, folder, special=list(special.values()))
    backend = tokenizers.ByteLevelBPETokenizer.from_file(files["vocab_file"], files["merges_file"])
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend._tokenizer, **special)
    tokenizer.save_pretrained(folder)
    ids = {f"{name}_id": getattr(tokenizer, f"{name}_id") for name in ("pad_token", "bos_token", "eos_token")}
    if "decoder_start_token_id" in kind.config:
        ids["decoder_start_token_id"] = tokenizer.pad_token_id
    model = draw(kind, vocab_size=len(tokenizer), **ids)
    model.generation_config.update(**ids)
    model.save_pretrained(folder, safe_serialization=True)
    return folder


class Decoder:
    """A decoder-only graph over buffers of `rows` rows and `size` positions, past and present in the same memory."""

    def __init__(self, file: Path, rows: int, size: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.inputs = [port.name for port in self._session.get_inputs()]
        ports = [port for port in self._session.get_inputs() if port.name.startswith("past_key_values.")]
        # what lies behind a row's tokens must not matter
        self.buffers = {port.name: np.full((rows, port.shape[1], size, port.shape[3]), 7e7, "f4") for port in ports}

    def run(
        self,
        tokens: Sequence[Sequence[int]],
        lengths: Sequence[int],
        *,
        first: int = 0,
        positions: Sequence[int] = (-1,),
        whole: int | None = None,
    ) -> NDArray[np.float32]:
        """Logits (rows, positions, V) of new tokens (rows, T), each row behind its `lengths`; `first` is the row,
        `whole` the length of the prompt that they are part of.
        """
        ids, past = np.array(tokens, np.int64), np.array(lengths)
        count, new = ids.shape
        feeds = {
            "input_ids": ids,
            "position_ids": past[:, None] + np.arange(new),
            "seqlens_k": (past + new - 1).astype(np.int32),
            "total_sequence_length": np.array((past + new).max(), np.int32),
            "logit_positions": np.tile(np.array(positions, np.int64) % new, (count, 1)),
            "text_lengths": np.full(count, whole, np.int32) if whole else (past + new).astype(np.int32),
        }
        binding = self._session.io_binding()
        for name, values in feeds.items():
            if name in self.inputs:
                binding.bind_cpu_input(name, np.ascontiguousarray(values))
        for name, buffer in self.buffers.items():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(buffer[first : first + count])
            binding.bind_ortvalue_input(name, value)
            binding.bind_ortvalue_output(name.replace("past_key_values", "present"), value)
        binding.bind_output("logits")
        self._session.run_with_iobinding(binding)
        return binding.get_outputs()[-1].numpy()


def random_tokens(length: int, seed: int = 0) -> list[int]:
    """Tokens of no special meaning."""
    return np.random.default_rng(seed).integers(FIRST_TOKEN, VOCABULARY - 3, length).tolist()


def reference_logits(model: transformers.PreTrainedModel, tokens: Sequence[int]) -> NDArray[np.float32]:
    """transformers' logits (T, V) for a whole text without any cache."""
    with torch.no_grad():
        return model(torch.tensor([list(tokens)])).logits[0].numpy()


def error(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest difference, in units of the largest magnitude."""
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))
