"""Whether the server answers, and what it serves. None of these routes waits for a model."""

import dataclasses

from fastapi import APIRouter

from onnxpipe.version import __version__
from onnxpipe_server.models import Models, Served
from onnxpipe_server.settings import Settings
from onnxpipe_server.status import Error
from onnxpipe_server.tgi import capacity_of


@dataclasses.dataclass(frozen=True)
class Health:
    """The server answers."""

    status: str = "ok"


@dataclasses.dataclass(frozen=True)
class Status:
    """A model and its state. The last four fields are those huggingface_hub's ModelStatus reads."""

    id: str
    task: str
    tasks: list[str]
    precision: str
    size_bytes: int
    loaded: bool
    state: str
    compute_type: str
    framework: str


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
    """A model that continues texts, as text generation inference describes its own; and the others of the server."""

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


def make_router(models: Models, settings: Settings) -> APIRouter:
    """The routes that only look."""
    router = APIRouter(responses={"default": {"model": Error, "description": "An error"}})

    @router.get("/health", summary="Whether the server answers")
    @router.get("/", include_in_schema=False)
    @router.get("/ping", include_in_schema=False)
    @router.get("/health/ready", include_in_schema=False)  # models load before the server listens: alive is ready
    async def health() -> Health:
        return Health()

    @router.get("/models", summary="The models of this server")
    async def list_models() -> list[Status]:
        return [_status(served) for served in models.all()]

    @router.get("/models/{model_id:path}/health", summary="Whether a model is served")
    async def model_health(model_id: str) -> Health:
        models.find(model_id)
        return Health()

    @router.get("/models/{model_id:path}/info", summary="What a model is")
    async def model_info(model_id: str) -> Info | GeneratorInfo:
        return _info(models.find(model_id), models, settings)

    @router.get("/info", summary="What the model is, on a server that has one, or one that continues texts")
    async def only_info() -> Info | GeneratorInfo:
        generators = [served for served in models.all() if served.continues]
        return _info(generators[0] if len(generators) == 1 else models.only(), models, settings)

    @router.get("/models/{model_id:path}", summary="The state of a model")
    @router.get("/status/{model_id:path}", include_in_schema=False)
    async def model_status(model_id: str) -> Status:
        return _status(models.find(model_id))

    return router


def _status(served: Served) -> Status:
    tasks = list(served.pipelines)
    return Status(
        id=served.id,
        task=tasks[0],
        tasks=tasks,
        precision=served.model.precision,
        size_bytes=served.size_bytes,
        loaded=True,
        state="Loaded",
        compute_type=served.device,
        framework="onnxruntime",
    )


def _info(served: Served, models: Models, settings: Settings) -> Info | GeneratorInfo:
    info = Info(
        model_id=served.id,
        model_sha=served.sha,
        model_pipeline_tag=next(iter(served.pipelines)),
        model_dtype=served.model.precision,
        version=__version__,
    )
    if not served.continues:
        return info
    capacity = capacity_of(served.generator)
    return GeneratorInfo(
        **dataclasses.asdict(info),
        models=[one.id for one in models.all()],
        max_concurrent_requests=settings.max_writing,
        max_best_of=settings.max_best_of,
        max_stop_sequences=settings.max_stop_sequences,
        max_input_tokens=None if capacity is None else capacity - 1,
        max_total_tokens=capacity,
        validation_workers=settings.max_writing,
    )
