"""Graphs of the tiny models, each traced once for all tests."""

import pytest

from generation_zoo import BY_LENGTH, CAUSAL, SEQ2SEQ, WHISPER, draw
from onnxpipe_export.generation.decoder import trace_decoder
from onnxpipe_export.generation.encoder import trace_encoder
from onnxpipe_export.generation.rewrite import rewrite
from onnxpipe_export.generation.shapes import decoder_shape
from onnxpipe_export.quiet import quiet

KINDS = {**CAUSAL, **BY_LENGTH, **SEQ2SEQ, "whisper": WHISPER}


@pytest.fixture(scope="session")
def traced(tmp_path_factory):
    """name -> the model and its graphs' files by name."""
    made = {}

    def trace(name):
        if name not in made:
            model, folder = draw(KINDS[name]), tmp_path_factory.mktemp("graphs")
            shape = decoder_shape(model.config)
            graphs = {"decoder": trace_decoder}
            if model.config.is_encoder_decoder:
                graphs["encoder"] = trace_encoder
            with quiet():
                for graph, make in graphs.items():
                    make(model, shape, folder / f"{graph}_traced.onnx")
                    rewrite(folder / f"{graph}_traced.onnx", folder / f"{graph}.onnx")
            made[name] = model, {graph: folder / f"{graph}.onnx" for graph in graphs}
        return made[name]

    return trace
