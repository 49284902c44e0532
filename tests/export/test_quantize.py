import onnx
import pytest

from onnxpipe.errors import UnsupportedModel
from onnxpipe_export.quantize import quantize
from zoo import families

CLASSIFIER = "ForSequenceClassification"


def test_int8_is_smaller_and_really_integer(tiny_bundle, tmp_path):
    source = tiny_bundle("bert", "") / "onnx" / "model.onnx"
    made = quantize(source, tmp_path / "model_int8.onnx", "int8")
    operators = [node.op_type for node in onnx.load(tmp_path / "model_int8.onnx").graph.node]
    # two layers of query, key, value, attention output and two feed-forward products
    assert made == {"integer_operators": 12.0}
    assert operators.count("MatMulInteger") == 12
    assert (tmp_path / "model_int8.onnx").stat().st_size < 0.5 * source.stat().st_size


@pytest.mark.parametrize("family", families(CLASSIFIER))
def test_no_family_keeps_a_product_with_float_weights(tiny_bundle, tmp_path, family):
    quantize(tiny_bundle(family, CLASSIFIER) / "onnx" / "model.onnx", tmp_path / "model_int8.onnx", "int8")
    graph = onnx.load(tmp_path / "model_int8.onnx").graph
    weights = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    assert [node.name for node in products if weights & set(node.input)] == []


def test_narrowing_products_may_stay_in_float(tiny_bundle, tmp_path):
    source = tiny_bundle("bert", CLASSIFIER) / "onnx" / "model.onnx"
    plain = quantize(source, tmp_path / "plain.onnx", "int8")["integer_operators"]
    kept = quantize(source, tmp_path / "kept.onnx", "int8", float_narrowing=True)["integer_operators"]
    # the second product of both layers' feed-forward blocks, and the head; the pooler is square
    assert plain - kept == 3


def test_a_graph_that_stays_float_is_refused(tmp_path):
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch"])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch"])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "relu", [value], [result])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]), tmp_path / "model.onnx")
    with pytest.raises(UnsupportedModel, match="quantisation left every operator in float"):
        quantize(tmp_path / "model.onnx", tmp_path / "model_int8.onnx", "int8")


def test_an_unknown_precision_names_the_choices(tmp_path):
    with pytest.raises(UnsupportedModel, match="cannot make precision 'int3'; precisions: fp32, int8"):
        quantize(tmp_path / "model.onnx", tmp_path / "out.onnx", "int3")
