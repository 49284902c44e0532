import subprocess
import sys

import pytest

from onnxpipe.errors import InvalidInput
from onnxpipe_server import app as application
from onnxpipe_server.app import create_app
from onnxpipe_server.models import Models
from onnxpipe_server.settings import Settings
from onnxpipe_server.traces import Traces

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def traced(served, make_client, monkeypatch):
    """A client of a server whose spans `collect` gives, by name."""
    exporters = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    exporter = exporters.InMemorySpanExporter()
    traces = Traces(exporter)
    monkeypatch.setattr(application, "Traces", lambda: traces)
    client = make_client(served("acme/labels", "labels"))
    client.app = create_app(Models([served("acme/labels", "labels")]), Settings(traces=True))

    def collect():
        traces._provider.force_flush()
        return {span.name: span for span in exporter.get_finished_spans()}

    yield client, collect
    traces.close()


def test_a_request_is_a_span_of_the_callers_trace_with_one_for_each_stage(traced):
    client, collect = traced
    client.post("/", json={"inputs": "so it is"}, headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})

    spans = collect()
    assert set(spans) == {"POST text-classification", "queue", "preprocess", "inference", "postprocess"}
    request = spans.pop("POST text-classification")
    assert f"{request.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == SPAN
    assert request.kind.name == "SERVER"
    assert request.resource.attributes["service.name"] == "onnxpipe"
    facts = request.attributes
    assert facts["http.response.status_code"] == 200
    assert (facts["onnxpipe.model"], facts["onnxpipe.task"]) == ("acme/labels", "text-classification")
    assert "so it is" not in str(dict(facts))
    assert all(span.parent.span_id == request.context.span_id for span in spans.values())
    begins = [spans[name].start_time for name in ("queue", "preprocess", "inference", "postprocess")]
    assert begins == sorted(begins)
    assert request.start_time == begins[0]
    assert request.end_time >= spans["postprocess"].end_time


def test_without_a_caller_a_request_begins_a_trace(traced):
    client, collect = traced
    client.post("/", json={"inputs": "so"}, headers={"traceparent": "nonsense"})

    assert collect()["POST text-classification"].parent is None


def test_a_caller_that_samples_nothing_is_obeyed(traced):
    client, collect = traced
    client.post("/", json={"inputs": "so"}, headers={"traceparent": f"00-{TRACE}-{SPAN}-00"})

    assert not collect()


@pytest.mark.parametrize(
    ("inputs", "status", "kind", "failed"),
    [("invalid", 400, "validation", "UNSET"), ("crash", 500, "internal", "ERROR")],
)
def test_an_error_is_told_by_its_kind(traced, inputs, status, kind, failed):
    client, collect = traced
    client.post("/", json={"inputs": inputs})

    span = collect()["POST text-classification"]
    assert (span.attributes["http.response.status_code"], span.attributes["error.type"]) == (status, kind)
    assert span.status.status_code.name == failed


def test_probes_are_no_spans(traced):
    client, collect = traced
    client.get("/health/ready")
    client.get("/metrics")

    assert not collect()


def test_the_environment_names_the_service(monkeypatch):
    pytest.importorskip("opentelemetry.sdk.trace")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop-search")
    traces = Traces(pytest.importorskip("opentelemetry.sdk.trace.export").ConsoleSpanExporter())

    assert traces._provider.resource.attributes["service.name"] == "shop-search"
    traces.close()


def test_a_server_without_traces_does_not_look_for_them():
    code = (
        "import sys\n"
        "from onnxpipe_server.app import create_app\n"
        "from onnxpipe_server.models import Models\n"
        "from onnxpipe_server.settings import Settings\n"
        "create_app(Models([]), Settings())\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_traces_without_their_packages_keep_the_server_from_starting(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)

    with pytest.raises(InvalidInput, match=r"--traces needs opentelemetry: pip install 'onnxpipe\[otel\]'"):
        create_app(Models([]), Settings(traces=True))
