import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpipe import batching
from onnxpipe.batching import iterate_rows, plan_batches, run_batch, run_rows, stack
from onnxpipe.bundle import Convolved, Graph, Tensor
from onnxpipe.errors import InvalidInput
from onnxpipe.session import Session
from tiny_graphs import speller


def tensor(*shape, name="x", pad=0):
    return Tensor(name=name, dtype="int64", shape=shape, pad=pad)


def test_neighbours_in_length_share_a_batch():
    # 2, 3, 4 make 3 x 4 = 12 padded elements; 9 does not fit beside them
    assert plan_batches([9, 2, 4, 3], 12) == [[1, 3, 2], [0]]


def test_rows_of_one_length_keep_their_order():
    assert plan_batches([5, 5, 5], 100) == [[0, 1, 2]]


def test_a_row_over_the_limit_runs_alone():
    assert plan_batches([50, 60], 12) == [[0], [1]]


def test_nothing_gives_no_batches():
    assert plan_batches([], 12) == []


def test_a_limit_of_zero_puts_every_row_in_a_batch_of_its_own():
    assert plan_batches([1, 1, 2], 0) == [[0], [1], [2]]


@given(st.lists(st.integers(1, 600), max_size=50), st.integers(0, 2000))
def test_batches_hold_every_row_once_within_the_limit_and_sorted(lengths, max_elements):
    batches = plan_batches(lengths, max_elements)
    order = [index for batch in batches for index in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[index] for index in order] == sorted(lengths)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= max_elements


@given(st.lists(st.integers(1, 600), min_size=1, max_size=50), st.integers(0, 2000))
def test_no_batch_could_have_taken_the_next_row(lengths, max_elements):
    batches = plan_batches(lengths, max_elements)
    for batch, following in itertools.pairwise(batches):
        assert (len(batch) + 1) * lengths[following[0]] > max_elements


def test_stack_of_equal_shapes_is_a_plain_stack():
    batch = stack([np.array([1, 2]), np.array([3, 4])], tensor("batch", "sequence"))
    assert batch.tolist() == [[1, 2], [3, 4]]


def test_stack_pads_at_the_end_with_the_tensors_own_value():
    batch = stack([np.array([1]), np.array([2, 3, 4]), np.array([], np.int64)], tensor("batch", "sequence", pad=7))
    assert batch.tolist() == [[1, 7, 7], [2, 3, 4], [7, 7, 7]]
    assert batch.dtype == np.int64


def test_stack_pads_every_axis():
    batch = stack([np.ones((1, 2)), np.ones((2, 1))], tensor("batch", "height", "width"))
    assert batch.tolist() == [[[1, 1], [0, 0]], [[1, 0], [1, 0]]]


def test_stack_pads_scalars_to_nothing():
    assert stack([np.float32(1), np.float32(2)], tensor("batch")).tolist() == [1, 2]


@given(st.lists(st.lists(st.integers(-9, 9), max_size=6), min_size=1, max_size=6))
def test_stack_cut_back_is_what_went_in(rows):
    batch = stack([np.array(row, np.int64) for row in rows], tensor("batch", "sequence", pad=99))
    assert [padded[: len(row)].tolist() for padded, row in zip(batch, rows, strict=True)] == rows
    assert all((padded[len(row) :] == 99).all() for padded, row in zip(batch, rows, strict=True))


@pytest.fixture
def doubling(write_model, node, port):
    """x (B, T) and y (B, 2) int64 -> doubled (B, T), y itself, and the batch's largest x or the row's y[0] (B,)."""
    nodes = [
        node("Add", ("x", "x"), "doubled"),
        node("Identity", ("y",), "copy"),
        node("ReduceMax", ("x",), "largest", {"keepdims": 0}),
        node("Gather", ("y", "zero"), "column", {"axis": 1}),
        node("Max", ("column", "largest"), "tops"),
    ]
    inputs = [port("x", "int64", ("batch", "sequence")), port("y", "int64", ("batch", 2))]
    outputs = [
        port("doubled", "int64", ("batch", "sequence")),
        port("copy", "int64", ("batch", 2)),
        port("tops", "int64", ("batch",)),
    ]
    graph = Graph(
        inputs=tuple(Tensor(name=item.name, dtype=item.dtype, shape=item.shape) for item in inputs),
        outputs=tuple(Tensor(name=item.name, dtype=item.dtype, shape=item.shape) for item in outputs),
    )
    return Session(write_model(nodes, inputs, outputs, zero=np.array(0)), threads=1), graph


ROWS = [{"x": np.arange(length), "y": np.array([0, length])} for length in (3, 1, 2)]


def test_rows_come_back_in_their_order_without_padding(doubling):
    results = run_rows(*doubling, ROWS, together=True)
    assert [result["doubled"].tolist() for result in results] == [[0, 2, 4], [0], [0, 2]]
    assert [result["copy"].tolist() for result in results] == [[0, 3], [0, 1], [0, 2]]


def test_rows_that_must_not_meet_run_alone(doubling):
    # the largest x of a run: 2 for all three together, each row's own when alone
    assert [int(result["tops"]) for result in run_rows(*doubling, ROWS, together=True)] == [2, 2, 2]
    assert [int(result["tops"]) for result in run_rows(*doubling, ROWS, together=False)] == [2, 0, 1]


def test_no_rows_give_no_results(doubling):
    assert run_rows(*doubling, [], together=True) == []


def test_one_batch_keeps_the_order_of_its_rows(doubling):
    results = run_batch(*doubling, ROWS)
    assert [result["doubled"].tolist() for result in results] == [[0, 2, 4], [0], [0, 2]]
    assert [int(result["tops"]) for result in results] == [2, 2, 2]


def test_outputs_come_batch_by_batch_with_the_index_of_their_row(doubling, monkeypatch):
    monkeypatch.setattr(batching, "MAX_BATCH_ELEMENTS", 4)
    outputs = list(iterate_rows(*doubling, ROWS, together=True))
    assert [(index, output["doubled"].tolist()) for index, output in outputs] == [(1, [0]), (2, [0, 2]), (0, [0, 2, 4])]
    assert [int(output["tops"]) for _, output in outputs] == [1, 1, 2]


def test_a_wide_output_makes_batches_small(doubling, monkeypatch):
    monkeypatch.setattr(batching, "MAX_BATCH_OUTPUTS", 8)  # the widest output has 2 numbers for each element
    assert [int(output["tops"]) for _, output in iterate_rows(*doubling, ROWS, together=True)] == [1, 1, 2]
    monkeypatch.setattr(batching, "MAX_BATCH_OUTPUTS", 1)
    assert [int(output["tops"]) for _, output in iterate_rows(*doubling, ROWS, together=True)] == [0, 1, 2]


@pytest.fixture
def pictures(monkeypatch):
    """A graph whose input cannot be padded, and an engine that answers with the number of rows it was given."""
    grid = Tensor(name="x", dtype="float32", shape=("batch", "height", "width"), pad=None)
    count = Tensor(name="count", dtype="float32", shape=("batch",))

    class Engine:
        device, threads = "cpu", 1

        def run(self, feeds):
            return {"count": np.full(len(feeds["x"]), len(feeds["x"]), np.float32)}

    monkeypatch.setattr(batching, "MAX_BATCH_NUMBERS", 12)
    return Engine(), Graph(inputs=(grid,), outputs=(count,))


def test_rows_that_cannot_be_padded_share_runs_with_their_like(pictures):
    shapes = [(2, 2), (2, 3), (2, 2), (3, 2), (2, 2), (2, 2)]
    rows = [{"x": np.zeros(shape, np.float32)} for shape in shapes]
    # three of four numbers each are as many as a run may have
    counts = [int(output["count"]) for output in run_rows(*pictures, rows, together=True)]
    assert counts == [3, 1, 3, 1, 3, 1]


def test_arrays_of_different_shapes_are_not_stacked_without_padding():
    with pytest.raises(ValueError, match="rows of different shapes for x, which cannot be padded"):
        stack([np.zeros(2), np.zeros(3)], tensor("batch", "n", pad=None))


def test_an_axis_that_convolutions_make_is_cut_back_to_what_they_make_of_each_row():
    class Frames:
        device, threads = "cpu", 1

        def run(self, feeds):
            (samples,) = feeds.values()
            return {"logits": samples[:, 7::4, None]}

    _, graph = speller(1)
    rows = [{"input_values": np.arange(count, dtype=np.float32)} for count in (8, 11, 12, 100)]
    outputs = run_rows(Frames(), graph, rows, together=True)
    assert [len(output["logits"]) for output in outputs] == [1, 1, 2, 24]


def test_a_convolved_axis_follows_an_axis_of_an_input():
    _, graph = speller(1)
    with pytest.raises(InvalidInput, match=r"`convolved.frames.of`: expected an axis of an input, given 'pixels'"):
        dataclasses.replace(graph, convolved={"frames": Convolved(of="pixels", kernels=(1,), strides=(1,))})
    with pytest.raises(InvalidInput, match="`strides`: expected 2 as of kernels, given 1"):
        Convolved(of="samples", kernels=(1, 2), strides=(1,))
