import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from onnxpipe.errors import BundleError, InvalidInput, ProviderUnavailable
from onnxpipe.machine import inspect_machine
from onnxpipe.session import (
    Session,
    _check_placement,
    _device,
    _open,
    _operators,
    _read_providers,
    available_providers,
    check_providers,
    onnxruntime_version,
    resolve_providers,
)

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


# onnxruntime's own CPU wheel has it, and it takes none of the usual operators
IDLE = "azure"
needs_idle = pytest.mark.skipif(
    "AzureExecutionProvider" not in ort.get_available_providers(), reason="this onnxruntime has no idle provider"
)


@needs_idle
@pytest.mark.parametrize("beside", [[], ["cpu"]])
def test_a_provider_that_takes_nothing_of_the_graph_is_an_error(graph, beside):
    with pytest.raises(ProviderUnavailable, match=r"model\.onnx: azure was requested but takes none .*would be cpu"):
        Session(graph, [IDLE, *beside], threads=1)


def test_heavy_operators_left_to_the_cpu_are_an_error_unless_it_was_asked_for():
    device, file = "CUDAExecutionProvider", Path("model.onnx")
    placed = {device: Counter({"MatMul": 12}), CPU: Counter({"Shape": 3, "DynamicQuantizeMatMul": 2})}

    with pytest.raises(ProviderUnavailable, match="cuda was requested but leaves 2 DynamicQuantizeMatMul to the CPU"):
        _check_placement(file, [device], placed)
    _check_placement(file, [device, CPU], placed)
    del placed[CPU]["DynamicQuantizeMatMul"]
    _check_placement(file, [device], placed)


@needs_idle
def test_onnxruntime_does_not_go_on_with_the_cpu_when_a_provider_fails(graph, monkeypatch):
    def fail(session, providers, *_):
        tried.append(providers)
        raise RuntimeError("no driver")

    tried = []
    monkeypatch.setattr(ort.InferenceSession, "_create_inference_session", fail)
    with pytest.raises(ProviderUnavailable, match=r"cannot run on azure here \(no driver\)"):
        check_providers([IDLE])
    with pytest.raises(ProviderUnavailable, match=r"cannot run on azure here \(no driver\)"):
        Session(graph, [IDLE], threads=1)
    assert all(names == ["AzureExecutionProvider"] for names in tried)


def test_a_run_that_fails_is_not_tried_again_on_the_cpu(graph):
    assert not Session(graph, threads=1)._session._enable_fallback


@needs_idle
def test_a_provider_that_did_not_load_is_an_error_that_names_those_that_did(graph, monkeypatch):
    monkeypatch.setattr(ort.InferenceSession, "get_providers", lambda session: [CPU])
    with pytest.raises(ProviderUnavailable, match="AzureExecutionProvider was requested but did not load; running are"):
        check_providers([IDLE])


def test_onnxruntime_does_not_report_to_its_maker(graph, tmp_path):
    """Release 1.31.1 would leave an identifier of this machine in the user's cache, and send it."""
    code = "import sys, pathlib; from onnxpipe.session import Session; Session(pathlib.Path(sys.argv[1]))"
    home = tmp_path / "home"
    home.mkdir()
    hidden = ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "PYTEST_CURRENT_TEST")
    environment = {name: value for name, value in os.environ.items() if name not in hidden} | {"HOME": str(home)}
    subprocess.run([sys.executable, "-c", code, str(graph)], env=environment, check=True)
    assert not list(home.iterdir())


def test_the_cpu_is_always_fit_to_run():
    check_providers(None)
    check_providers(["cpu"])


@needs_idle
@pytest.mark.parametrize(
    ("given", "options"),
    [
        ("azure:1", {"device_id": "1"}),
        ("Azure:a=1,b=two=2", {"a": "1", "b": "two=2"}),
        ("azure:", {}),
    ],
)
def test_options_of_a_provider_follow_its_name(given, options):
    assert _read_providers([given]) == {"AzureExecutionProvider": options}


@needs_idle
@pytest.mark.parametrize("given", ["azure:x", "azure:=1", "azure:x=", "azure:-1"])
def test_what_is_no_option_is_refused(given):
    with pytest.raises(InvalidInput, match="expected a provider such as cuda, cuda:1 or cuda:NAME=VALUE"):
        resolve_providers([given])


@needs_idle
def test_two_sets_of_options_for_one_provider_are_refused():
    with pytest.raises(InvalidInput, match="given twice with different options"):
        resolve_providers(["azure:0", "azure:1"])


@needs_idle
def test_options_reach_onnxruntime(monkeypatch):
    given = []

    def keep(session, providers, options, *_):
        given.append((providers, options))
        raise RuntimeError("enough")

    monkeypatch.setattr(ort.InferenceSession, "_create_inference_session", keep)
    with pytest.raises(ProviderUnavailable):
        check_providers(["azure:1", "cpu"])
    assert given == [(["AzureExecutionProvider", CPU], [{"device_id": "1"}, {}])]


@pytest.mark.parametrize(
    ("providers", "device"),
    [
        ({"CPU": {}}, "cpu"),
        ({"Xnnpack": {}, "CPU": {}}, "cpu"),
        ({"OpenVINO": {}}, "cpu"),
        ({"OpenVINO": {"device_type": "CPU_FP32"}}, "cpu"),
        ({"OpenVINO": {"device_type": "GPU.1"}}, "gpu"),
        ({"CUDA": {}}, "gpu"),
        ({"CUDA": {}, "CPU": {}}, "gpu"),
    ],
)
def test_kernels_for_the_cpu_are_no_other_device(providers, device):
    assert _device({f"{name}ExecutionProvider": options for name, options in providers.items()}) == device


def test_operators_are_counted_by_the_provider_that_runs_them(graph):
    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")

    operators = _operators(_open(str(graph), options, {CPU: {}}))
    assert list(operators) == [CPU]
    assert operators[CPU]["Add"] == 1


def test_for_the_cpu_alone_nothing_is_counted(graph):
    assert Session(graph, threads=1).placement == {}
