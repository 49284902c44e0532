"""Modules to ONNX with the graph's own names for inputs, outputs and axes."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

Axes = Mapping[int, str]

# what optimum-onnx exports with; onnxruntime 1.31 reads far newer ones, but gains nothing from them here
OPSET = 18


@dataclasses.dataclass(frozen=True)
class Feed:
    """A traced input or output: its name, an example (None for outputs) and the names of the axes that vary."""

    name: str
    example: Any  # a torch tensor: torch is untyped here
    axes: Axes


def pairs(prefix: str, layers: int, axes: Axes, shape: Sequence[int] | None = None) -> list[Feed]:
    """Keys and values of all layers: {prefix}.{layer}.key and .value, with zeros of `shape` as examples."""
    return [
        Feed(f"{prefix}.{layer}.{part}", None if shape is None else torch.zeros(*shape), axes)
        for layer in range(layers)
        for part in ("key", "value")
    ]


def trace(module: Any, inputs: Sequence[Feed], outputs: Sequence[Feed], file: Path) -> None:  # a torch module
    """Write a module's graph. Inputs it does not read may be missing from it."""
    with torch.no_grad():
        torch.onnx.export(
            module.eval(),  # the exporter puts back what it finds, down to the model inside
            tuple(feed.example for feed in inputs),
            str(file),
            input_names=[feed.name for feed in inputs],
            output_names=[feed.name for feed in outputs],
            dynamic_axes={feed.name: dict(feed.axes) for feed in (*inputs, *outputs) if feed.axes},
            opset_version=OPSET,
            dynamo=False,
            # folding would store a tied embedding twice, once transposed; `rewrite` knows which to fold
            do_constant_folding=False,
        )
