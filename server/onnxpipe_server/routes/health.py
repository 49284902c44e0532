"""Whether the server answers, and what it serves. None of these routes waits for a model."""

import dataclasses

from fastapi import APIRouter

from onnxpipe.version import __version__
from onnxpipe_server.models import Models, Served
from onnxpipe_server.status import Error


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


def make_router(models: Models) -> APIRouter:
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
    async def model_info(model_id: str) -> Info:
        return _info(models.find(model_id))

    @router.get("/info", summary="What the model is, on a server that has one")
    async def only_info() -> Info:
        return _info(models.only())

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


def _info(served: Served) -> Info:
    return Info(
        model_id=served.id,
        model_sha=served.sha,
        model_pipeline_tag=next(iter(served.pipelines)),
        model_dtype=served.model.precision,
        version=__version__,
    )
