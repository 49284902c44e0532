"""The classic Inference API: POST inputs to a model, or to one of its tasks."""

import functools
import gzip
import time

from fastapi import APIRouter, Request, Response

from onnxpipe_server import contract
from onnxpipe_server.body import read_body
from onnxpipe_server.models import Models, Served
from onnxpipe_server.settings import Settings
from onnxpipe_server.workers import Workers

_GZIP_FROM_BYTES = 1000


def make_router(models: Models, settings: Settings) -> APIRouter:
    """The inference routes. `openapi` documents them, from the types of the tasks that are served."""
    router = APIRouter(include_in_schema=False)
    workers = Workers(settings.max_running, settings.max_waiting)

    async def respond(request: Request, served: Served, task: str | None = None) -> Response:
        body = await read_body(request, settings.max_body_bytes)
        return await workers.run(functools.partial(answer, served, task, body, request, time.perf_counter()))

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


def answer(served: Served, task: str | None, body: bytes, request: Request, received: float) -> Response:
    """The whole way from body bytes to response, in the thread this is called in; `received` is when its wait began.

    Without a task the model's own answers, or another it serves when only that one fits the inputs.
    """
    begun = time.perf_counter()
    envelope = contract.parse(body, request.headers.get("content-type", ""))
    call = contract.bind(envelope, served.candidates(task))
    form = contract.choose_form(call.pipeline, request.headers)
    answered = call.pipeline.run(call.inputs, call.parameters)
    content = contract.render(call, answered, form)
    headers = contract.answer_headers(answered) | {
        "x-compute-type": served.device,
        "x-compute-characters": str(contract.count_characters(envelope.inputs)),
        "x-sha": served.sha,
        "x-queue-time": f"{1e3 * (begun - received):.0f}",
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
    headers["x-total-time"] = f"{1e3 * (time.perf_counter() - received):.0f}"
    return Response(content, headers=headers, media_type="application/json")
