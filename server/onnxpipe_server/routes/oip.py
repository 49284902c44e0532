"""The Open Inference Protocol, version 2: health, what a graph takes and gives, and runs of it on tensors."""

import dataclasses
import logging
import time

from fastapi import APIRouter, Depends, Response
from starlette.routing import BaseRoute

from onnxpipe.batching import Row, row_size
from onnxpipe.bundle import Graph
from onnxpipe.errors import InvalidInput, OnnxpipeError, UnprocessableInput
from onnxpipe.pipeline import Answer
from onnxpipe.records import read
from onnxpipe.session import Arrays
from onnxpipe.version import __version__
from onnxpipe_server import contract, oip
from onnxpipe_server.calls import Visit, post
from onnxpipe_server.models import Models, Served
from onnxpipe_server.openapi import Operation
from onnxpipe_server.settings import Settings
from onnxpipe_server.status import OIP, speak
from onnxpipe_server.stock import Stock
from onnxpipe_server.workers import Workers

_log = logging.getLogger(__name__)
_GRAPH = "model"
_LENGTH = "inference-header-content-length"
_INFER = (
    "/v2/models/{model_id:path}/versions/{version}/infer",
    "/v2/models/{model_id:path}/infer",
)
OPERATIONS = (
    Operation(
        "/v2/models/{model_id}/infer",
        "Run the graph of a model on tensors",
        oip.InferenceRequest,
        oip.InferenceResponse,
        error=oip.InferenceError,
        tag="tensors",
    ),
)


@dataclasses.dataclass(frozen=True)
class ServerMetadata:
    """The server, and what it speaks beside the protocol."""

    name: str
    version: str
    extensions: list[str]


@dataclasses.dataclass(frozen=True)
class Live:
    """The server answers."""

    live: bool = True


@dataclasses.dataclass(frozen=True)
class Ready:
    """Its models can be asked."""

    ready: bool = True


@dataclasses.dataclass(frozen=True)
class ModelReady:
    """The model can be asked."""

    name: str
    ready: bool = True


@dataclasses.dataclass(frozen=True)
class ModelMetadata:
    """What the graph of a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[oip.TensorMetadata]
    outputs: list[oip.TensorMetadata]


def make_routes(models: Models, settings: Settings, workers: Workers) -> list[BaseRoute]:
    """The routes that run graphs; bodies may be as large as those with files, for tensors are."""
    return [post(path, infer, OIP, models, settings, workers, limit=settings.max_media_bytes) for path in _INFER]


def make_router(models: Models, stock: Stock | None = None) -> APIRouter:
    """The routes that only look; `stock` tells whether the models that are loaded first are there."""
    router = APIRouter(
        prefix="/v2",
        dependencies=[Depends(speak(OIP))],
        responses={"default": {"model": oip.InferenceError, "description": "An error"}},
    )

    @router.get("", summary="What the server is")
    async def server() -> ServerMetadata:
        return ServerMetadata("onnxpipe", __version__, ["binary_tensor_data"])

    @router.get("/health/live", summary="Whether the server answers")
    async def live() -> Live:
        return Live()

    @router.get(
        "/health/ready",
        summary="Whether its models can be asked",
        responses={503: {"model": Ready, "description": "They cannot yet"}},
    )
    async def ready(response: Response) -> Ready:
        is_ready = stock is None or stock.is_ready
        response.status_code = 200 if is_ready else 503
        return Ready(is_ready)

    @router.get(
        "/models/{model_id:path}/ready",
        summary="Whether a model can be asked",
        responses={503: {"model": ModelReady, "description": "It cannot"}},
    )
    @router.get(
        "/models/{model_id:path}/versions/{version}/ready", include_in_schema=False
    )  # tried before the line above
    async def model_ready(model_id: str, response: Response) -> ModelReady:
        served = models.find(model_id)
        ready = served.state in ("Loaded", "Loadable")  # a request waits while its model loads
        response.status_code = 200 if ready else 503
        return ModelReady(served.id, ready)

    @router.get("/models/{model_id:path}", summary="What the graph of a model takes and gives")
    @router.get("/models/{model_id:path}/versions/{version}", include_in_schema=False)  # tried before the line above
    async def model(model_id: str) -> ModelMetadata:
        served = models.find(model_id)
        graph = graph_of(served)
        inputs, outputs = oip.describe(graph.inputs), oip.describe(graph.outputs)
        return ModelMetadata(served.id, [served.sha], "onnxruntime_onnx", inputs, outputs)

    return router


def takes_tensors(served: Served) -> bool:
    """Whether it is one graph, which needs nothing of earlier runs."""
    graph = served.bundle.manifest.graphs.get(_GRAPH)
    return graph is not None and not graph.has_past


def graph_of(served: Served) -> Graph:
    """The graph that runs on tensors. Raises UnprocessableInput for a model that writes step by step."""
    if not takes_tensors(served):
        raise UnprocessableInput(f"{served.id} writes step by step, with several graphs; /generate and /v1 run them")
    return served.bundle.manifest.graphs[_GRAPH]


def infer(visit: Visit) -> Response:
    """The outputs of the graph for a batch of rows."""
    served = visit.models.find(visit.request.path_params["model_id"])
    graph = graph_of(served)
    header, binary = oip.split(visit.body, visit.request.headers.get(_LENGTH))
    asked = read(oip.InferenceRequest, contract.parse_object(header), ignore_unknown=True)
    rows = oip.read_rows(asked, binary, graph)
    begin = time.perf_counter()
    outputs = _run(served, rows, visit.request.state.request_id)
    answered: Answer[Arrays] = Answer(
        elements=sum(row_size(row, graph) for row in rows), infer_ms=1e3 * (time.perf_counter() - begin)
    )
    names = {"model_name": served.id, "model_version": served.sha}
    content, behind = oip.write(outputs, asked, graph, names)
    headers = visit.headers(served, answered)
    if not behind:
        return Response(content, headers=headers, media_type="application/json")
    headers[_LENGTH] = str(len(content))
    return Response(content + behind, headers=headers, media_type="application/octet-stream")


def _run(served: Served, rows: list[Row], request_id: str) -> list[Arrays]:
    """The outputs of each row. Raises InvalidInput where the graph fails: numbers it cannot look up, for example."""
    model = served.model
    try:
        outputs = dict(model.run(rows))
    except OnnxpipeError:
        raise
    except Exception as error:  # noqa: BLE001 - onnxruntime's own classes have no public base
        _log.info("request %s: %s cannot run on its tensors: %s", request_id, served.id, error)
        raise InvalidInput(
            f"the graph of {served.id} cannot run on these tensors: expected shapes that fit together, and ids "
            "that its tables have; the log has the details"
        ) from None
    return [outputs[index] for index in range(len(rows))]
