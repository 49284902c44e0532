"""Rotary positions: as tables that the attention operator reads, or worked out in the graph where that cannot be."""

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import torch

from onnxpipe_export.generation.replacing import replace
from onnxpipe_export.generation.step import Pair, current

Tensor = Any  # torch is untyped here
Module = Any  # torch is untyped here

# of models whose frequencies change as the text grows
_BY_LENGTH = ("dynamic", "longrope")


def exchange_rotary(model: Module, head_size: int, positions: int, stack: contextlib.ExitStack) -> dict[str, Tensor]:
    """Let the attention operator rotate, where it can, until `stack` closes; the tables by name, none where it cannot.

    It cannot where frequencies depend on the length so far, nor in widths that its vector code has no use for: those
    models keep their own code and need position ids.
    """
    modules = {
        name.replace(".", "_"): module
        for name, module in model.named_modules()
        if type(module).__name__.endswith("RotaryEmbedding")
    }
    if not modules:
        return {}
    if any(_kind(module) in _BY_LENGTH for module in modules.values()):
        for module in modules.values():
            replace(stack, module, "forward", _by_length(module))
        return {}
    tables = {name: make_tables(module, positions) for name, module in modules.items()}
    if head_size % 16 or any(cos.shape[1] % 8 for cos, _ in tables.values()):
        return {}
    for name, module in modules.items():
        replace(stack, module, "forward", _give(tables[name]))
    replace(stack, sys.modules[type(model).__module__], "apply_rotary_pos_emb", _leave_to_operator)
    return {
        f"{name}_{part}": table
        for name, pair in tables.items()
        for part, table in zip(("cos", "sin"), pair, strict=True)
    }


def make_tables(module: Module, positions: int) -> Pair:
    """Cosines and sines of every position, (positions, rotated / 2): a head's second half repeats the first."""
    with torch.no_grad():
        cos, sin = module(torch.zeros(1, 1), torch.arange(positions)[None])
    half = cos.shape[-1] // 2
    return cos[0, :, :half].contiguous(), sin[0, :, :half].contiguous()


def _kind(module: Module) -> str:
    return str(getattr(module, "rope_type", "default"))


def _give(tables: Pair) -> Callable[..., Pair]:
    def forward(*_: object, **__: object) -> Pair:
        return tables

    return forward


def _leave_to_operator(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, *_: object, **__: object) -> Pair:
    """In the place of transformers' apply_rotary_pos_emb: queries and keys as they are, the tables to the step."""
    current().tables = (cos, sin)
    return query, key


def _by_length(module: Module) -> Callable[..., Pair]:
    """A rotary module's forward with the frequencies of each row's own length, as transformers has them for one row."""
    frequencies = (_dynamic if "dynamic" in _kind(module) else _longrope)(module)

    def forward(_: Tensor, position_ids: Tensor) -> Pair:
        lengths = current().text_lengths.to(torch.float32)[:, None]
        angles = position_ids[..., None].to(torch.float32) * frequencies(lengths)[:, None]
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos() * module.attention_scaling, angles.sin() * module.attention_scaling

    return forward


def _dynamic(module: Module) -> Callable[[Tensor], Tensor]:
    """NTK scaling by length: the base grows with texts beyond those the model was trained on."""
    config, size = module.config, 2 * module.original_inv_freq.shape[0]
    longest, factor = config.max_position_embeddings, config.rope_scaling["factor"]
    exponents = torch.arange(0, size, 2, dtype=torch.float32) / size

    def frequencies(lengths: Tensor) -> Tensor:
        stretch = factor * lengths.clamp(min=longest) / longest - (factor - 1)
        return 1.0 / (config.rope_theta * stretch ** (size / (size - 2))) ** exponents

    return frequencies


def _longrope(module: Module) -> Callable[[Tensor], Tensor]:
    """LongRoPE (Ding et al. 2024): one set of frequencies up to the original length, another beyond it."""
    config = module.config
    longest = getattr(config, "original_max_position_embeddings", None) or config.max_position_embeddings
    short = module.rope_init_fn(config, "cpu", seq_len=longest)[0]
    long = module.rope_init_fn(config, "cpu", seq_len=longest + 1)[0]

    def frequencies(lengths: Tensor) -> Tensor:
        return torch.where(lengths > longest, long, short)

    return frequencies
