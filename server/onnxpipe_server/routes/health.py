"""Whether the server answers, and what it serves. None of these routes waits for a model, or loads one."""

import dataclasses
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from onnxpipe.version import __version__
from onnxpipe_server.models import Models, Served
from onnxpipe_server.settings import Settings
from onnxpipe_server.status import Error
from onnxpipe_server.stock import Stock
from onnxpipe_server.tei import embeds, model_type
from onnxpipe_server.tgi import manifest_limits

_FRAMEWORK = "onnxruntime"


@dataclasses.dataclass(frozen=True)
class Health:
    """The server answers."""

    status: str = "ok"


@dataclasses.dataclass(frozen=True)
class Status:
    """A model and its state: Loaded, Loadable, TooBig or error, and what the problem is.

    The last four fields are those huggingface_hub's ModelStatus reads.
    """

    id: str
    task: str
    tasks: list[str]
    precision: str
    size_bytes: int
    problem: str | None
    loaded: bool
    state: str
    compute_type: str
    framework: str


@dataclasses.dataclass(frozen=True)
class Deployed:
    """A model as huggingface_hub's list_deployed_models read it up to release 0.33."""

    model_id: str
    task: str
    framework: str
    compute_type: str


@dataclasses.dataclass(frozen=True)
class Info:
    """A model as inference endpoints describe theirs."""

    model_id: str
    model_sha: str
    model_pipeline_tag: str
    model_dtype: str
    version: str


@dataclasses.dataclass(frozen=True)
class GeneratorInfo(Info):
    """A model that writes texts, as text generation inference describes its own; and the others of the server."""

    models: list[str]
    max_concurrent_requests: int
    max_best_of: int
    max_stop_sequences: int
    max_input_tokens: int | None
    max_total_tokens: int | None
    validation_workers: int
    max_client_batch_size: int = 1
    router: str = "onnxpipe"
    sha: str | None = None
    docker_label: str | None = None


@dataclasses.dataclass(frozen=True)
class EncoderInfo(Info):
    """A model that embeds, classifies or ranks texts, as text embeddings inference describes its own."""

    served_model_name: str
    model_type: dict[str, dict[str, Any]]  # the kind, and what it says: strings and mappings of them
    max_concurrent_requests: int
    max_input_length: int | None
    max_batch_tokens: int
    max_client_batch_size: int
    tokenization_workers: int
    max_batch_requests: int | None = None
    auto_truncate: bool = True
    sha: str | None = None
    docker_label: str | None = None


def make_router(models: Models, settings: Settings, stock: Stock | None = None) -> APIRouter:
    """The routes that only look; `stock` tells whether the models that are loaded first are there."""
    router = APIRouter(responses={"default": {"model": Error, "description": "An error"}})

    @router.get("/health", summary="Whether the server answers")
    @router.get("/", include_in_schema=False)
    @router.get("/ping", include_in_schema=False)
    @router.get("/health/live", include_in_schema=False)
    async def health() -> Health:
        return Health()

    @router.get("/health/ready", summary="Whether the models it begins with have answered their golden requests")
    async def ready() -> Response:
        return _unhealthy() if stock is not None and not stock.is_ready else JSONResponse({"status": "ok"})

    @router.get("/models", summary="The models of this server")
    async def list_models() -> list[Status]:
        return [_status(served) for served in models.all()]

    @router.get("/framework/{name}", summary="The models that such a framework would run; onnxruntime runs all")
    async def list_deployed(name: str) -> list[Deployed]:
        return [one for one in map(_deployed, models.all()) if name in (one.framework, _FRAMEWORK)]

    @router.get("/models/{model_id:path}/health", summary="Whether a model is served")
    async def model_health(model_id: str) -> Response:
        can_answer = models.find(model_id).state in ("Loaded", "Loadable")
        return JSONResponse({"status": "ok"}) if can_answer else _unhealthy()

    @router.get("/models/{model_id:path}/info", summary="What a model is")
    async def model_info(model_id: str) -> Info | GeneratorInfo | EncoderInfo:
        return _info(models.find(model_id), models, settings)

    @router.get("/info", summary="What the model is, on a server that has one, or one that continues texts")
    async def only_info() -> Info | GeneratorInfo | EncoderInfo:
        generators = [served for served in models.all() if served.continues]
        return _info(generators[0] if len(generators) == 1 else models.only(), models, settings)

    @router.get("/models/{model_id:path}", summary="The state of a model")
    @router.get("/status/{model_id:path}", include_in_schema=False)
    async def model_status(model_id: str) -> Status:
        return _status(models.find(model_id))

    return router


def _unhealthy() -> Response:
    return JSONResponse({"error": "unhealthy", "error_type": "healthcheck"}, 503)


def _status(served: Served) -> Status:
    tasks = list(served.kinds)
    return Status(
        id=served.id,
        task=tasks[0],
        tasks=tasks,
        precision=served.precision,
        size_bytes=served.size_bytes,
        problem=served.problem,
        loaded=served.state == "Loaded",
        state=served.state,
        compute_type=served.device,
        framework=_FRAMEWORK,
    )


def _deployed(served: Served) -> Deployed:
    if embeds(served):
        framework = "sentence-transformers"
    else:
        framework = "text-generation-inference" if served.continues else "transformers"
    return Deployed(served.id, next(iter(served.kinds)), framework, served.device)


def _info(served: Served, models: Models, settings: Settings) -> Info | GeneratorInfo | EncoderInfo:
    info = Info(
        model_id=served.id,
        model_sha=served.sha,
        model_pipeline_tag=next(iter(served.kinds)),
        model_dtype=served.precision,
        version=__version__,
    )
    if kind := model_type(served):
        return EncoderInfo(
            **dataclasses.asdict(info),
            served_model_name=served.id,
            model_type=kind,
            max_concurrent_requests=settings.max_running,
            max_input_length=served.bundle.manifest.text.max_tokens if served.bundle.manifest.text else None,
            max_batch_tokens=settings.max_batch_tokens,
            max_client_batch_size=settings.max_client_batch_size,
            tokenization_workers=settings.max_running,
        )
    if not (served.continues or served.rewrites):
        return info
    limits = manifest_limits(served.bundle.manifest)
    return GeneratorInfo(
        **dataclasses.asdict(info),
        models=[one.id for one in models.all()],
        max_concurrent_requests=settings.max_writing,
        max_best_of=settings.max_best_of,
        max_stop_sequences=settings.max_stop_sequences,
        max_input_tokens=limits.inputs,
        max_total_tokens=limits.total,
        validation_workers=settings.max_writing,
    )
