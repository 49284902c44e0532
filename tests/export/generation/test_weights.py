import numpy as np
import onnx
import pytest

from generation_zoo import Decoder, error, random_tokens, reference_logits
from onnxpipe.errors import UnsupportedModel
from onnxpipe_export.generation.weights import quantize_blocks, quantize_channels


def decode(file, texts):
    """Logits (rows, steps, V) of rows that decode together."""
    decoder, steps = Decoder(file, rows=4, size=40), []
    for row, text in enumerate(texts):
        decoder.run([text], [0], first=row)
    for step in range(4):
        lengths = [len(text) + step for text in texts]
        steps.append(decoder.run([[7 + step]] * len(texts), lengths))
    return np.concatenate(steps, axis=1)


@pytest.mark.parametrize(("bits", "tolerance"), [(8, 0.05), (4, 0.7)])
def test_blocks_stay_near_the_float_logits(traced, tmp_path, bits, tolerance):
    model, files = traced("llama")
    # queries, keys and values, the attention's output, gate and up, and down of two layers; and the head
    assert quantize_blocks(files["decoder"], tmp_path / "blocks.onnx", bits=bits, block_size=32) == 2 * 4 + 1
    prompt = random_tokens(13)
    found = Decoder(tmp_path / "blocks.onnx", rows=1, size=16).run([prompt], [0])
    assert error(found[0], reference_logits(model, prompt)[-1:]) < tolerance


@pytest.mark.parametrize("bits", [4, 8])
def test_rows_with_blocks_do_not_change_each_other(traced, tmp_path, bits):
    _, files = traced("llama")
    quantize_blocks(files["decoder"], tmp_path / "blocks.onnx", bits=bits, block_size=32)
    texts = [random_tokens(length, seed=length) for length in (5, 11, 20)]
    together = decode(tmp_path / "blocks.onnx", texts)
    alone = np.concatenate([decode(tmp_path / "blocks.onnx", [text]) for text in texts])
    assert error(together, alone) < 1e-6


@pytest.mark.parametrize("block_size", [32, 128])
def test_a_tied_embedding_shares_the_bytes_of_the_head(traced, tmp_path, block_size):
    # the embedding has 64 numbers: half a block of 128
    model, files = traced("llama")
    quantize_blocks(files["decoder"], tmp_path / "blocks.onnx", bits=8, block_size=block_size)
    graph = onnx.load(tmp_path / "blocks.onnx").graph
    tokens = len(model.get_input_embeddings().weight)
    stored = [tensor for tensor in graph.initializer if tokens in tensor.dims]
    assert sorted(tensor.data_type for tensor in stored) == [onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8]
    prompt = random_tokens(13)
    found = Decoder(tmp_path / "blocks.onnx", rows=1, size=16).run([prompt], [0])
    assert error(found[0], reference_logits(model, prompt)[-1:]) < 0.1


@pytest.mark.parametrize("name", ["gpt2", "opt", "bloom", "gemma2", "t5, gated"])
def test_no_product_or_embedding_keeps_float_weights(traced, tmp_path, name):
    _, files = traced(name)
    quantize_blocks(files["decoder"], tmp_path / "blocks.onnx", bits=4, block_size=32)
    nodes = onnx.load(tmp_path / "blocks.onnx").graph.node
    assert {node.op_type for node in nodes}.isdisjoint({"MatMul", "Gemm"})
    assert [node.op_type for node in nodes if "input_ids" in node.input and node.op_type != "Shape"] == [
        "GatherBlockQuantized"
    ]


def test_channels_suit_encoders(traced, tmp_path):
    _, files = traced("bart")
    # query, key, value, output and two feed-forward products of two layers, and keys and values of three decoder layers
    assert quantize_channels(files["encoder"], tmp_path / "channels.onnx", block_size=32) == 2 * 6 + 3 * 2


def test_channels_keep_a_shared_embedding_in_blocks(traced, tmp_path):
    model, files = traced("llama")
    assert quantize_channels(files["decoder"], tmp_path / "channels.onnx", block_size=32) == 10
    prompt = random_tokens(13)
    found = Decoder(tmp_path / "channels.onnx", rows=1, size=16).run([prompt], [0])
    assert error(found[0], reference_logits(model, prompt)[-1:]) < 0.2


def test_a_graph_without_products_is_refused(tmp_path):
    value, result = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch"]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "relu", [value], [result])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]), tmp_path / "model.onnx")
    with pytest.raises(UnsupportedModel, match="no product has weights of its own; this graph cannot be int4"):
        quantize_blocks(tmp_path / "model.onnx", tmp_path / "out.onnx", bits=4, block_size=32)
    with pytest.raises(UnsupportedModel, match="this graph cannot be int8"):
        quantize_channels(tmp_path / "model.onnx", tmp_path / "out.onnx", block_size=32)


@pytest.mark.parametrize(("name", "layers"), [("llama", 2), ("gemma2", 2), ("qwen3", 2), ("t5, gated", 3)])
def test_the_two_halves_of_a_gated_layer_are_one_product(traced, tmp_path, name, layers):
    _, files = traced(name)
    floats = sum(node.op_type == "MatMul" for node in onnx.load(files["decoder"]).graph.node)
    assert floats - quantize_blocks(files["decoder"], tmp_path / "blocks.onnx", bits=4, block_size=32) == layers
    operators = [node.op_type for node in onnx.load(tmp_path / "blocks.onnx").graph.node]
    assert operators.count("Split") == layers
