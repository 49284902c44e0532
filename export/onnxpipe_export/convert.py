"""A torch model to ONNX graphs. One backend today, optimum-onnx, behind the interface a second one will share."""

import contextlib
import importlib.metadata
import logging
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from onnxpipe.bundle import Dim, Graph, Tensor
from onnxpipe.errors import UnsupportedModel
from onnxpipe.session import Port, Session
from onnxpipe_export.patches import patched
from onnxpipe_export.recipes import Recipe
from onnxpipe_export.source import SourceModel

# the exporter's axis names in the manifest's words
_AXES = {"batch_size": "batch", "sequence_length": "sequence"}


class Exporter(Protocol):
    """Turns a loaded torch model into graph files."""

    def tools(self) -> dict[str, str]:
        """Names and versions of what made the graphs, for the manifest."""

    def export(self, model: Any, recipe: Recipe, folder: Path) -> dict[str, Path]:
        """Write the graphs of a torch module into `folder`: graph name -> file. Raises UnsupportedModel."""


class OptimumExporter:
    """optimum-onnx 0.1: TorchScript export with named axes and stable input and output names."""

    def tools(self) -> dict[str, str]:
        """Names and versions of what made the graphs, for the manifest."""
        return {name: importlib.metadata.version(name) for name in ("optimum-onnx", "transformers", "torch", "onnx")}

    def export(self, model: Any, recipe: Recipe, folder: Path) -> dict[str, Path]:
        """Write model.onnx into `folder`. Raises UnsupportedModel when optimum-onnx cannot export the architecture."""
        from optimum.exporters.onnx import onnx_export_from_model

        scratch = folder / "optimum"
        with quiet(), patched(model):
            try:
                onnx_export_from_model(model, scratch, task=recipe.exporter_task, do_validation=False)
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


def load_torch(source: SourceModel, recipe: Recipe) -> Any:  # a torch module: torch is untyped here
    """The torch model in evaluation mode, from safetensors, with no code of the repository's own.

    Raises UnsupportedModel when transformers cannot load it.
    """
    import transformers

    auto_class = getattr(transformers, recipe.auto_class)
    with quiet():
        try:
            model = auto_class.from_pretrained(source.folder, use_safetensors=True, trust_remote_code=False)
        except (ValueError, OSError, KeyError, RuntimeError) as error:
            raise UnsupportedModel(f"{source.name}: transformers cannot load it ({first_line(error)})") from error
    return model.eval().float()


def describe_graph(file: Path, recipe: Recipe, pads: dict[str, int]) -> Graph:
    """What a graph file takes, and of what it gives the outputs the runtime reads. Raises UnsupportedModel without."""
    session = Session(file)
    outputs = {port.name: port for port in session.outputs}
    if missing := [name for name in recipe.outputs if name not in outputs]:
        raise UnsupportedModel(f"the exported graph has no output {missing[0]!r}; it has: {', '.join(outputs)}")
    return Graph(
        inputs=tuple(_tensor(port, pads.get(port.name, 0)) for port in session.inputs),
        outputs=tuple(
            _tensor(outputs[name]) for name in (*recipe.outputs, *recipe.optional_outputs) if name in outputs
        ),
    )


def _tensor(port: Port, pad: int = 0) -> Tensor:
    shape: list[Dim] = [_AXES.get(axis, axis) if isinstance(axis, str) else axis for axis in port.shape]
    return Tensor(name=port.name, dtype=port.dtype, shape=tuple(shape), pad=pad)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the chatter of torch, transformers and optimum off the terminal; errors still raise."""
    loggers = [logging.getLogger(name) for name in ("transformers", "optimum", "torch.onnx", "root")]
    levels = [logger.level for logger in loggers]
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def first_line(error: BaseException) -> str:
    """The first line of an error's text: libraries add advice for their own users below it."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
