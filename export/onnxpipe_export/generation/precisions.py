"""What each precision makes of a graph that writes: how many bits its weights get, and in which form."""

from collections.abc import Mapping
from pathlib import Path

from onnxpipe_export.generation.sharing import share_weights
from onnxpipe_export.generation.weights import quantize_blocks, quantize_channels

# bits of a decoder's weights
BITS = {"int8": 8, "int4": 4}
# Weights that share a scale. Measured: with 64 a token of int4 takes a seventh less time than with 32
# (generation_speed); what that costs is in language_quality.
_BLOCK_SIZES = {"int8": 32, "int4": 64}


def quantize_graphs(
    sources: Mapping[str, Path], targets: Mapping[str, Path], precision: str, *, block_size: int | None = None
) -> int:
    """Write the graphs of a model in a precision of `BITS`, and return how many products are in integers.

    What they have in common is stored once. `block_size` is the precision's own when None.
    Raises UnsupportedModel when no product of a graph has weights.
    """
    count = sum(quantize_graph(name, source, targets[name], precision, block_size) for name, source in sources.items())
    if "encoder" in targets:
        share_weights(targets["encoder"], targets["decoder"])
    return count


def quantize_graph(name: str, source: Path, target: Path, precision: str, block_size: int | None = None) -> int:
    """Write `target` in a precision of `BITS`, and return how many products are in integers.

    A decoder is as fast as its weights are few bytes, and its rows must not change each other: they get blocks of bits.
    An encoder reads a whole text at once, and one text per run: whole channels of 8 bits, be the decoder's fewer.
    Raises UnsupportedModel when no product has weights.
    """
    block_size = block_size or _BLOCK_SIZES[precision]
    if name == "encoder":
        return quantize_channels(source, target, block_size=block_size)
    return quantize_blocks(source, target, bits=BITS[precision], block_size=block_size)
