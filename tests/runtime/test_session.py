import numpy as np
import onnxruntime as ort
import pytest

from onnxpipe.errors import BundleError, ProviderUnavailable
from onnxpipe.machine import inspect_machine
from onnxpipe.session import Session, available_providers, onnxruntime_version, resolve_providers

CPU = "CPUExecutionProvider"


@pytest.fixture
def graph(write_model, node, port):
    """x (B, 2) float -> first: x, second: x + x, in that order."""
    nodes = [node("Identity", ("x",), "first"), node("Add", ("x", "x"), "second")]
    ports = [port(name, "float32", ("batch", 2)) for name in ("x", "first", "second")]
    return write_model(nodes, ports[:1], ports[1:])


@pytest.mark.parametrize("name", ["cpu", "CPU", "Cpu", CPU, CPU.lower(), CPU.upper()])
def test_a_provider_is_understood_short_or_long_in_any_case(name):
    assert resolve_providers([name]) == [CPU]


@pytest.mark.parametrize("requested", [None, [], ["cpu", "CPU"]])
def test_the_cpu_is_what_runs_when_nothing_else_is_asked_for(requested):
    assert resolve_providers(requested) == [CPU]


def test_a_provider_that_is_not_there_is_an_error_that_names_those_that_are():
    with pytest.raises(ProviderUnavailable, match=r"provider 'warp' is not available here; available: .*cpu"):
        resolve_providers(["cpu", "warp"])


def test_what_is_available_and_the_version_are_onnxruntimes_own():
    assert available_providers() == ort.get_available_providers()
    assert onnxruntime_version() == ort.__version__


def test_outputs_come_by_name(graph):
    x = np.array([[1, 2], [3, 4]], np.float32)
    outputs = Session(graph, threads=1).run({"x": x})
    assert list(outputs) == ["first", "second"]
    assert outputs["first"].tolist() == [[1, 2], [3, 4]]
    assert outputs["second"].tolist() == [[2, 4], [6, 8]]


def test_ports_are_as_the_file_declares_them_with_numpys_dtypes(graph):
    session = Session(graph, threads=1)
    assert [(port.name, port.dtype, port.shape) for port in session.inputs] == [("x", "float32", ("batch", 2))]
    assert [port.name for port in session.outputs] == ["first", "second"]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64"])
def test_each_dtype_has_numpys_name(write_model, node, port, dtype):
    ports = [port(name, dtype, ("batch",)) for name in ("x", "y")]
    session = Session(write_model([node("Identity", ("x",), "y")], ports[:1], ports[1:]), threads=1)
    assert (session.inputs[0].dtype, session.outputs[0].dtype) == (dtype, dtype)


def test_the_device_of_the_cpu_provider_is_the_cpu(graph):
    assert Session(graph, ["cpu", "CPU"], threads=1).device == "cpu"


def test_threads_are_planned_from_the_machine_unless_given(graph):
    assert Session(graph).threads == inspect_machine().threads
    assert Session(graph, threads=3).threads == 3


def test_each_session_keeps_its_own_options(graph):
    sessions = [Session(graph, threads=threads) for threads in (1, 2)]
    options = [session._session.get_session_options() for session in sessions]
    assert [option.intra_op_num_threads for option in options] == [1, 2]
    assert [option.inter_op_num_threads for option in options] == [1, 1]
    assert [option.enable_mem_pattern for option in options] == [False, False]
    assert [option.get_session_config_entry("session.intra_op.allow_spinning") for option in options] == ["0", "0"]
    assert ort.SessionOptions().intra_op_num_threads == 0


def test_threads_wait_awake_only_between_the_operators_of_a_step(graph):
    options = Session(graph, threads=2, steps=True)._session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.spin_duration_us") == "10"
    assert options.get_session_config_entry("session.inter_op.allow_spinning") == "0"


def test_a_run_leaves_the_callers_feeds_alone(graph):
    feeds = {"x": np.ones((1, 2), np.float32)}
    outputs = Session(graph, threads=1).run(feeds)
    outputs["first"][:] = 9
    assert list(feeds) == ["x"]
    assert feeds["x"].tolist() == [[1, 1]]


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x09"])
def test_a_file_that_is_no_graph_is_a_bundle_error_that_names_it(tmp_path, content):
    file = tmp_path / "broken.onnx"
    file.write_bytes(content)
    with pytest.raises(BundleError, match=r"broken\.onnx: onnxruntime .* cannot load it"):
        Session(file, threads=1)


def test_a_missing_file_is_a_bundle_error(tmp_path):
    with pytest.raises(BundleError, match="cannot load it"):
        Session(tmp_path / "absent.onnx", threads=1)
