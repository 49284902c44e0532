"""A torch model to ONNX graphs: the interface of what makes them, and optimum-onnx behind it."""

import importlib.metadata
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from onnxpipe.bundle import Dim, Graph, Tensor
from onnxpipe.errors import UnsupportedModel
from onnxpipe.session import Port, Session
from onnxpipe_export.loaded import Loaded
from onnxpipe_export.patches import patched
from onnxpipe_export.quiet import first_line, quiet
from onnxpipe_export.recipe import Recipe

# the exporter's axis names in the manifest's words
_AXES = {"batch_size": "batch", "sequence_length": "sequence"}


class Exporter(Protocol):
    """Turns a loaded torch model into graph files."""

    def tools(self) -> dict[str, str]:
        """Names and versions of what made the graphs, for the manifest."""

    def export(self, loaded: Loaded, recipe: Recipe, folder: Path) -> dict[str, Path]:
        """Write the graphs of a model into `folder`: graph name -> file. Raises UnsupportedModel."""


class OptimumExporter:
    """optimum-onnx 0.1: TorchScript export with named axes and stable input and output names."""

    def tools(self) -> dict[str, str]:
        """Names and versions of what made the graphs, for the manifest."""
        return {name: importlib.metadata.version(name) for name in ("optimum-onnx", "transformers", "torch", "onnx")}

    def export(self, loaded: Loaded, recipe: Recipe, folder: Path) -> dict[str, Path]:
        """Write model.onnx into `folder`. Raises UnsupportedModel when optimum-onnx cannot export the architecture."""
        from optimum.exporters.onnx import onnx_export_from_model

        scratch, model = folder / "optimum", loaded.model
        with quiet(), patched(loaded) as options:
            try:
                onnx_export_from_model(model, scratch, task=recipe.exporter_task, do_validation=False, **options)
            except (ValueError, KeyError, NotImplementedError, RuntimeError) as error:
                raise UnsupportedModel(
                    f"{type(model).__name__} cannot be exported for {recipe.task}: {first_line(error)}"
                ) from error
        file = folder / "model.onnx"
        (scratch / "model.onnx").rename(file)
        for data in scratch.glob("*.onnx_data"):  # weights beyond the 2 GB a protobuf file may hold
            data.rename(folder / data.name)
        shutil.rmtree(scratch)
        return {"model": file}


def describe_graph(file: Path, recipe: Recipe, pads: Mapping[str, int | None]) -> Graph:
    """What a graph file takes, and of what it gives the outputs the runtime reads. Raises UnsupportedModel without.

    `pads` says what fills each input where that is not 0. Pictures are not filled to share a run with larger ones, with
    a mask neither: attention leaves out what is masked, but the convolutions below it have spread it by then (a random
    DETR's boxes move by 2 to 7 % of the picture, at tiny sizes and at real ones).
    """
    session = Session(file)
    pads = {"pixel_values": None, "pixel_mask": None, **pads}
    outputs = {port.name: port for port in session.outputs}
    read = (*recipe.outputs, *recipe.optional_outputs)
    if recipe.exporter == "generation":
        read = tuple(outputs)  # all of them: each graph has its own
    elif missing := [name for name in recipe.outputs if name not in outputs]:
        raise UnsupportedModel(f"the exported graph has no output {missing[0]!r}; it has: {', '.join(outputs)}")
    return Graph(
        inputs=tuple(_tensor(port, pads.get(port.name, 0)) for port in session.inputs),
        outputs=tuple(_tensor(outputs[name]) for name in read if name in outputs),
    )


def _tensor(port: Port, pad: int | None = 0) -> Tensor:
    shape: list[Dim] = [_AXES.get(axis, axis) if isinstance(axis, str) else axis for axis in port.shape]
    return Tensor(name=port.name, dtype=port.dtype, shape=tuple(shape), pad=pad)
