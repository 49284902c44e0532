"""A Llama's weights as one GGUF file: `python gguf_weights.py MODEL FILE TYPE`, TYPE being F32, F16, Q8_0 or Q4_0.

MODEL is a folder in hub layout. All matrices, the embedding as well, get the type; norms stay in fp32. The vocabulary
is made up: texts are token ids here. Needs the packages gguf and safetensors, and nothing of this project.
"""

import json
import sys
from pathlib import Path

import gguf  # type: ignore[import-not-found,unused-ignore]  # not in this project's environment
import numpy as np
from safetensors.numpy import load_file

NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def main() -> None:
    """Write the file."""
    folder, file, kind = Path(sys.argv[1]), Path(sys.argv[2]), gguf.GGMLQuantizationType[sys.argv[3]]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(file, "llama")
    describe(writer, config, kind)
    add_vocabulary(writer, config["vocab_size"])
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for name, array in load_file(folder / "model.safetensors").items():
        target = renamed(name)
        part = target.split(".")[-2]
        numbers = halves_side_by_side(array, heads[part]) if part in heads else array
        if array.ndim > 1:
            writer.add_tensor(target, gguf.quants.quantize(numbers.astype(np.float32), kind), raw_dtype=kind)
        else:
            writer.add_tensor(target, numbers.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def describe(writer: gguf.GGUFWriter, config: dict[str, int], kind: gguf.GGMLQuantizationType) -> None:
    """What the format asks to know of a Llama."""
    head_size = config["hidden_size"] // config["num_attention_heads"]
    writer.add_name("random")
    writer.add_file_type(gguf.LlamaFileType[f"{'ALL' if kind.name == 'F32' else 'MOSTLY'}_{kind.name}"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_rope_dimension_count(head_size)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def add_vocabulary(writer: gguf.GGUFWriter, size: int) -> None:
    """Numbers as tokens of a byte-level BPE with one merge."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(["<unk>", "<s>", "</s>", *map(str, range(3, size))])
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (size - 3))
    writer.add_token_merges(["1 0"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def renamed(name: str) -> str:
    """A tensor's name in the format."""
    if name in NAMES:
        return NAMES[name]
    _, _, layer, part = name.removesuffix(".weight").split(".", maxsplit=3)
    return f"blk.{layer}.{LAYER_NAMES[part]}.weight"


def halves_side_by_side(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries or keys in the format's order: numbers that one rotary angle turns lie beside each other."""
    rows, width = array.shape
    return array.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)


if __name__ == "__main__":
    main()
