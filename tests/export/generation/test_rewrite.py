from collections import Counter

import onnx
import pytest

from generation_zoo import CAUSAL, SEQ2SEQ

KINDS = (*CAUSAL, *SEQ2SEQ, "whisper")


def operators(file):
    return Counter(node.op_type for node in onnx.load(file).graph.node)


def test_a_llama_layer_is_eleven_nodes(traced):
    _, files = traced("llama")
    assert operators(files["decoder"]) == {
        "Gather": 1,
        "SimplifiedLayerNormalization": 1,
        # queries, keys and values together; attention's output; gate, up, down; and the head
        "MatMul": 2 * 5 + 1,
        "GroupQueryAttention": 2,
        "SkipSimplifiedLayerNormalization": 2 * 2,
        "Sigmoid": 2,
        "Mul": 2 * 2,
        # the wanted positions, and the head's weight, which is the embedding's
        "Unsqueeze": 1,
        "GatherND": 1,
        "Transpose": 1,
    }


@pytest.mark.parametrize("name", [name for name in KINDS if "outside" not in name and "small" not in name])
def test_no_family_asks_for_lengths_in_every_layer_or_flattens_rows(traced, name):
    found = operators(traced(name)[1]["decoder"])
    assert found["Shape"] <= 4
    assert found["Gemm"] == 0


def test_a_tied_embedding_is_stored_once(traced):
    model, files = traced("llama")
    shapes = [tuple(tensor.dims) for tensor in onnx.load(files["decoder"]).graph.initializer]
    embedding = tuple(model.get_input_embeddings().weight.shape)
    assert shapes.count(embedding) == 1
    assert embedding[::-1] not in shapes


def test_a_factor_on_the_queries_is_the_attentions_own(traced):
    _, files = traced("opt")
    attention = next(node for node in onnx.load(files["decoder"]).graph.node if node.op_type == "GroupQueryAttention")
    assert {value.name: value.f for value in attention.attribute}["scale"] == pytest.approx(16**-0.5)


@pytest.mark.parametrize("name", ["gpt2", "phi3", "bloom", "qwen2"])
def test_attention_takes_queries_keys_and_values_as_one(traced, name):
    graph = onnx.load(traced(name)[1]["decoder"]).graph
    assert {tuple(node.input[1:3]) for node in graph.node if node.op_type == "GroupQueryAttention"} == {("", "")}
