"""The classic Inference API: POST inputs to a model, or to one of its tasks."""

import dataclasses
import functools
import gzip
import time
from typing import Any

from fastapi import APIRouter, Request, Response

from onnxpipe.generation.pipeline import WritingPipeline
from onnxpipe.generation.rewriting import RewritingParameters, merged
from onnxpipe.pipeline import Answer, WireForm
from onnxpipe.records import FieldError, Record, show
from onnxpipe.tasks.text_generation import Parameters, TextGeneration
from onnxpipe_server import contract, tgi
from onnxpipe_server.body import read_body
from onnxpipe_server.models import Models, Served
from onnxpipe_server.settings import Settings
from onnxpipe_server.sse import Opening, Parts, Reply
from onnxpipe_server.status import TGI
from onnxpipe_server.workers import Workers
from onnxpipe_server.writing import write

_GZIP_FROM_BYTES = 1000


def make_router(models: Models, settings: Settings, workers: Workers, writers: Workers) -> APIRouter:
    """The inference routes. `openapi` documents them, from the types of the tasks that are served.

    `writers` are for models that write text.
    """
    router = APIRouter(include_in_schema=False)

    async def respond(request: Request, served: Served, task: str | None = None) -> Response:
        limit = settings.max_media_bytes if served.media_kind else settings.max_body_bytes
        body = await read_body(request, limit)
        received = time.perf_counter()
        if served.writes:
            return Reply(writers, functools.partial(write_answer, served, task, body, request, received, settings))
        return await workers.run(functools.partial(answer, served, task, body, request, received))

    # the longer path first: an id may hold slashes
    @router.post("/models/{model_id:path}/pipeline/{task}")
    @router.post("/pipeline/{task}/{model_id:path}")
    async def run_task(request: Request, model_id: str, task: str) -> Response:
        return await respond(request, models.find(model_id), task)

    @router.post("/models/{model_id:path}")
    async def run_model(request: Request, model_id: str) -> Response:
        return await respond(request, models.find(model_id))

    @router.post("/")
    @router.post("/predict")
    @router.post("/invocations")
    async def run_only_model(request: Request) -> Response:
        return await respond(request, models.only())

    return router


@dataclasses.dataclass(frozen=True)
class Exchange:
    """A request that has been read; `received` is when its wait began, `begun` when the work on it did."""

    served: Served
    request: Request
    envelope: contract.Envelope
    received: float
    begun: float


def answer(served: Served, task: str | None, body: bytes, request: Request, received: float) -> Response:
    """The whole way from body bytes to response, in the thread this is called in.

    Without a task the model's own answers, or another it serves when only that one fits the inputs.
    """
    exchange = _read(served, body, request, received)
    call = contract.bind(exchange.envelope, served.candidates(task))
    form = contract.choose_form(call.pipeline, request.headers)
    return _respond(exchange, call, call.pipeline.run(call.inputs, call.parameters), form)


def write_answer(
    served: Served, task: str | None, body: bytes, request: Request, received: float, settings: Settings
) -> Parts:
    """The same step by step, for models that write text; as events where the request wants a stream."""
    exchange = _read(served, body, request, received)
    envelope = exchange.envelope
    pipeline, inputs = contract.match(envelope, served.candidates(task))
    if not isinstance(pipeline, WritingPipeline):
        yield answer(served, task, body, request, received)
        return
    stream = envelope.parameters.get("stream", False)
    if isinstance(pipeline, TextGeneration):
        # from here on the words and statuses that clients know of this task
        request.state.dialect = TGI
        parameters = tgi.read_parameters(envelope.parameters, settings, stream=stream is True)
        contract.check_classic_ranges(parameters)
        if parameters.return_full_text is None:
            parameters = dataclasses.replace(parameters, return_full_text=True)
        call = contract.make_call(envelope, pipeline, inputs, parameters)
    else:
        read = contract.read_parameters(pipeline, envelope.parameters)
        call = contract.make_call(envelope, pipeline, inputs, _within_limits(read, settings))
    if not isinstance(stream, bool):
        raise FieldError("stream", f"expected true or false, given {show(stream)}")
    if not stream:
        answered = yield from write(pipeline, call.inputs, call.parameters)
        yield _respond(exchange, call, answered)
    elif isinstance(pipeline, TextGeneration):
        yield from _stream(served, pipeline, tgi.text_of(envelope.inputs), parameters)
    else:
        raise FieldError("stream", "only text-generation answers in events; leave it out")


def _within_limits(parameters: Record, settings: Settings) -> Record:
    """The parameters, those in an object of their own put into their places. Raises FieldError."""
    if isinstance(parameters, RewritingParameters):
        parameters = merged(parameters)
        if (parameters.num_beams or 1) > settings.max_beams:
            problem = f"expected an integer from 1 to {settings.max_beams}, given {parameters.num_beams}"
            raise FieldError("parameters.num_beams", problem)
    contract.check_classic_ranges(parameters)
    return parameters


def _stream(served: Served, pipeline: TextGeneration, inputs: str, parameters: Parameters) -> Parts:
    # the log probabilities are part of every event
    work = pipeline.writing(inputs, dataclasses.replace(parameters, details=True))
    started = tgi.Started(work.composition, work.truncated_tokens)
    yield Opening(tgi.headers(served, started, inputs))
    prefix = inputs if parameters.return_full_text else ""
    yield from tgi.events(pipeline, started, details=parameters.details, prefix=prefix)


def _read(served: Served, body: bytes, request: Request, received: float) -> Exchange:
    begun = time.perf_counter()
    parse = contract.parse_media if served.media_kind else contract.parse
    return Exchange(served, request, parse(body, request.headers.get("content-type", "")), received, begun)


def _respond(exchange: Exchange, call: contract.Call, answered: Answer[Any], form: WireForm | None = None) -> Response:
    served, request = exchange.served, exchange.request
    content = contract.render(call, answered, form)
    headers = contract.answer_headers(answered) | {
        "x-compute-type": served.device,
        **contract.input_headers(exchange.envelope, answered, served.media_kind),
        "x-sha": served.sha,
        "x-queue-time": f"{1e3 * (exchange.begun - exchange.received):.0f}",
    }
    vary = ["user-agent", "x-output-format"] if call.pipeline.tasks_form else []
    # here, not in a middleware, which would compress on the event loop
    if len(content) > _GZIP_FROM_BYTES:
        vary.append("accept-encoding")
        if "gzip" in request.headers.get("accept-encoding", ""):
            content = gzip.compress(content, compresslevel=1)
            headers["content-encoding"] = "gzip"
    if vary:
        headers["vary"] = ", ".join(vary)
    headers["x-total-time"] = f"{1e3 * (time.perf_counter() - exchange.received):.0f}"
    return Response(content, headers=headers, media_type="application/json")
