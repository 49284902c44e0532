"""Text generation inference's own routes: /generate and /generate_stream, for one model."""

import contextlib
import dataclasses
import functools
import time

import orjson
from fastapi import APIRouter, Depends, Request, Response

from onnxpipe.records import Record, parameter, plain
from onnxpipe.tasks.text_generation import Generated, Parameters
from onnxpipe_server import contract, tgi
from onnxpipe_server.body import read_body
from onnxpipe_server.models import Models
from onnxpipe_server.openapi import Operation
from onnxpipe_server.settings import Settings
from onnxpipe_server.sse import Opening, Parts, Reply
from onnxpipe_server.status import TGI, speak
from onnxpipe_server.workers import Workers
from onnxpipe_server.writing import interleave


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerateRequest(Record):
    """A text to go on from, or to write about."""

    inputs: str = parameter(description="The text.")
    parameters: Parameters = dataclasses.field(default_factory=Parameters)
    model: str | None = parameter(None, description="Which model, where several of this server write texts.")


OPERATIONS = (
    Operation("/generate", "Continue a text", GenerateRequest, Generated),
    Operation("/generate_stream", "Continue a text, an event for each token", GenerateRequest, None),
)


def make_router(models: Models, settings: Settings, writers: Workers) -> APIRouter:
    """The routes. `writers` are for requests that write text."""
    router = APIRouter(include_in_schema=False, dependencies=[Depends(speak(TGI))])

    async def respond(request: Request, *, stream: bool) -> Response:
        body = await read_body(request, settings.max_body_bytes)
        received = time.perf_counter()
        return Reply(writers, functools.partial(generate, models, settings, body, request, received, stream=stream))

    @router.post("/generate")
    async def run(request: Request) -> Response:
        return await respond(request, stream=False)

    @router.post("/generate_stream")
    async def run_stream(request: Request) -> Response:
        return await respond(request, stream=True)

    return router


def generate(
    models: Models, settings: Settings, body: bytes, request: Request, received: float, *, stream: bool
) -> Parts:
    """The whole way from body bytes to an answer or its events, step by step."""
    begun = time.perf_counter()
    envelope = contract.parse(body, request.headers.get("content-type", ""))
    served = models.choose_writer(envelope.parameters.get("model"))
    pipeline = served.generator
    inputs = tgi.text_of(envelope.inputs)
    # it has no word for several texts of one input
    given = {name: value for name, value in envelope.parameters.items() if name not in ("n", "num_return_sequences")}
    parameters = tgi.read_parameters(given, settings, stream=stream)
    # the log probabilities are part of every event
    told = dataclasses.replace(parameters, details=True) if stream else parameters
    started = tgi.start(pipeline, tgi.encode(pipeline, inputs), told, settings)
    headers = tgi.headers(served, started, inputs) | {
        "x-validation-time": _ms(time.perf_counter() - begun),
        "x-queue-time": _ms(begun - received),
    }
    prefix = inputs if parameters.return_full_text and not pipeline.has_encoder else ""
    if stream:
        yield Opening(headers)
        yield from tgi.events(pipeline, started, details=parameters.details, prefix=prefix)
        return
    writing = time.perf_counter()
    with contextlib.closing(interleave([started.composition])) as steps:
        for _ in steps:
            yield None
    (result, *_) = pipeline.results(inputs, parameters, started.composition)
    done = time.perf_counter()
    headers |= {
        "x-compute-time": f"{done - begun:.3f}",
        "x-total-time": _ms(done - received),
        "x-inference-time": _ms(done - writing),
        "x-time-per-token": _ms((done - writing) / max(started.new_tokens, 1)),
        "x-generated-tokens": str(started.new_tokens),
    }
    yield Response(orjson.dumps(plain(result)), headers=headers, media_type="application/json")


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.0f}"
