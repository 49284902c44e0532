from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from onnxpipe.load import load_model, make_pipeline
from onnxpipe.session import Session
from onnxpipe_export.pictures import draw_pictures
from onnxpipe_export.quantize import quantize
from onnxpipe_export.static import find_chains, multiply_adds, prepare, quantize_convolutions

HEAD = "ForImageClassification"
SHAPE = (3, 16, 16)
DRAWS = np.random.default_rng(0)
PIXELS = {"pixel_values": DRAWS.normal(size=SHAPE).astype(np.float32)}


def kernel(*shape):
    return (DRAWS.normal(size=shape) / np.prod(shape[1:]) ** 0.5).astype(np.float32)


def save(folder, nodes, output, shape, **constants):
    """A graph from pixel_values (B, 3, 16, 16); nodes are (operator, inputs, output, attributes), named by output."""
    made = [helper.make_node(name, list(given), [out], name=out, **more) for name, given, out, more in nodes]
    graph = helper.make_graph(
        made,
        "graph",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", *SHAPE])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", *shape])],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    file = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), file)
    return file


CONVOLUTION = ("Conv", ("pixel_values", "k1"), "c1", {"pads": [1, 1, 1, 1]})
KERNELS = {"k1": kernel(8, 3, 3, 3), "k2": kernel(8, 8, 1, 1)}


def chains(file):
    return find_chains(onnx.load(file).graph)


def test_convolutions_with_relu_between_them_and_a_residual_are_a_chain_up_to_the_classifier(tmp_path):
    nodes = [
        CONVOLUTION,
        ("Relu", ("c1",), "r1", {}),
        ("Conv", ("r1", "k2"), "c2", {}),
        ("Add", ("c2", "r1"), "sum", {}),
        ("GlobalAveragePool", ("sum",), "mean", {}),
        ("Flatten", ("mean",), "row", {}),
        ("Gemm", ("row", "w"), "logits", {"transB": 1}),
    ]
    file = save(tmp_path, nodes, "logits", (5,), **KERNELS, w=kernel(5, 8))
    assert chains(file) == ["c1", "r1", "c2", "sum", "mean", "row", "logits"]


def test_a_chain_ends_before_a_convolution_that_feeds_what_integers_are_no_good_for(tmp_path):
    nodes = [
        CONVOLUTION,
        ("Relu", ("c1",), "r1", {}),
        ("Conv", ("r1", "k2"), "c2", {}),  # with SiLU behind it
        ("Sigmoid", ("c2",), "gate", {}),
        ("Mul", ("c2", "gate"), "silu", {}),
        ("Conv", ("silu", "k2"), "c3", {}),
        ("Relu", ("c3",), "r3", {}),
    ]
    assert chains(save(tmp_path, nodes, "r3", (8, 16, 16), **KERNELS)) == ["c1", "r1"]


def test_products_alone_are_no_chain(tmp_path):
    nodes = [("Flatten", ("pixel_values",), "row", {}), ("Gemm", ("row", "w"), "logits", {})]
    file = save(tmp_path, nodes, "logits", (5,), w=kernel(768, 5))
    assert chains(file) == []
    assert quantize_convolutions(file, tmp_path / "out.onnx", lambda: iter([PIXELS])) == 0
    assert not (tmp_path / "out.onnx").exists()


def test_weights_outside_of_the_file_are_left_to_the_other_method(tmp_path):
    file = save(tmp_path, [CONVOLUTION], "c1", (8, 16, 16), **KERNELS)
    onnx.save(onnx.load(file), file, save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    assert quantize_convolutions(file, tmp_path / "out.onnx", lambda: iter([PIXELS])) == 0


def test_multiply_adds_are_counted_by_hand(tmp_path):
    nodes = [
        CONVOLUTION,
        ("Conv", ("c1", "depthwise"), "c2", {"group": 8, "strides": [2, 2]}),
        ("Flatten", ("c2",), "row", {}),
        ("Gemm", ("row", "w"), "hidden", {"transB": 1}),
        ("MatMul", ("hidden", "m"), "logits", {}),
        ("MatMul", ("logits", "v"), "score", {}),
    ]
    constants = {"depthwise": kernel(8, 1, 2, 2), "w": kernel(5, 512), "m": kernel(5, 4), "v": kernel(4)}
    file = save(tmp_path, nodes, "score", (), **KERNELS, **constants)
    assert multiply_adds(file, PIXELS) == {
        "c1": 8 * 16 * 16 * 3 * 9,
        "c2": 8 * 8 * 8 * 4,
        "hidden": 512 * 5,
        "logits": 5 * 4,
        "score": 4,
    }


def test_padding_and_batch_norms_become_a_part_of_the_convolution(tmp_path):
    nodes = [
        ("Pad", ("pixel_values", "pads"), "padded", {}),
        ("Conv", ("padded", "k1"), "c1", {}),
        ("BatchNormalization", ("c1", "one", "zero", "zero", "one"), "n1", {}),
        ("Clip", ("n1", "low", "high"), "r1", {}),
    ]
    constants = {
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "one": np.full(8, 2, np.float32),
        "zero": np.zeros(8, np.float32),
        "low": np.float32(0),
        "high": np.float32(6),
    }
    file = save(tmp_path, nodes, "r1", (8, 16, 16), **KERNELS, **constants)
    assert [node.op_type for node in prepare(file, tmp_path / "prepared.onnx").node] == ["Conv", "Clip"]


def test_a_chain_becomes_integers_and_products_behind_it_take_scales_of_the_run(tmp_path):
    nodes = [
        CONVOLUTION,
        ("Relu", ("c1",), "r1", {}),
        ("Conv", ("r1", "k2"), "c2", {}),
        ("Flatten", ("c2",), "row", {}),
        ("Softmax", ("row",), "soft", {}),  # what a transformer would do
        ("MatMul", ("soft", "m"), "logits", {}),
    ]
    file = save(tmp_path, nodes, "logits", (4,), **KERNELS, m=kernel(2048, 4) * 100)
    made = quantize(file, tmp_path / "int8.onnx", "int8", rows=lambda: iter([PIXELS] * 3))
    operators = Counter(node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node)
    assert made == {"integer_operators": 3.0, "calibration_rows": 3.0}
    assert operators["MatMulInteger"] == 1
    feeds = {"pixel_values": PIXELS["pixel_values"][None]}
    expected, given = (Session(path).run(feeds)["logits"] for path in (file, tmp_path / "int8.onnx"))
    np.testing.assert_allclose(given, expected, atol=0.1 * np.abs(expected).max())


def rows_of(bundle):
    pipeline = make_pipeline(load_model(bundle, threads=1))
    pictures = pipeline.check_inputs(draw_pictures(12))
    return [pipeline.preprocess(picture, pipeline.types()[1]()).rows[0] for picture in pictures]


def operators_that_run(file, folder):
    """What onnxruntime makes of a graph on this machine."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)


@pytest.mark.parametrize("family", ["resnet", "mobilenet-v1", "mobilenet-v2"])
def test_a_convolutional_network_with_relu_runs_on_integers_and_answers_alike_in_every_batch(
    tiny_bundle, tmp_path, family
):
    bundle = tiny_bundle(family, HEAD)
    source, target, rows = bundle / "onnx" / "model.onnx", tmp_path / "int8.onnx", rows_of(bundle)
    made = quantize(source, target, "int8", rows=lambda: iter(rows))
    running = operators_that_run(target, tmp_path)
    assert made["calibration_rows"] == 12
    assert made["integer_operators"] == running["QLinearConv"] + running["QGemm"] > 10
    assert not running.keys() & {"Conv", "FusedConv", "Gemm", "MatMul", "DynamicQuantizeLinear"}
    assert target.stat().st_size < source.stat().st_size
    together = Session(target).run({"pixel_values": np.stack([row["pixel_values"] for row in rows])})["logits"]
    for row, expected in zip(rows, together, strict=True):
        alone = Session(target).run({"pixel_values": row["pixel_values"][None]})["logits"][0]
        np.testing.assert_allclose(alone, expected, atol=1e-6)


def test_integers_answer_nearly_as_floats(tiny_bundle, tmp_path):
    bundle = tiny_bundle("resnet", HEAD)
    rows = rows_of(bundle)
    quantize(bundle / "onnx" / "model.onnx", tmp_path / "int8.onnx", "int8", rows=lambda: iter(rows))
    feeds = {"pixel_values": np.stack([row["pixel_values"] for row in rows])}
    expected, given = (
        Session(file).run(feeds)["logits"] for file in (bundle / "onnx" / "model.onnx", tmp_path / "int8.onnx")
    )
    assert np.abs(given - expected).max() < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("family", ["efficientnet", "mobilevit", "convnext", "vit", "swin"])
def test_convolutions_stay_in_float_where_integers_would_be_slower(tiny_bundle, tmp_path, family):
    bundle = tiny_bundle(family, HEAD)
    source, target = bundle / "onnx" / "model.onnx", tmp_path / "int8.onnx"
    made = quantize(source, target, "int8", rows=lambda: iter(rows_of(bundle)))
    before, after = (Counter(node.op_type for node in onnx.load(file).graph.node) for file in (source, target))
    assert after["Conv"] == before["Conv"]
    assert after["MatMulInteger"] == made["integer_operators"] >= 1
    assert made.keys() == {"integer_operators"}
