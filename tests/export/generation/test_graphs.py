import numpy as np
import onnx_ir as ir
import pytest

from generation_zoo import Decoder, error, random_tokens, reference_logits
from onnxpipe_export.generation import graphs


def test_weights_beyond_what_one_file_holds_lie_beside_it(traced, tmp_path, monkeypatch):
    model, files = traced("llama")
    monkeypatch.setattr(graphs, "_LARGEST_BYTES", 1000)
    graphs.save(ir.load(files["decoder"]), tmp_path / "decoder.onnx")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["decoder.onnx", "decoder.onnx_data"]
    assert (tmp_path / "decoder.onnx_data").stat().st_size > (tmp_path / "decoder.onnx").stat().st_size
    # and the other way round, over the file that is being read
    monkeypatch.undo()
    graphs.save(ir.load(tmp_path / "decoder.onnx"), tmp_path / "decoder.onnx")
    (tmp_path / "decoder.onnx_data").unlink()
    prompt = random_tokens(9)
    found = Decoder(tmp_path / "decoder.onnx", rows=1, size=12).run([prompt], [0])
    assert error(found[0], reference_logits(model, prompt)[-1:]) < 2e-5


def test_small_integers_are_told_from_other_values():
    graph = ir.Graph([ir.Value(name="ids")], [], nodes=[], opset_imports={"": 18})
    assert graphs.numbers(graphs.add_constant(graph, "shape", np.array([[0, -1]]))) == (0, -1)
    assert graphs.numbers(graphs.add_constant(graph, "weight", np.zeros(65))) is None
    assert graphs.numbers(graph.inputs[0]) is None
    assert graphs.numbers(None) is None


def test_only_an_initializer_has_numbers_of_its_own():
    with pytest.raises(ValueError, match="ids is no initializer"):
        graphs.array(ir.Value(name="ids"))
    with pytest.raises(ValueError, match="sum is not part of a graph"):
        graphs.owner(ir.node("Add", [None, None], name="sum"))


def test_what_takes_the_place_of_an_output_takes_its_name():
    ids = ir.Value(name="ids")
    node = ir.node("Identity", [ids])
    node.outputs[0].name = "logits"
    graph = ir.Graph([ids], [node.outputs[0]], nodes=[node], opset_imports={"": 18})
    made = graphs.insert(node, "Relu", [ids])
    graphs.put_in_place(node, made.outputs[0])
    assert [(value.name, value.producer().op_type) for value in graph.outputs] == [("logits", "Relu")]
    assert len(graph) == 1
