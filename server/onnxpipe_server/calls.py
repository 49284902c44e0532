"""Routes that are one call of a model in a worker thread: the way there and back that several dialects share."""

import dataclasses
import functools
import gzip
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from onnxpipe.pipeline import Answer
from onnxpipe.records import Record, read
from onnxpipe_server import contract
from onnxpipe_server.body import read_body
from onnxpipe_server.explain import current_account
from onnxpipe_server.models import Models, Served
from onnxpipe_server.settings import Settings
from onnxpipe_server.status import AmbiguousModel, Dialect, WrongModel
from onnxpipe_server.tickets import current_ticket
from onnxpipe_server.workers import LARGE_BYTES, Workers

R = TypeVar("R", bound=Record)

_GZIP_FROM_BYTES = 1000


@dataclasses.dataclass(frozen=True)
class Kind:
    """Models that a route can use, and what they do, as it goes on behind "a model that"."""

    fits: Callable[[Served], bool]
    does: str


@dataclasses.dataclass(frozen=True)
class Visit:
    """A request that has been read; `received` is when its wait began, `begun` when the work on it did."""

    models: Models
    settings: Settings
    request: Request
    body: bytes
    received: float
    begun: float

    @property
    def most(self) -> int:
        """How many inputs it may have."""
        return self.settings.max_client_batch_size

    def read(self, cls: type[R]) -> R:
        """Its JSON as a record; null is absent, unknown names are ignored. Raises InvalidInput."""
        data = contract.parse_object(self.body)
        return read(cls, {name: value for name, value in data.items() if value is not None}, ignore_unknown=True)

    def choose(self, name: object, kind: Kind) -> Served:
        """The model that the path names, or else the body; where neither does the first of the default models that
        fits, or the only one.

        Raises UnknownModel, WrongModel, or AmbiguousModel naming the choices.
        """
        path_name = self.request.path_params.get("model_id")
        named = self.models.named(name) if path_name is None else self.models.find(path_name)
        if named is not None:
            return _fitting(named, kind)
        preferred = [self.models.find(one) for one in self.settings.default_models]
        fitting = [one for one in preferred if kind.fits(one)][:1] or [
            one for one in self.models.all() if kind.fits(one)
        ]
        if len(fitting) > 1:
            names = ", ".join(one.id for one in fitting)
            raise AmbiguousModel("model", f"several models fit, for each {kind.does}; name one of them: {names}")
        if not fitting:
            names = ", ".join(one.id for one in self.models.all())
            raise WrongModel(f"this server has no model that {kind.does}; it has: {names}")
        return fitting[0]

    def headers(self, served: Served, answered: Answer[Any], characters: int | None = None) -> dict[str, str]:
        """What an answer says of its own making; `characters` were given."""
        account, ticket = current_account(), current_ticket()
        waited_ms = 1e3 * (self.begun - self.received)
        account.note_model(served.model, next(iter(served.kinds)))
        account.note_answer(answered, ticket, media=served.media_kind is not None, waited_ms=waited_ms)
        return {
            **contract.answer_headers(answered),
            "x-compute-type": served.device,
            "x-compute-tokens": str(answered.elements),
            "x-sha": served.sha,
            "x-queue-time": f"{waited_ms + ticket.queue_ms:.0f}",
            "x-inference-time": f"{max(answered.infer_ms - ticket.queue_ms, 0):.0f}",
            "x-total-time": f"{1e3 * (time.perf_counter() - self.received):.0f}",
            **({} if characters is None else {"x-compute-characters": str(characters)}),
        }

    def respond(
        self, served: Served, value: object, answered: Answer[Any], *, characters: int | None = None
    ) -> Response:
        """The response with what is in it. Raises NotFinite."""
        content = contract.to_json(value)
        return json_response(self.request, content, self.headers(served, answered, characters), self.received)


def json_response(
    request: Request, content: bytes, headers: Mapping[str, str], received: float, vary: Sequence[str] = ()
) -> Response:
    """The response with this JSON, compressed for a client that takes it so, and the time since `received`.

    To be called in a worker thread: a middleware would compress on the event loop.
    """
    told = dict(headers)
    if len(content) > _GZIP_FROM_BYTES:
        vary = (*vary, "accept-encoding")
        if "gzip" in request.headers.get("accept-encoding", ""):
            content = gzip.compress(content, compresslevel=1)
            told["content-encoding"] = "gzip"
    if vary:
        told["vary"] = ", ".join(vary)
    told["x-total-time"] = f"{1e3 * (time.perf_counter() - received):.0f}"
    return Response(content, headers=told, media_type="application/json")


def post(
    path: str,
    work: Callable[[Visit], Response],
    dialect: Dialect,
    models: Models,
    settings: Settings,
    workers: Workers,
    *,
    limit: int | None = None,
) -> BaseRoute:
    """A route whose bodies, of at most `limit` bytes, `work` answers in a worker thread.

    Starlette's, as the classic ones are.
    """

    async def answer(request: Request) -> Response:
        request.state.dialect = dialect
        body = await read_body(request, limit or settings.max_body_bytes)
        received = time.perf_counter()
        visit = functools.partial(Visit, models, settings, request, body, received)
        return await workers.answer(request, lambda: work(visit(time.perf_counter())), large=len(body) > LARGE_BYTES)

    return Route(path, answer, methods=["POST"], include_in_schema=False)


def _fitting(served: Served, kind: Kind) -> Served:
    if not kind.fits(served):
        raise WrongModel(f"{served.id} is not a model that {kind.does}; it serves: {', '.join(served.kinds)}")
    return served
