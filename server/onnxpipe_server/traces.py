"""Requests as traces of OpenTelemetry: a span for each, with one for each of its stages, below the caller's own.

Off unless `--traces` says so; where spans go is for OpenTelemetry's own environment variables to say, such as
OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_SERVICE_NAME. Nothing is imported before, and nothing of the inputs is told.
"""

import time
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Scope

from onnxpipe.errors import InvalidInput
from onnxpipe.version import __version__
from onnxpipe_server.explain import Account

_SERVER_ERRORS = 500
_FACTS = ("model", "task", "precision", "device", "cache", "batch_rows", "tokens", "new_tokens")


class Traces:
    """Makes spans of requests that are over. `exporter` takes them; that of OTLP over HTTP when None.

    Raises InvalidInput when OpenTelemetry is not installed.
    """

    def __init__(self, exporter: Any = None) -> None:  # a SpanExporter: its package is an extra
        try:
            from opentelemetry import trace
            from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

            if exporter is None:
                from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

                exporter = OTLPSpanExporter()
        except ModuleNotFoundError as error:
            raise InvalidInput(f"--traces needs {error.name}: pip install 'onnxpipe[otel]'") from None
        named = Resource.create({SERVICE_NAME: "onnxpipe"}).merge(OTELResourceDetector().detect())
        self._api = trace
        self._propagator = TraceContextTextMapPropagator()
        self._provider = TracerProvider(resource=named, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("onnxpipe_server", __version__)

    def note(self, account: Account, scope: Scope, status: int) -> None:
        """Take note of a request that is over; `traceparent` says whose part it was.

        Its stages lie one behind the other from the beginning: how long each was is measured, not when it began.
        """
        end = time.time_ns()
        begin = end - int(account.total_ms * 1e6)
        parent = self._propagator.extract(Headers(scope=scope))
        span = self._tracer.start_span(
            f"{scope['method']} {account.task}".strip(),
            context=parent,
            kind=self._api.SpanKind.SERVER,
            attributes={
                "http.request.method": scope["method"],
                "http.response.status_code": status,
                "url.path": scope["path"],
                "onnxpipe.request_id": account.request_id,
                **{f"onnxpipe.{name}": value for name in _FACTS if (value := getattr(account, name))},
                **({"error.type": account.error_type} if account.error_type else {}),
            },
            start_time=begin,
        )
        if status >= _SERVER_ERRORS:
            span.set_status(self._api.StatusCode.ERROR)
        inside = self._api.set_span_in_context(span)
        for name, milliseconds in account.stages.items():
            stage_end = begin + int(milliseconds * 1e6)
            self._tracer.start_span(name, context=inside, start_time=begin).end(stage_end)
            begin = stage_end
        span.end(end)

    def close(self) -> None:
        """Send what there still is."""
        self._provider.shutdown()
