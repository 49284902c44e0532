"""A small graph with products, for the tests of what is put in their place."""

import numpy as np
import onnx
from onnx import TensorProto, helper

TOKENS, WIDTH = 50, 32
_DRAWS = np.random.default_rng(0)
ROWS = [{"input_ids": _DRAWS.integers(0, TOKENS, length)} for length in (4, 6, 5, 9, 12, 7)]


def feeds(row):
    return {"input_ids": row["input_ids"][None]}


def reader(file, widest=60.0):
    """A graph from input_ids (B, T) to y (B, T, 4): an embedding with one channel as wide as `widest`, two products of
    it, their sum through tanh, and a third.
    """
    table = _DRAWS.normal(size=(TOKENS, WIDTH)).astype(np.float32)
    table[:, 3] *= widest
    weights = {
        "table": table,
        "w1": 0.2 * _DRAWS.normal(size=(WIDTH, 16)),
        "w2": 0.2 * _DRAWS.normal(size=(WIDTH, 16)),
        "w3": 0.3 * _DRAWS.normal(size=(WIDTH, 4)),
        "b1": _DRAWS.normal(size=16),
        "b2": _DRAWS.normal(size=16),
        "b3": _DRAWS.normal(size=4),
    }
    weights["w1"][3] /= widest
    weights["w2"][3] /= widest
    nodes = [
        ("Gather", ("table", "input_ids"), "x", {}),
        ("MatMul", ("x", "w1"), "p1", {}),
        ("Add", ("p1", "b1"), "s1", {}),
        ("MatMul", ("x", "w2"), "p2", {}),
        ("Add", ("b2", "p2"), "s2", {}),
        ("Concat", ("s1", "s2"), "both", {"axis": -1}),
        ("Tanh", ("both",), "t", {}),
        ("MatMul", ("t", "w3"), "p3", {}),
        ("Add", ("p3", "b3"), "y", {}),
    ]
    return _write(file, nodes, weights)


def chain(file):
    """A graph from input_ids (B, T) to y (B, T, 4): an embedding and two products with biases, nothing between them."""
    weights = {
        "table": _DRAWS.normal(size=(TOKENS, WIDTH)),
        "w1": 0.2 * _DRAWS.normal(size=(WIDTH, 16)),
        "w2": 0.2 * _DRAWS.normal(size=(16, 4)),
        "b1": _DRAWS.normal(size=16),
        "b2": _DRAWS.normal(size=4),
    }
    nodes = [
        ("Gather", ("table", "input_ids"), "x", {}),
        ("MatMul", ("x", "w1"), "p1", {}),
        ("Add", ("p1", "b1"), "s1", {}),
        ("MatMul", ("s1", "w2"), "p2", {}),
        ("Add", ("p2", "b2"), "y", {}),
    ]
    return _write(file, nodes, weights)


def _write(file, nodes, weights):
    graph = helper.make_graph(
        [helper.make_node(name, list(given), [out], name=out, **more) for name, given, out, more in nodes],
        "reader",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "sequence", 4])],
        [
            onnx.numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name)
            for name, array in weights.items()
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), file)
    return file
