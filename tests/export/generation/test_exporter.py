import pytest

from generation_zoo import CAUSAL, SEQ2SEQ, Decoder, draw
from onnxpipe.errors import UnsupportedModel
from onnxpipe_export.generation.exporter import GenerationExporter
from onnxpipe_export.loaded import Loaded
from onnxpipe_export.recipe import Recipe
from onnxpipe_export.source import SourceModel

RECIPE = Recipe(
    task="text-generation", auto_class="AutoModelForCausalLM", exporter_task="", judge="scores", tolerance={}
)


@pytest.fixture
def loaded(tmp_path):
    return lambda kind: Loaded(SourceModel(tmp_path, "tiny", None, {}), draw(kind))


def test_a_causal_model_is_one_graph(loaded, tmp_path):
    files = GenerationExporter().export(loaded(CAUSAL["llama"]), RECIPE, tmp_path)
    assert files == {"decoder": tmp_path / "decoder.onnx"}
    assert Decoder(files["decoder"], rows=1, size=8).inputs[:4] == [
        "input_ids",
        "seqlens_k",
        "total_sequence_length",
        "logit_positions",
    ]


def test_an_encoder_decoder_is_two(loaded, tmp_path):
    files = GenerationExporter().export(loaded(SEQ2SEQ["marian"]), RECIPE, tmp_path)
    assert files == {name: tmp_path / f"{name}.onnx" for name in ("encoder", "decoder")}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["decoder.onnx", "encoder.onnx"]


def test_code_that_cannot_be_traced_names_the_model(loaded, tmp_path):
    parts = loaded(CAUSAL["llama"])
    parts.model.config.rope_scaling = {"rope_type": "dynamic"}
    parts.model.model.rotary_emb.rope_type = "dynamic"
    with pytest.raises(
        UnsupportedModel, match="the decoder of LlamaForCausalLM cannot be exported for text-generation"
    ):
        GenerationExporter().export(parts, RECIPE, tmp_path)


def test_the_tools_have_versions():
    assert set(GenerationExporter().tools()) == {"transformers", "torch", "onnx", "onnx_ir"}
