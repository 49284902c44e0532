"""The ASGI application: routes, error handlers and middleware around the models."""

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from onnxpipe.version import __version__
from onnxpipe_server.middleware import RequestGuard
from onnxpipe_server.models import Models
from onnxpipe_server.openapi import make_document
from onnxpipe_server.routes import classic, docs, health
from onnxpipe_server.settings import Settings
from onnxpipe_server.status import add_error_handlers

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
    app.include_router(health.make_router(models))
    app.include_router(classic.make_router(models, settings))
    app.include_router(docs.make_router(make_document(app.routes, models.all())))
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
