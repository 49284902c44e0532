"""Text generation inference's own routes: /generate, /generate_stream and /tokenize, for one model."""

import contextlib
import dataclasses
import functools
import time

import orjson
from fastapi import APIRouter, Depends, Request, Response

from onnxpipe.errors import UnprocessableInput
from onnxpipe.records import FieldError, Record, parameter, plain, read, show
from onnxpipe.tasks.text_generation import Generated, Parameters
from onnxpipe_server import contract, tgi
from onnxpipe_server.body import read_body
from onnxpipe_server.models import Models, Served
from onnxpipe_server.openapi import Operation
from onnxpipe_server.settings import Settings
from onnxpipe_server.sse import Opening, Parts, Reply
from onnxpipe_server.status import TGI, speak
from onnxpipe_server.workers import Workers
from onnxpipe_server.writing import interleave

_CONTINUES = "continues texts"


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerateRequest(Record):
    """A text to go on from."""

    inputs: str = parameter(description="The text.")
    parameters: Parameters = dataclasses.field(default_factory=Parameters)
    model: str | None = parameter(None, description="Which model, where several of this server continue texts.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenizeRequest(Record):
    """Texts to see as tokens."""

    inputs: str | tuple[str, ...] = parameter(description="One text or several.")
    add_special_tokens: bool = parameter(True, description="With the special tokens that the model wants.")
    model: str | None = parameter(None, description="Which model, where this server has several.")


@dataclasses.dataclass(frozen=True)
class SimpleToken:
    """A token and where in the text it stands, in characters; one that was added stands nowhere."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


OPERATIONS = (
    Operation("/generate", "Continue a text", GenerateRequest, Generated),
    Operation("/generate_stream", "Continue a text, an event for each token", GenerateRequest, None),
)
TOKENIZE = Operation("/tokenize", "The tokens of texts", TokenizeRequest, list[list[SimpleToken]])


def make_router(models: Models, settings: Settings, workers: Workers, writers: Workers) -> APIRouter:
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

    @router.post("/tokenize")
    async def run_tokenize(request: Request) -> Response:
        body = await read_body(request, settings.max_body_bytes)
        return await workers.run(functools.partial(tokenize, models, body, request))

    return router


def generate(
    models: Models, settings: Settings, body: bytes, request: Request, received: float, *, stream: bool
) -> Parts:
    """The whole way from body bytes to an answer or its events, step by step."""
    begun = time.perf_counter()
    envelope = contract.parse(body, request.headers.get("content-type", ""))
    served = models.choose(envelope.parameters.get("model"), lambda one: one.continues, _CONTINUES)
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
    prefix = inputs if parameters.return_full_text else ""
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


def tokenize(models: Models, body: bytes, request: Request) -> Response:
    """The tokens of each text."""
    envelope = contract.parse(body, request.headers.get("content-type", ""))
    given = {**envelope.parameters, "inputs": envelope.inputs}
    asked = read(TokenizeRequest, given, ignore_unknown=True)
    served = models.choose(asked.model, lambda one: one.reads_text, "reads text")
    if not served.reads_text:
        raise UnprocessableInput(f"{served.id} has no tokenizer, for it does not read text")
    texts = [asked.inputs] if isinstance(asked.inputs, str) else asked.inputs
    if not texts:
        raise FieldError("inputs", f"expected at least one text, given {show(envelope.inputs)}")
    tokens = [_tokens(served, text, special=asked.add_special_tokens) for text in texts]
    return Response(orjson.dumps(plain(tokens)), media_type="application/json")


def _tokens(served: Served, text: str, *, special: bool) -> list[SimpleToken]:
    tokenizer = served.model.tokenizer
    (whole,) = tokenizer.windows(text, stride=0, max_tokens=2**62)
    rows = zip(whole.ids.tolist(), whole.tokens, whole.sequences.tolist(), whole.offsets.tolist(), strict=True)
    return [
        SimpleToken(number, token, special=True, start=None, stop=None)
        if sequence < 0
        else SimpleToken(number, text[start:stop], tokenizer.is_special(number), start, stop)
        for number, token, sequence, (start, stop) in rows
        if special or sequence >= 0
    ]


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.0f}"
