"""The server on Ray Serve: a deployment of replicas for each model, and an ingress with the same routes before them.

    serve run onnxpipe_server.ray_app:build models=/srv/bundles min_replicas=2 max_replicas=8

The ingress is the server's own application over models that are never in its memory: it checks tokens, reads requests
and chooses the model, and a request that needs one goes to a replica as a whole. What is asked of a model is the same
each time it is asked, so a request whose replica dies goes to another one, as long as none of its answer has been sent.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pydantic
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onnxpipe.bundle import open_bundle
from onnxpipe.errors import InvalidInput, OnnxpipeError, Overloaded
from onnxpipe.prepacked import Cache, default_folder
from onnxpipe_server.app import create_app
from onnxpipe_server.auth import read_keyring
from onnxpipe_server.described import Description, Plan
from onnxpipe_server.explain import current_account
from onnxpipe_server.folder import Folder
from onnxpipe_server.gate import Replay
from onnxpipe_server.models import Models, Served, State
from onnxpipe_server.on_demand import NotLoaded, OnDemand
from onnxpipe_server.settings import Settings
from onnxpipe_server.status import dialect_of, refuse
from onnxpipe_server.stock import Choice, open_stock

_log = logging.getLogger(__name__)

# How often a request is sent to a replica, and the seconds between: until Ray knows that one is dead it may choose it.
_ATTEMPTS = 8
_PAUSE_S = 0.25
# What a replica is not told: the ingress answers it.
_OWN_HEADERS = (b"origin", b"x-request-id", b"expect")
_SCOPE = ("type", "http_version", "method", "scheme", "path", "raw_path", "query_string", "client", "server")

Ask = Callable[[Served, Mapping[str, Any], bytes], AsyncIterator[Message]]


class Options(pydantic.BaseModel, extra="forbid"):
    """What `serve run` may be told, or the `args` of a Serve config file."""

    models: Path | None = None  # a folder of bundles
    bundles: str = ""  # folders, with commas between them
    precision: str | None = None
    device: str = "cpu"  # of the replicas
    model_cache: Path | None = pydantic.Field(default_factory=default_folder)
    tokens: Path | None = None  # as --tokens
    min_replicas: int = 1
    max_replicas: int = 4
    target_requests: float = 16  # for each replica; more of them, and others are begun
    cpus: float = 1  # of each replica, and the threads of its runs
    gpus: float = 0
    ingresses: int = 1
    per_model: dict[str, dict[str, float]] = {}  # other values of these numbers, by a model's id
    settings: dict[str, Any] = {}  # other values of the server's settings, by their names

    def of(self, model_id: str) -> "Options":
        """The same for one model."""
        return Options(**(self.model_dump() | self.per_model.get(model_id, {})))

    @property
    def threads(self) -> int:
        """Threads of one run."""
        return max(int(self.cpus), 1)


class Remote(OnDemand):
    """A model that is in the memory of replicas, and never here."""

    @property
    def state(self) -> State:
        """Ray begins the application when the replicas have loaded it."""
        return "Loaded"


class Replicas:
    """Keeps no model: whoever uses one is told which it needs."""

    def use(self, model: OnDemand) -> Served:
        """Never returns. Raises NotLoaded."""
        raise NotLoaded(model)

    def is_too_big(self, model: OnDemand) -> bool:  # noqa: ARG002 - the replicas have loaded it
        """Whether it could not be loaded even alone."""
        return False


class Forward:
    """Sends requests that need a model to where it is, again where that dies before anything of the answer was sent.

    `lost` are the errors of `ask` that say so.
    """

    def __init__(self, app: ASGIApp, ask: Ask, lost: tuple[type[Exception], ...], settings: Settings) -> None:
        self._app = app
        self._ask = ask
        self._lost = lost
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request here as far as it goes, then there."""
        replay, before = Replay(receive), dict(scope)
        try:
            await self._app(scope, replay.receive, send)
        except NotLoaded as missing:
            model = missing.model
        else:
            return
        # the route has read it under its own limit
        body = await replay.read(max(self._settings.max_media_bytes, self._settings.max_body_bytes))
        try:
            await self._answer(model, _plain(before), body, send)
        except OnnxpipeError as error:
            request_id = before.get("state", {}).get("request_id", "")
            await dialect_of(scope).respond(refuse(error, request_id))(before, replay.receive, send)

    async def _answer(self, model: Served, scope: Mapping[str, Any], body: bytes, send: Send) -> None:
        for _ in range(_ATTEMPTS):
            held: Message | None = None
            sent = False
            try:
                async for message in self._ask(model, scope, body):
                    if message["type"] == "http.response.start":
                        held = message  # nothing is decided before there is a part of the body too
                        continue
                    if held is not None:
                        sent = True
                        _note_cost(held)
                        await send(held)
                        held = None
                    await send(message)
            except self._lost as error:
                if sent:
                    raise
                _log.warning("a replica of %s was lost, another one is asked: %s", model.id, type(error).__name__)
                await asyncio.sleep(_PAUSE_S)
            else:
                return
        raise Overloaded(f"Model {model.id} is overloaded: none of its replicas answers; try again later")


class Replica:
    """One model in memory, and the server's application around it."""

    def __init__(self, bundle: str, options: Options) -> None:
        settings = Settings(**options.settings)
        choice = Choice(
            named=[bundle],
            precision=options.precision,
            providers=options.device.split("+"),
            threads=options.threads,
            cache=Cache(options.model_cache),
        )
        stock = open_stock(choice, settings)
        stock.check_device()
        self._model = stock.first[0]
        if error := stock.lifecycle.start(self._model).result():
            raise error
        self._app = create_app(stock.models, settings, None, stock)
        self._at_work: set[asyncio.Task[None]] = set()

    async def answer(self, scope: dict[str, Any], body: bytes) -> AsyncIterator[Message]:
        """The messages of the application's answer; who stops listening is a client that has left."""
        messages: asyncio.Queue[Message | None] = asyncio.Queue()
        gone = asyncio.Event()
        requests = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Message:
            if (request := next(requests, None)) is not None:
                return request
            await gone.wait()
            return {"type": "http.disconnect"}

        async def work() -> None:
            try:
                await self._app({**scope, "root_path": "", "asgi": {"version": "3.0"}}, receive, messages.put)
            finally:
                messages.put_nowait(None)

        task = asyncio.create_task(work())
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)
        try:
            while (message := await messages.get()) is not None:
                yield message
            await task
        finally:
            gone.set()

    def check_health(self) -> None:
        """Raise why the model does not work any more; Ray asks."""
        if self._model.error is not None and self._model.version is None:
            raise self._model.error


def build(args: dict[str, Any]) -> Any:  # Ray's types are not known here
    """The Serve application. Raises InvalidInput or BundleError, and ValueError for options that are none."""
    options = Options(**args)
    settings = Settings(**options.settings)
    models = find_models(options)
    if not models:
        raise InvalidInput("nothing to serve: give `bundles`, or a folder of them as `models`")
    from ray import serve  # here, as below: the application itself needs no Ray

    deployments = []
    for model in models:
        own = options.of(model.id)
        deployment = serve.deployment(Replica).options(
            name=_name(model),
            ray_actor_options={"num_cpus": own.cpus, "num_gpus": own.gpus},
            autoscaling_config={
                "min_replicas": int(own.min_replicas),
                "max_replicas": int(max(own.max_replicas, own.min_replicas)),
                "target_ongoing_requests": own.target_requests,
            },
            # one batch's worth and more, for the replica's scheduler to choose from
            max_ongoing_requests=settings.max_running,
            max_queued_requests=settings.max_waiting,
            graceful_shutdown_timeout_s=float(settings.request_timeout),
        )
        deployments.append(deployment.bind(str(model.bundle.path.resolve()), own))

    def build_ingress() -> ASGIApp:
        return make_ingress(options, _ask_ray, _lost_errors())

    ingress = serve.deployment(serve.ingress(build_ingress)()).options(
        name="ingress",
        num_replicas=options.ingresses,
        ray_actor_options={"num_cpus": 0.1},
        max_ongoing_requests=settings.max_connections,
    )
    return ingress.bind(*deployments)


def find_models(options: Options) -> list[Served]:
    """The models of the bundles and of the folder, none of them loaded. Raises BundleError."""
    keeper = Replicas()

    def describe(bundle: Any) -> OnDemand:  # a Bundle
        own = options.of(bundle.manifest.id)
        plan = Plan("gpu" if own.gpus else "cpu", own.threads)
        return Remote(Description.of(bundle, options.precision), plan, keeper)

    named = [describe(open_bundle(path)) for path in options.bundles.split(",") if path]
    return [*named, *(Folder(options.models, describe).scan() if options.models else [])]


def make_ingress(options: Options, ask: Ask, lost: tuple[type[Exception], ...]) -> ASGIApp:
    """The application that reads requests and has them answered elsewhere."""
    settings = Settings(**options.settings)
    forward = Middleware(Forward, ask=ask, lost=lost, settings=settings)
    return create_app(Models(find_models(options)), settings, read_keyring(options.tokens), forward=forward)


async def _ask_ray(model: Served, scope: Mapping[str, Any], body: bytes) -> AsyncIterator[Message]:
    from ray import serve
    from ray.serve.exceptions import BackPressureError

    application = serve.get_replica_context().app_name
    handle = serve.get_deployment_handle(_name(model), app_name=application)
    try:
        async for message in handle.options(stream=True).answer.remote(dict(scope), body):
            yield message
    except BackPressureError:
        raise Overloaded(f"Model {model.id} is overloaded: too many requests wait; try again later") from None


def _lost_errors() -> tuple[type[Exception], ...]:
    from ray import exceptions
    from ray.serve.exceptions import DeploymentUnavailableError, ReplicaUnavailableError

    return (
        exceptions.RayActorError,
        exceptions.WorkerCrashedError,
        exceptions.NodeDiedError,
        exceptions.ObjectLostError,
        DeploymentUnavailableError,
        ReplicaUnavailableError,
    )


def _name(model: Served) -> str:
    """What its deployment is called."""
    return model.id.replace("/", "--")


def _plain(scope: Scope) -> dict[str, Any]:
    """What a replica is told of a request."""
    request_id = scope.get("state", {}).get("request_id", "")
    headers = [(name, value) for name, value in scope["headers"] if name not in _OWN_HEADERS]
    told = {name: scope[name] for name in _SCOPE if name in scope}
    return {**told, "headers": [*headers, (b"x-request-id", request_id.encode())]}


def _note_cost(started: Message) -> None:
    """What the answer says of its cost goes to the account that the ingress keeps."""
    headers = Headers(raw=started["headers"])
    account = current_account()
    for name in ("x-compute-tokens", "x-prompt-tokens", "x-generated-tokens"):
        if (given := headers.get(name, "")).isdecimal():
            account.tokens += int(given)
