"""The classic Inference API: POST inputs to a model, or to one of its tasks."""

import dataclasses
import functools
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from onnxpipe.audio.waveform import Audio, Limits
from onnxpipe.generation.options import SAMPLING, GenerationParameters
from onnxpipe.generation.pipeline import WritingPipeline
from onnxpipe.generation.rewriting import RewritingParameters, merged
from onnxpipe.generation.writer import writer_of
from onnxpipe.pipeline import Answer, AnyPipeline, WireForm
from onnxpipe.records import FieldError, Record, show
from onnxpipe.tasks.text_generation import Parameters, TextGeneration
from onnxpipe_server import contract, tgi
from onnxpipe_server.body import read_body
from onnxpipe_server.cache import Answers, Kept, make_key
from onnxpipe_server.calls import json_response
from onnxpipe_server.explain import current_account
from onnxpipe_server.models import Models, Served
from onnxpipe_server.settings import Settings
from onnxpipe_server.sse import Opening, Parts, Reply
from onnxpipe_server.status import TGI
from onnxpipe_server.tickets import current_ticket
from onnxpipe_server.urls import UrlReader, read_rules
from onnxpipe_server.workers import LARGE_BYTES, Workers
from onnxpipe_server.writing import write

# What is still true of an answer when it is given again.
_LASTING_HEADERS = ("x-compute-time", "x-truncated", "x-warnings")


def make_routes(
    models: Models, settings: Settings, workers: Workers, writers: Workers, answers: Answers
) -> tuple[list[BaseRoute], list[BaseRoute]]:
    """The inference routes: those to be tried before all others, which no path of others meets, and those to be tried
    behind them: /predict may be another dialect's, and a model's id may hold slashes. `openapi` documents them, from
    the types of the tasks that are served.

    They are Starlette's, not FastAPI's, whose dependencies, and looking through all routers before these, take a
    quarter of the CPU that HTTP does. `writers` are for models that write text.
    """

    async def respond(request: Request, served: Served, task: str | None = None) -> Response:
        limit = settings.max_media_bytes if served.media_kind else settings.max_body_bytes
        body = await read_body(request, limit)
        received = time.perf_counter()
        if served.writes:
            write = functools.partial(write_answer, served, task, body, request, received, settings, answers)
            return Reply(writers, write)
        work = functools.partial(answer, served, task, body, request, received, settings, answers)
        return await workers.answer(request, work, large=bool(served.media_kind) or len(body) > LARGE_BYTES)

    async def run_task(request: Request) -> Response:
        return await respond(request, models.find(request.path_params["model_id"]), request.path_params["task"])

    async def run_model(request: Request) -> Response:
        return await respond(request, models.find(request.path_params["model_id"]))

    async def run_only_model(request: Request) -> Response:
        return await respond(request, models.only())

    def route(path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> BaseRoute:
        return Route(path, endpoint, methods=["POST"], include_in_schema=False)

    first = [
        route("/models/{model_id:path}/pipeline/{task}", run_task),
        route("/pipeline/{task}/{model_id:path}", run_task),
        route("/", run_only_model),
        route("/invocations", run_only_model),
    ]
    return first, [route("/predict", run_only_model), route("/models/{model_id:path}", run_model)]


@dataclasses.dataclass(frozen=True)
class Exchange:
    """A request that has been read; `received` is when its wait began, `begun` when the work on it did."""

    served: Served
    request: Request
    envelope: contract.Envelope
    received: float
    begun: float
    files: object = None  # the inputs of models that take files, as they came

    def respond(self, kept: Kept, making: Mapping[str, str], vary: Sequence[str] = ()) -> Response:
        """The response with an answer; `making` are the headers of one that was made for this request."""
        return json_response(self.request, kept.content, {**kept.headers, **making}, self.received, vary)


class Errand:
    """A call on its way to an answer: kept under its key, or made."""

    def __init__(self, exchange: Exchange, call: contract.Call, form: WireForm | None = None) -> None:
        self._exchange = exchange
        self._call = call
        self._form = form
        self._making: Mapping[str, str] = {}
        served = exchange.served
        self._task = next((name for name, one in served.pipelines.items() if one is call.pipeline), "")
        self._account = current_account()
        self._account.note_model(served.model, self._task)

    def key(self) -> bytes | None:
        """What equal requests have in common; None when this one does without the cache."""
        exchange, call = self._exchange, self._call
        wanted = contract.read_switch(exchange.envelope, exchange.request.headers, "use_cache", default=True)
        if not wanted or not repeats(call.pipeline, call.parameters):
            return None
        model = exchange.served.model
        inputs = call.inputs if exchange.files is None else exchange.files
        # the digest and not the revision: a bundle may be replaced by another of the same revision
        of = model.bundle.digest, model.precision, exchange.served.device, self._task
        return make_key(*of, call.single, self._form is not None, inputs, call.parameters)

    def finish(self, answered: Answer[Any]) -> Kept:
        """What the answer says, to this request and to others like it."""
        exchange, ticket = self._exchange, current_ticket()
        content = contract.render(self._call, answered, self._form)
        told = contract.answer_headers(answered)
        waited_ms = 1e3 * (exchange.begun - exchange.received)
        self._account.note_answer(answered, ticket, media=exchange.served.media_kind is not None, waited_ms=waited_ms)
        self._making = {
            **told,
            "x-compute-type": exchange.served.device,
            **contract.input_headers(exchange.envelope, answered, exchange.served.media_kind),
            "x-queue-time": f"{waited_ms + ticket.queue_ms:.0f}",
            "x-inference-time": f"{max(answered.infer_ms - ticket.queue_ms, 0):.0f}",
        }
        lasting = {name: value for name, value in told.items() if name in _LASTING_HEADERS}
        return Kept(content, {**lasting, "x-sha": exchange.served.sha, "x-compute-type": "cache"})

    def respond(self, kept: Kept, *, cached: bool | None) -> Response:
        """The response; `cached` is None when the cache had no part in it."""
        self._account.cache = "off" if cached is None else "hit" if cached else "miss"
        vary = ("user-agent", "x-output-format") if self._call.pipeline.tasks_form else ()
        return self._exchange.respond(kept, {} if cached else self._making, vary)


def repeats(pipeline: AnyPipeline, parameters: Record) -> bool:
    """Whether the same call gives the same answer again: nothing of it is drawn without a seed, or ended by a clock."""
    if not isinstance(pipeline, WritingPipeline):
        return True
    if not isinstance(parameters, GenerationParameters) or parameters.max_time is not None:
        return False
    section = writer_of(pipeline.model).section
    defaults = (section.defaults, *section.task_defaults.values())
    if any("max_time" in one for one in defaults):
        return False
    if parameters.seed is not None or parameters.do_sample is False:
        return True
    drawn = parameters.do_sample or any(getattr(parameters, name) is not None for name in SAMPLING)
    return not (drawn or any(one.get("do_sample") for one in defaults))


def answer(
    served: Served,
    task: str | None,
    body: bytes,
    request: Request,
    received: float,
    settings: Settings,
    answers: Answers,
) -> Response:
    """The whole way from body bytes to response, in the thread this is called in.

    Without a task the model's own answers, or another it serves when only that one fits the inputs.
    """
    exchange = _read(served, body, request, received, settings)
    call = contract.bind(exchange.envelope, served.candidates(task))
    _check_labels(call.parameters, settings)
    form = contract.choose_form(call.pipeline, request.headers)
    errand = Errand(exchange, call, form)

    def make() -> Kept:
        return errand.finish(call.pipeline.run(call.inputs, call.parameters))

    key = errand.key()
    kept, cached = (make(), None) if key is None else answers.answer(key, make)
    return errand.respond(kept, cached=cached)


def write_answer(
    served: Served,
    task: str | None,
    body: bytes,
    request: Request,
    received: float,
    settings: Settings,
    answers: Answers,
) -> Parts:
    """The same step by step, for models that write text; as events where the request wants a stream."""
    exchange = _read(served, body, request, received, settings)
    envelope = exchange.envelope
    pipeline, inputs = contract.match(envelope, served.candidates(task))
    if not isinstance(pipeline, WritingPipeline):
        yield answer(served, task, body, request, received, settings, answers)
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
        yield from _write_whole(Errand(exchange, call), pipeline, call, answers)
    elif isinstance(pipeline, TextGeneration):
        yield from _stream(served, pipeline, tgi.text_of(envelope.inputs), parameters)
    else:
        raise FieldError("stream", "only text-generation answers in events; leave it out")


def _write_whole(
    errand: Errand, pipeline: WritingPipeline[Any, Any, Any], call: contract.Call, answers: Answers
) -> Parts:
    def make() -> Generator[None, None, Kept]:
        return errand.finish((yield from write(pipeline, call.inputs, call.parameters)))

    key = errand.key()
    if key is None:
        kept = yield from make()
        yield errand.respond(kept, cached=None)
    else:
        kept, cached = yield from answers.answer_in_steps(key, make)
        yield errand.respond(kept, cached=cached)


def _check_labels(parameters: Record, settings: Settings) -> None:
    """Raise FieldError for more labels than the server takes, where a task has such a parameter."""
    given = len(getattr(parameters, "labels", ()))
    if given > settings.max_labels:
        raise FieldError("parameters.candidate_labels", f"expected at most {settings.max_labels}, given {given}")


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
    started = tgi.Started(work.composition, len(work.composition.job.prompt), work.truncated_tokens)
    started.note(pipeline.model)
    yield Opening(tgi.headers(served, started, inputs))
    prefix = inputs if parameters.return_full_text else ""
    yield from tgi.events(pipeline, started, details=parameters.details, prefix=prefix)


def _read(served: Served, body: bytes, request: Request, received: float, settings: Settings) -> Exchange:
    begun = time.perf_counter()
    content_type = request.headers.get("content-type", "")
    if served.media_kind:
        envelope = contract.parse_media(body, content_type, _url_reader(settings))
    else:
        envelope = contract.parse(body, content_type)
    files = envelope.inputs if served.media_kind else None
    if served.media_kind == Audio.kind:
        limits = Limits(max_bytes=settings.max_media_bytes, max_seconds=settings.max_audio_seconds)
        envelope = contract.open_audio(envelope, limits)
    return Exchange(served, request, envelope, received, begun, files)


def _url_reader(settings: Settings) -> Callable[[str], bytes] | None:
    """What reads the addresses that one request names, None where that is off."""
    if not settings.allow_urls:
        return None
    rules = read_rules(settings.allow_urls)
    return UrlReader(rules, max_bytes=settings.max_media_bytes, max_seconds=settings.url_timeout).read
