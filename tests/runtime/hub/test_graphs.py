import dataclasses
import json

import pytest

from onnxpipe.bundle import Graph, Tensor
from onnxpipe.errors import UnsupportedModel
from onnxpipe.hub.graphs import describe_graph, difference, fixed_size, takes_batches
from onnxpipe.hub.rows import choose_row
from onnxpipe.hub.source import SourceModel
from onnxpipe.session import Session
from tiny_graphs import classifier, encoder, image_classifier, sound_classifier, speller


@pytest.fixture
def session(tmp_path):
    """The session of a tiny graph."""

    def load(model):
        (tmp_path / "model.onnx").write_bytes(model[0])
        return Session(tmp_path / "model.onnx", threads=1)

    return load


@pytest.fixture
def source(tmp_path):
    """A model of an architecture, with files."""

    def write(architecture, files=(), **config):
        for name, content in dict(files).items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return SourceModel(tmp_path, "acme/model", None, {"architectures": [architecture], **config})

    return write


TOKENIZER = {"tokenizer": {"model": {"vocab": {"[PAD]": 7}}}, "tokenizer_config": {"pad_token": "[PAD]"}}


def test_a_graph_of_texts_is_filled_with_the_padding_token(session, source):
    given = source("BertForSequenceClassification", TOKENIZER)
    graph = describe_graph(session(classifier()), given, choose_row(given, None))
    pads = {tensor.name: tensor.pad for tensor in graph.inputs}
    assert pads == {"input_ids": 7, "attention_mask": 0, "token_type_ids": 0}
    assert [tensor.name for tensor in graph.outputs] == ["logits"]


def test_what_is_answered_for_each_token_is_cut_as_the_text_is(session, source):
    given = source("BertModel", TOKENIZER)
    content, graph = encoder()
    assert graph.outputs[0].shape[1] == graph.inputs[0].shape[1]
    unnamed = content.replace(b"sequence", b"whatever", content.count(b"sequence"))
    assert unnamed != content
    last = content.rindex(b"sequence")
    unnamed = content[:last] + b"whatever" + content[last + 8 :]
    described = describe_graph(session((unnamed, graph)), given, choose_row(given, None))
    assert described.outputs[0].shape == (*described.inputs[0].shape, 2)


def test_pictures_are_never_padded(session, source):
    given = source("ViTForImageClassification")
    graph = describe_graph(session(image_classifier()), given, choose_row(given, None))
    assert graph.inputs[0].pad is None


@pytest.mark.parametrize(
    ("normalized", "masked", "pad"), [("layer", True, None), ("group", True, None), ("layer", False, None)]
)
def test_sound_without_a_mask_in_its_graph_is_never_padded(normalized, masked, pad, session, source):
    extractor = {"return_attention_mask": masked}
    given = source("HubertForCTC", {"preprocessor_config": extractor}, feat_extract_norm=normalized)
    graph = describe_graph(session(speller(5)), given, choose_row(given, None))
    inputs = {tensor.name: tensor for tensor in graph.inputs}
    assert ("attention_mask" in inputs) or inputs["input_values"].pad is pad
    assert graph.outputs[0].shape[1] == "frames"
    assert graph.convolved["frames"].of == inputs["input_values"].shape[1]


def test_an_output_that_is_not_there_is_told_with_those_that_are(session, source):
    given = source("BertForQuestionAnswering", TOKENIZER)
    with pytest.raises(
        UnsupportedModel,
        match="its graph gives logits; for question-answering expected are start_logits and end_logits",
    ):
        describe_graph(session(classifier()), given, choose_row(given, None))


def test_the_same_graph_differs_in_nothing(session):
    _, graph = classifier()
    assert difference(graph, session(classifier())) is None


def test_other_inputs_outputs_and_types_are_told(session):
    _, graph = classifier()
    assert difference(graph, session(encoder())).startswith("it takes ")
    without = dataclasses.replace(graph, outputs=(dataclasses.replace(graph.outputs[0], name="scores"),))
    assert difference(without, session(classifier())) == "it gives logits, not scores"
    _, pictures = image_classifier()
    floats = Graph(inputs=(dataclasses.replace(pictures.inputs[0], dtype="float16"),), outputs=pictures.outputs)
    assert difference(floats, session(image_classifier())) == "it takes pixel_values as float32, not as float16"


def graph(*shapes, name="pixel_values"):
    inputs, outputs = (Tensor(name=name, dtype="float32", shape=shape) for shape in shapes)
    return Graph(inputs=(inputs,), outputs=(outputs,))


def test_a_graph_of_one_size_is_known():
    assert fixed_size(graph(("batch", 3, 64, 96), ("batch", 2))) == (64, 96)
    assert fixed_size(graph(("batch", 3, "height", "width"), ("batch", 2))) is None
    assert fixed_size(sound_classifier()[1]) is None


def test_a_graph_of_one_row_takes_no_batches():
    assert takes_batches(graph(("batch", 3, 64, 96), ("batch", 2)))
    assert not takes_batches(graph((1, 3, 64, 96), ("batch", 2)))
    assert not takes_batches(graph(("batch", 3, 64, 96), (1, 2)))
