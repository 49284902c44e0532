"""The exporter for models that write text: a decoder's graph, and an encoder's where the model has one."""

import importlib.metadata
import tempfile
from pathlib import Path

from onnxpipe.errors import UnsupportedModel
from onnxpipe_export.generation.shapes import decoder_shape
from onnxpipe_export.loaded import Loaded
from onnxpipe_export.quiet import first_line, quiet
from onnxpipe_export.recipe import Recipe


class GenerationExporter:
    """transformers' own code traced by torch, its attention exchanged for onnxruntime's operators."""

    def tools(self) -> dict[str, str]:
        """Names and versions of what made the graphs, for the manifest."""
        return {name: importlib.metadata.version(name) for name in ("transformers", "torch", "onnx", "onnx_ir")}

    def export(self, loaded: Loaded, recipe: Recipe, folder: Path) -> dict[str, Path]:
        """Write decoder.onnx, and encoder.onnx for encoder-decoder models: graph name -> file.

        Weights may lie in files beside them, of a name that begins with a graph's.
        Raises UnsupportedModel for families without a generation graph.
        """
        # here, not above: torch takes seconds to import
        from onnxpipe_export.generation.decoder import trace_decoder
        from onnxpipe_export.generation.encoder import trace_encoder
        from onnxpipe_export.generation.rewrite import rewrite
        from onnxpipe_export.generation.sharing import share_weights

        model = loaded.model
        shape = decoder_shape(model.config)
        traces = {"decoder": trace_decoder}
        if model.config.is_encoder_decoder:
            traces = {"encoder": trace_encoder, **traces}
        files = {name: folder / f"{name}.onnx" for name in traces}
        # torch leaves a file for each weight beside a graph that is too large for one
        with quiet(), tempfile.TemporaryDirectory(dir=folder) as scratch:
            for name, trace in traces.items():
                traced = Path(scratch) / f"{name}.onnx"
                try:
                    trace(model, shape, traced)
                except (ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
                    what = f"the {name} of {type(model).__name__} cannot be exported for {recipe.task}"
                    raise UnsupportedModel(f"{what}: {first_line(error)}") from error
                rewrite(traced, files[name])
        if "encoder" in files:
            share_weights(files["encoder"], files["decoder"])
        return files
