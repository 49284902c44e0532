"""Models that write, from a folder in hub layout to a bundle that answers."""

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxpipe
from onnxpipe.bundle import open_bundle
from onnxpipe.errors import UnsupportedModel
from onnxpipe.golden import check_golden
from onnxpipe.load import load_model
from onnxpipe_export.export import export
from onnxpipe_export.generation import precisions
from onnxpipe_export.generation.exporter import GenerationExporter
from onnxpipe_export.generation.weights import quantize_blocks, quantize_channels


@pytest.fixture
def gpt2(tiny_model):
    return tiny_model("gpt2", "ForCausalLM")


@pytest.mark.parametrize(
    ("family", "head", "task"),
    [
        ("gpt2", "ForCausalLM", "text-generation"),
        ("llama", "ForCausalLM", "text-generation"),
        ("bart", "ForSeq2SeqLM", "text2text-generation"),
        ("pegasus", "ForSeq2SeqLM", "summarization"),
        ("marian", "ForSeq2SeqLM", "translation"),
        ("marian, several targets", "ForSeq2SeqLM", "translation"),
        ("nllb", "ForSeq2SeqLM", "translation"),
        ("t5", "ForSeq2SeqLM", "text2text-generation"),
        ("blenderbot-small", "ForSeq2SeqLM", "conversational"),
    ],
)
def test_a_model_that_writes_becomes_a_bundle_that_writes_the_same(tiny_bundle, family, head, task):
    model = load_model(tiny_bundle(family, head))
    manifest = model.bundle.manifest
    assert manifest.task == task
    assert list(manifest.graphs) == (["decoder"] if head == "ForCausalLM" else ["encoder", "decoder"])
    assert manifest.graphs["decoder"].outputs[0].name == "logits"
    variant = manifest.variants["fp32"]
    assert variant.batch_invariant
    assert variant.measured["error"] < 1e-5
    assert variant.measured["same_text"] == 1.0
    assert check_golden(model) == []


def test_every_graph_is_made_in_every_precision(tiny_model, tmp_path):
    report = export(tiny_model("t5", "ForSeq2SeqLM"), tmp_path / "out", precisions=["fp32", "int8", "int4"])
    manifest = open_bundle(tmp_path / "out").manifest
    assert report.refused == ()
    assert manifest.variants["int4"].files == {"encoder": "onnx/encoder_int4.onnx", "decoder": "onnx/decoder_int4.onnx"}
    # the embedding of both graphs; with four bits in one and eight in the other there is none
    assert manifest.variants["fp32"].external_data == ("onnx/decoder.onnx_data",)
    assert manifest.variants["int8"].external_data == ("onnx/decoder_int8.onnx_data",)
    assert manifest.variants["int4"].external_data == ()
    kinds = {
        name: {node.op_type for node in onnx.load(tmp_path / "out" / file).graph.node}
        for name, file in manifest.variants["int8"].files.items()
    }
    # long texts at once in whole channels; single tokens in blocks, which keep rows apart
    assert "MatMulInteger" in kinds["encoder"]
    assert "MatMulNBits" in kinds["decoder"]
    assert "MatMulInteger" not in kinds["decoder"]
    assert {"onnxpipe", "onnxruntime", "torch", "transformers", "onnx_ir"} <= manifest.tools.keys()
    assert "optimum-onnx" not in manifest.tools


def test_a_precision_that_is_too_far_off_is_refused_and_its_files_go(gpt2, tmp_path, monkeypatch):
    monkeypatch.setattr(
        precisions,
        "quantize_graph",
        lambda _, source, target, *__: quantize_blocks(source, target, bits=4, block_size=128),
    )
    report = export(gpt2, tmp_path / "out", precisions=["fp32", "int8"])
    (refused,) = report.refused
    assert refused.problems[0].startswith("divergence is 0.")
    assert sorted(file.name for file in (tmp_path / "out" / "onnx").iterdir()) == ["decoder.onnx"]


def test_rows_that_change_each_other_are_noticed(gpt2, tmp_path, monkeypatch):
    def channels(_, source, target, *__):
        return quantize_channels(source, target, block_size=32)

    monkeypatch.setattr(precisions, "quantize_graph", channels)
    report = export(gpt2, tmp_path / "out", precisions=["fp32", "int8"])
    fp32, int8 = report.outcomes
    assert fp32.batch_invariant
    assert not int8.batch_invariant
    assert int8.figures["batch_error"] > 1e-3


def test_a_graph_that_differs_from_torch_is_not_written(gpt2, tmp_path):
    class Damaging(GenerationExporter):
        def export(self, loaded, recipe, folder):
            files = super().export(loaded, recipe, folder)
            model = onnx.load(files["decoder"])
            largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
            values = numpy_helper.to_array(largest) * np.float32(1.01)
            largest.CopyFrom(numpy_helper.from_array(values, largest.name))
            onnx.save(model, files["decoder"])
            return files

    with pytest.raises(UnsupportedModel, match=r"no precision passed.*fp32: error is 0\.0"):
        export(gpt2, tmp_path / "out", precisions=["fp32"], exporter=Damaging())
    assert not (tmp_path / "out").exists()


def test_four_bits_are_for_models_that_write(tiny_model, tmp_path):
    with pytest.raises(UnsupportedModel, match=r"for text-classification are not made in 'int4'.*fp32, fp16, int8"):
        export(tiny_model("bert", "ForSequenceClassification"), tmp_path / "out", precisions=["int4"])


def test_a_prompt_may_fill_what_the_model_holds_and_no_tokenizer_cuts_it(gpt2, tmp_path):
    settings = json.loads((gpt2 / "tokenizer_config.json").read_text())
    assert settings["model_max_length"] == 48
    export(gpt2, tmp_path / "out", precisions=["fp32"])
    manifest = open_bundle(tmp_path / "out").manifest
    assert (manifest.text.max_tokens, manifest.generation.max_length) == (None, 64)
    answer = onnxpipe.load(tmp_path / "out")("one two three " * 40, max_new_tokens=4)
    assert answer
