import pytest

from onnxpipe.errors import UnsupportedModel
from onnxpipe.hub.layout import read_layout


def layout(*files):
    return read_layout(dict.fromkeys(files, 10), "acme/model")


def test_every_suffix_of_transformers_js_is_a_precision():
    suffixes = ("", "_fp16", "_int8", "_uint8", "_quantized", "_q4", "_q4f16", "_bnb4")
    found = layout(*(f"onnx/model{suffix}.onnx" for suffix in suffixes))
    assert list(found.graphs) == ["fp32", "fp16", "q8", "int8", "uint8", "q4", "q4f16", "bnb4"]
    assert found.graphs["q8"] == {"model": "onnx/model_quantized.onnx"}


def test_other_suffixes_are_precisions_of_their_own_name_behind_those():
    found = layout("onnx/model_qint8_avx512_vnni.onnx", "onnx/model_O3.onnx", "onnx/model.onnx", "onnx/model_x.onnx")
    assert list(found.graphs) == ["fp32", "o3", "qint8_avx512_vnni", "x"]


def test_graphs_in_the_folder_go_before_those_beside_it():
    assert layout("model.onnx", "onnx/model.onnx").graphs == {"fp32": {"model": "onnx/model.onnx"}}
    assert layout("model.onnx").graphs == {"fp32": {"model": "model.onnx"}}


def test_files_elsewhere_and_of_other_names_are_no_graphs():
    found = layout("onnx/model.onnx", "openvino/model.onnx", "onnx/old/model.onnx", "onnx/other.onnx", "model.txt")
    assert found.parts == ("model",)
    assert list(found.graphs) == ["fp32"]


def test_parts_of_models_that_write_are_told_from_their_precision():
    found = layout("onnx/encoder_model_q4f16.onnx", "onnx/decoder_model_merged_q4f16.onnx")
    assert found.graphs == {
        "q4f16": {
            "decoder_model_merged": "onnx/decoder_model_merged_q4f16.onnx",
            "encoder_model": "onnx/encoder_model_q4f16.onnx",
        }
    }


def test_weights_beside_a_graph_belong_to_it():
    files = ("onnx/model.onnx", "onnx/model.onnx_data", "onnx/model.onnx_data_1", "onnx/model_fp16.onnx")
    found = layout(*files, "onnx/model_fp16.onnx.data")
    assert found.files("fp32") == files[:3]
    assert found.files("fp16") == ("onnx/model_fp16.onnx", "onnx/model_fp16.onnx.data")
    assert found.size_bytes("fp32") == 30


def test_the_best_and_8_bits_are_taken_unless_others_are_asked_for():
    many = layout("model.onnx", "model_fp16.onnx", "model_int8.onnx", "model_quantized.onnx")
    assert many.choose(None) == ("fp32", "q8")
    assert many.choose(["int8", "fp16"]) == ("fp16", "int8")
    assert layout("model_fp16.onnx", "model_q4.onnx").choose(None) == ("fp16",)
    assert layout("model_quantized.onnx").choose(None) == ("q8",)


def test_a_precision_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(UnsupportedModel, match="there is no precision 'q4'; there are: fp32, fp16"):
        layout("model.onnx", "model_fp16.onnx").choose(["q4"])


def test_a_repository_without_graphs_is_told_to_be_exported():
    with pytest.raises(UnsupportedModel, match=r"acme/model: no ONNX graphs.*`onnxpipe export acme/model OUT`"):
        layout("config.json", "model.safetensors")
