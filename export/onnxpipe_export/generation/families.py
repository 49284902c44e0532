"""What is exchanged in a model while it is traced: attention, norms and positions; one function per kind of module.

transformers' modelling code stays in charge of everything else, so that scales, caps and biases are the model's own.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from onnxpipe_export.generation.layers import IMPLEMENTATION, SOURCE_IMPLEMENTATION, attend_cross, attend_self, register
from onnxpipe_export.generation.operators import GatherRows, RootMeanSquareNorm
from onnxpipe_export.generation.replacing import replace
from onnxpipe_export.generation.rotary import exchange_rotary
from onnxpipe_export.generation.step import Step, current

Tensor = Any  # torch is untyped here
Module = Any  # torch is untyped here
Stack = contextlib.ExitStack


@contextlib.contextmanager
def prepared(model: Module, head_size: int, positions: int) -> Iterator[dict[str, Tensor]]:
    """A model whose decoder can be traced step by step; gives the rotary tables that the trace will refer to."""
    register()
    with Stack() as stack:
        tables = exchange_rotary(model, head_size, positions, stack)
        head = model.get_output_embeddings()
        hook = head.register_forward_pre_hook(
            lambda _, inputs: (GatherRows.apply(inputs[0], current().logit_positions),)
        )
        stack.callback(hook.remove)
        _exchange_implementation(model, IMPLEMENTATION, stack)
        for module in model.modules():
            name = type(module).__name__
            if name in _EXCHANGES and not (tables == {} and name in _NEEDS_TABLES):
                replace(stack, module, "forward", _EXCHANGES[name](module))
            elif name.endswith(_ROOT_MEAN_SQUARE):
                replace(stack, module, "forward", _norm(module))
            for method in ("_update_causal_mask", "_update_cross_attn_mask"):
                if hasattr(module, method):
                    replace(stack, module, method, _no_mask)
        decoder = getattr(getattr(model, "model", None), "decoder", None)
        if (embedding := getattr(decoder, "embed_positions", None)) is not None:
            replace(stack, embedding, "forward", _positions(embedding))
        yield tables


@contextlib.contextmanager
def prepared_encoder(encoder: Module) -> Iterator[None]:
    """An encoder whose attention is traced as one operator where its family lets us; masks stay as they come."""
    register()
    with Stack() as stack:
        if type(encoder).__name__ not in _OWN_ATTENTION:
            _exchange_implementation(encoder, SOURCE_IMPLEMENTATION, stack)
            if hasattr(encoder, "_update_full_mask"):
                replace(stack, encoder, "_update_full_mask", lambda mask, *_: mask)
        for module in encoder.modules():
            if type(module).__name__.endswith(_ROOT_MEAN_SQUARE):
                replace(stack, module, "forward", _norm(module))
        yield


def make_bias(model: Module) -> Callable[[Step], Tensor] | None:
    """What adds to the scores of all layers, from a step; None where the family adds nothing."""
    kind = model.config.model_type
    if kind == "bloom":
        return _alibi(model.config.n_head)
    if kind in ("t5", "mt5"):
        return _relative(model.decoder.block[0].layer[0].SelfAttention)
    return None


def _exchange_implementation(model: Module, name: str, stack: Stack) -> None:
    for module in model.modules():
        config = getattr(module, "config", None)
        if config is not None and config._attn_implementation != name:
            stack.callback(setattr, config, "_attn_implementation", config._attn_implementation)
            config._attn_implementation = name
        if "_attn_implementation" in vars(module):
            replace(stack, module, "_attn_implementation", name)


def _no_mask(*_: object, **__: object) -> None:
    return None


def _norm(module: Module) -> Callable[[Tensor], Tensor]:
    # Gemma counts its weights from 1
    weight = module.weight.detach() + 1.0 if type(module).__name__.startswith("Gemma") else module.weight
    epsilon = float(module.variance_epsilon if hasattr(module, "variance_epsilon") else module.eps)

    def forward(hidden: Tensor) -> Tensor:
        return RootMeanSquareNorm.apply(hidden, weight, epsilon)

    return forward


def _positions(module: Module) -> Callable[..., Tensor]:
    """Position embeddings by the step's position ids, which each row counts for itself."""
    if hasattr(module, "padding_idx") and hasattr(module, "weights"):  # M2M100's, whose table begins with the padding

        def sinusoids(input_ids: Tensor, *_: object, **__: object) -> Tensor:
            # a padding token has no position wherever it stands
            numbers = (current().position_ids + 1) * (input_ids != module.padding_idx) + module.padding_idx
            return torch.nn.functional.embedding(numbers, module.weights)

        return sinusoids
    offset = getattr(module, "offset", 0)

    def forward(*_: object, **__: object) -> Tensor:
        return torch.nn.functional.embedding(current().position_ids + offset, module.weight)

    return forward


def _conv1d(module: Module) -> Callable[[Tensor], Tensor]:
    """GPT-2's linear layer as a product and a sum: its own form flattens rows, and no quantiser knows the operator."""

    def forward(hidden: Tensor) -> Tensor:
        return hidden @ module.weight + module.bias

    return forward


def _interleaved(layer: Module, heads: int) -> Callable[[Tensor], Tensor]:
    """A linear layer of (head, query | key | value) as one that gives all queries, then all keys, then all values."""
    size = layer.weight.shape[0] // (3 * heads)
    order = torch.arange(layer.weight.shape[0]).view(heads, 3, size).transpose(0, 1).reshape(-1)
    weight = layer.weight.detach()[order]
    bias = None if layer.bias is None else layer.bias.detach()[order]

    def forward(hidden: Tensor) -> Tensor:
        return torch.nn.functional.linear(hidden, weight, bias)

    return forward


def _bloom(module: Module) -> Callable[..., tuple[Tensor, None]]:
    project = _interleaved(module.query_key_value, module.num_heads)

    def forward(hidden: Tensor, residual: Tensor, *_: object, **__: object) -> tuple[Tensor, None]:
        output = attend_self(
            module.layer_idx,
            (project(hidden), None, None),
            heads=module.num_heads,
            kv_heads=module.num_heads,
            scale=module.inv_norm_factor,
        )
        return residual + module.dense(output), None

    return forward


def _gpt_neox(module: Module) -> Callable[..., tuple[Tensor, None]]:
    heads = module.config.num_attention_heads
    project = _interleaved(module.query_key_value, heads)

    def forward(hidden: Tensor, *_: object, position_embeddings: Any, **__: object) -> tuple[Tensor, None]:
        current().tables = position_embeddings
        states = (project(hidden), None, None)
        output = attend_self(module.layer_idx, states, heads=heads, kv_heads=heads, scale=module.scaling)
        return module.dense(output), None

    return forward


def _gpt_neo(module: Module) -> Callable[..., tuple[Tensor, None]]:
    window = module.config.window_size if module.config.attention_layers[module.layer_id] == "local" else None

    def forward(hidden: Tensor, *_: object, **__: object) -> tuple[Tensor, None]:
        output = attend_self(
            module.layer_id,
            (module.q_proj(hidden), module.k_proj(hidden), module.v_proj(hidden)),
            heads=module.num_heads,
            kv_heads=module.num_heads,
            scale=1.0,  # it was trained without
            window=window,
        )
        return module.out_proj(output), None

    return forward


def _opt_layer(module: Module) -> Callable[..., tuple[Tensor]]:
    """The same layer without the flattening of rows, for which quantisers know no operator."""
    first = module.do_layer_norm_before

    def forward(hidden: Tensor, **options: Any) -> tuple[Tensor]:
        states = module.self_attn_layer_norm(hidden) if first else hidden
        hidden = hidden + module.self_attn(states, **options)[0]
        hidden = hidden if first else module.self_attn_layer_norm(hidden)
        states = module.final_layer_norm(hidden) if first else hidden
        hidden = hidden + module.fc2(module.activation_fn(module.fc1(states)))
        return (hidden if first else module.final_layer_norm(hidden),)

    return forward


def _t5(module: Module) -> Callable[..., tuple[Tensor, None]]:
    def forward(hidden: Tensor, *_: object, key_value_states: Tensor | None = None, **__: object) -> Any:
        query = module.q(hidden)
        if key_value_states is not None:
            keys, values = current().cross[module.layer_idx]
            return module.o(attend_cross(query, keys, values, 1.0)), None
        states = (query, module.k(hidden), module.v(hidden))
        heads = module.n_heads
        return module.o(attend_self(module.layer_idx, states, heads=heads, kv_heads=heads, scale=1.0)), None

    return forward


def _alibi(heads: int) -> Callable[[Step], Tensor]:
    """ALiBi (Press et al. 2022): every head leans, by a slope of its own, towards later positions."""
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (index + 1) / power) for index in range(power)]
    slopes += [2 ** (-4 * (2 * index + 1) / power) for index in range(heads - power)]
    column = torch.tensor(slopes)[None, :, None, None]

    def bias(step: Step) -> Tensor:
        keys = torch.arange(step.total_sequence_length, dtype=torch.int64).to(torch.float32)
        length = step.input_ids.shape[1]
        return (column * keys).expand(1, heads, length, -1)

    return bias


def _relative(attention: Module) -> Callable[[Step], Tensor]:
    """T5's relative positions (Raffel et al. 2020): a number for each head and bucket of distances.

    Beyond the largest distance all share one bucket, so a table over distances says it all.
    """
    distances = torch.arange(attention.relative_attention_max_distance + 1)
    buckets = attention._relative_position_bucket(
        -distances,
        bidirectional=False,
        num_buckets=attention.relative_attention_num_buckets,
        max_distance=attention.relative_attention_max_distance,
    )
    table = attention.relative_attention_bias.weight.detach()[buckets]

    def bias(step: Step) -> Tensor:
        keys = torch.arange(step.total_sequence_length, dtype=torch.int64)
        away = step.position_ids[..., None] - keys
        return torch.nn.functional.embedding(away.clamp(0, len(table) - 1), table).permute(0, 3, 1, 2)

    return bias


# class name of a module -> its forward while a decoder is traced
_EXCHANGES: dict[str, Callable[[Module], Callable[..., Any]]] = {
    "Conv1D": _conv1d,
    "BloomAttention": _bloom,
    "GPTNeoXAttention": _gpt_neox,
    "GPTNeoSelfAttention": _gpt_neo,
    "OPTDecoderLayer": _opt_layer,
    "T5Attention": _t5,
    "MT5Attention": _t5,
}
# names that norms without a mean end with
_ROOT_MEAN_SQUARE = ("RMSNorm", "T5LayerNorm")
# encoders that do not ask transformers' registry for their attention
_OWN_ATTENTION = ("T5Stack", "MT5Stack")
# those that only hold where the attention operator rotates
_NEEDS_TABLES = ("GPTNeoXAttention",)
