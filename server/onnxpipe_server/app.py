"""The ASGI application: routes, error handlers and middleware around the models."""

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from onnxpipe.version import __version__
from onnxpipe_server.middleware import RequestGuard
from onnxpipe_server.models import Models
from onnxpipe_server.openapi import make_document
from onnxpipe_server.routes import classic, docs, health, openai, tgi
from onnxpipe_server.settings import Settings
from onnxpipe_server.status import add_error_handlers
from onnxpipe_server.workers import Workers

# what a page of another origin may read; content-type and a few more it always may
_EXPOSED_HEADERS = (
    "x-compute-type",
    "x-compute-time",
    "x-compute-characters",
    "x-compute-tokens",
    "x-total-time",
    "x-tokenization-time",
    "x-queue-time",
    "x-inference-time",
    "x-validation-time",
    "x-time-per-token",
    "x-prompt-tokens",
    "x-generated-tokens",
    "x-request-id",
    "x-sha",
    "x-truncated",
    "x-warnings",
    "retry-after",
)


def create_app(models: Models, settings: Settings) -> FastAPI:
    """The application that serves `models`."""
    app = FastAPI(
        title="onnxpipe",
        version=__version__,
        docs_url=None,  # FastAPI's own page loads its files from a CDN
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    workers = Workers(settings.max_running, settings.max_waiting)
    # apart from the others: they take long and mostly wait for each other's steps
    writers = Workers(settings.max_writing, settings.max_waiting)
    app.include_router(openai.make_router(models, settings, writers))  # before those whose ids may hold slashes
    app.include_router(tgi.make_router(models, settings, workers, writers))
    app.include_router(health.make_router(models, settings))
    app.include_router(classic.make_router(models, settings, workers, writers))
    operations = (
        *(tgi.OPERATIONS + openai.OPERATIONS if any(served.continues for served in models.all()) else ()),
        *((tgi.TOKENIZE,) if any(served.reads_text for served in models.all()) else ()),
    )
    app.include_router(docs.make_router(make_document(app.routes, models.all(), operations)))
    add_error_handlers(app)
    app.add_middleware(RequestGuard)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST", "OPTIONS"],
        allow_headers=["*"],  # each header asked for is named in the answer, authorization among them
        expose_headers=_EXPOSED_HEADERS,
    )
    return app
