"""What a decoder asks its source for, as outputs of its graph: from it follows which sound each token belongs to.

The attention itself stays inside of one operator. Queries are there anyway, so a graph that gives them has not one node
more, and whoever does not bind them pays nothing; with the keys, which the encoder gives, they make the attention anew.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

Tensor = Any  # torch is untyped here
Module = Any  # torch is untyped here


def alignment_layers(model: Module) -> tuple[int, ...]:
    """The layers with a head whose attention follows the sound, as the model's generation_config.json tells."""
    heads = getattr(model.generation_config, "alignment_heads", None) or ()
    return tuple(sorted({int(layer) for layer, _ in heads}))


@contextlib.contextmanager
def kept_queries(model: Module, layers: Sequence[int]) -> Iterator[list[Tensor]]:
    """The queries (B, T, heads * D) that cross-attention makes in these layers, in turn, as the model is called.

    They are not scaled yet.
    """
    kept: list[Tensor] = []
    decoder = model.get_decoder()
    with contextlib.ExitStack() as stack:
        for layer in layers:
            projection = decoder.layers[layer].encoder_attn.q_proj
            hook = projection.register_forward_hook(lambda _, __, output: kept.append(output))
            stack.callback(hook.remove)
        yield kept
