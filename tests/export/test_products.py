import numpy as np
import onnx_ir as ir
import pytest

from onnxpipe.session import Session
from onnxpipe_export.activations import METHODS, find_ranges, observe
from onnxpipe_export.generation.graphs import save
from onnxpipe_export.products import Blocks, Range, find_sites, open_graph, put_embeddings, put_forms, quantize_weights
from product_graphs import ROWS, WIDTH, chain, feeds, reader

FORMS = ("static", "smooth", "split", "weights8", "weights4")


@pytest.fixture
def source(tmp_path):
    return reader(tmp_path / "model.onnx")


@pytest.fixture
def even(tmp_path):
    """The same without a channel that is larger than the others."""
    return reader(tmp_path / "even.onnx", widest=1.0)


def in_form(source, form, folder, **more):
    model = open_graph(source)
    ranges = find_ranges(find_sites(model), observe(open_graph(source), ROWS), "minmax")
    count = put_forms(model, dict.fromkeys(find_sites(model), form), ranges, Blocks(**more))
    save(model, folder / "made.onnx")
    return count, model


def error(source, made):
    pairs = [(Session(source).run(feeds(row))["y"], Session(made).run(feeds(row))["y"]) for row in ROWS]
    return max(np.abs(given - expected).max() / np.abs(expected).max() for expected, given in pairs)


def test_products_that_read_the_same_value_are_one_site(source):
    sites = find_sites(open_graph(source))
    assert [len(site.products) for site in sites.values()] == [2, 1]
    assert [weight.shape for site in sites.values() for weight in site.weights] == [
        (WIDTH, 16),
        (WIDTH, 16),
        (WIDTH, 4),
    ]


@pytest.mark.parametrize(
    ("form", "bound"), [("static", 0.05), ("smooth", 0.05), ("split", 0.05), ("weights8", 0.05), ("weights4", 0.5)]
)
def test_every_form_answers_nearly_as_float(even, tmp_path, form, bound):
    count, model = in_form(even, form, tmp_path)
    assert count == 3
    assert not any(node.op_type in ("MatMul", "Gemm") and form != "split" for node in model.graph)
    assert error(even, tmp_path / "made.onnx") < bound


def test_factors_and_channels_apart_both_help_where_one_channel_is_far_larger_than_the_rest(source, tmp_path):
    errors = {}
    for form in ("static", "smooth", "split"):
        in_form(source, form, tmp_path)
        errors[form] = error(source, tmp_path / "made.onnx")
    assert errors["smooth"] < 0.5 * errors["static"] > 2 * errors["split"]


@pytest.mark.parametrize("form", FORMS)
def test_rows_do_not_change_each_other(source, tmp_path, form):
    in_form(source, form, tmp_path)
    session = Session(tmp_path / "made.onnx")
    together = session.run({"input_ids": np.stack([row["input_ids"][:4] for row in ROWS])})["y"]
    alone = np.concatenate([session.run({"input_ids": row["input_ids"][None, :4]})["y"] for row in ROWS])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_one_integer_product_stands_for_those_of_a_site_and_takes_their_biases(source, tmp_path):
    _, model = in_form(source, "static", tmp_path)
    operators = [node.op_type for node in model.graph]
    assert operators.count("MatMulIntegerToFloat") == operators.count("QuantizeLinear") == 2
    assert operators.count("Split") == 1
    biased = [len(node.inputs) == 7 for node in model.graph if node.op_type == "MatMulIntegerToFloat"]
    assert biased == [True, True]


def test_a_site_that_is_not_named_stays_in_float(source, tmp_path):
    model = open_graph(source)
    first, last = find_sites(model)
    assert put_forms(model, {last: "weights8"}, {}, Blocks()) == 1
    assert next(str(node.name) for node in model.graph if node.op_type == "MatMul") == first


def test_blocks_whose_zero_lies_anywhere_have_zero_points(source, tmp_path):
    _, model = in_form(source, "weights4", tmp_path, symmetric=False, size=16)
    assert {len(node.inputs) for node in model.graph if node.op_type == "MatMulNBits"} == {4}
    assert error(source, tmp_path / "made.onnx") < 0.5


def test_tables_of_embeddings_take_a_quarter(even, tmp_path):
    model = open_graph(even)
    assert put_embeddings(model, 8, Blocks()) == 1
    save(model, tmp_path / "made.onnx")
    assert error(even, tmp_path / "made.onnx") < 0.05
    assert not any(
        value.const_value.dtype == ir.DataType.FLOAT and tuple(value.shape) == (50, WIDTH)
        for value in model.graph.initializers.values()
    )


def test_weights_use_seven_of_eight_bits():
    integers, scales = quantize_weights(np.array([[64.0, -2.0], [-32.0, 1.0]], np.float32))
    assert integers.tolist() == [[64, -64], [-32, 32]]
    assert scales.tolist() == [1.0, 0.03125]


def test_zero_is_a_level():
    assert (Range(-1.0, 4.1).zero, Range(0.0, 2.55).zero) == (50, 0)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_a_range_within_what_was_seen(source, method):
    seen = observe(open_graph(source), ROWS)
    found = find_ranges(find_sites(open_graph(source)), seen, method)
    for (name, form), reach in found.items():
        if form == "static":
            assert seen[name].low.min() <= reach.low <= 0 <= reach.high <= seen[name].high.max()
    assert all(reach.high > reach.low for reach in found.values())


def test_a_product_that_reads_anothers_biased_result_reads_the_one_that_stands_for_it(tmp_path):
    model = open_graph(chain(tmp_path / "model.onnx"))
    ranges = find_ranges(find_sites(model), observe(open_graph(tmp_path / "model.onnx"), ROWS), "minmax")
    assert put_forms(model, dict.fromkeys(find_sites(model), "static"), ranges, Blocks()) == 2
    save(model, tmp_path / "made.onnx")
    assert error(tmp_path / "model.onnx", tmp_path / "made.onnx") < 0.1
