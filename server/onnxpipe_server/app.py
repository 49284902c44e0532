"""The ASGI application: routes, error handlers and middleware around the models."""

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from onnxpipe.version import __version__
from onnxpipe_server.auth import Keyring, TokenGate
from onnxpipe_server.cache import Answers
from onnxpipe_server.gate import Gate
from onnxpipe_server.metrics import Metrics, read_queue, read_workers
from onnxpipe_server.metrics import make_route as make_metrics_route
from onnxpipe_server.middleware import RequestGuard
from onnxpipe_server.models import Models
from onnxpipe_server.openapi import Json, make_document
from onnxpipe_server.routes import classic, docs, embeddings, health, oip, openai, rerank, tei, tgi
from onnxpipe_server.settings import Settings
from onnxpipe_server.status import add_error_handlers
from onnxpipe_server.stock import Stock
from onnxpipe_server.tei import classifies, embeds, reranks
from onnxpipe_server.totals import Totals
from onnxpipe_server.traces import Traces
from onnxpipe_server.workers import Workers

# what a page of another origin may read; content-type and a few more it always may
_EXPOSED_HEADERS = (
    "x-compute-type",
    "x-compute-time",
    "x-compute-characters",
    "x-compute-images",
    "x-compute-audio-length",
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
    "x-onnxpipe-explain",
    "x-error-message",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-sha",
    "x-truncated",
    "x-warnings",
    "retry-after",
)


def create_app(
    models: Models,
    settings: Settings,
    keyring: Keyring | None = None,
    stock: Stock | None = None,
    forward: Middleware | None = None,
    totals: Totals | None = None,
) -> FastAPI:
    """The application that serves `models`, to everybody or to those who have a token of the keyring.

    `stock` is where they come from, if they are loaded when they are used; `forward` answers elsewhere what needs a
    model that is never loaded here. `totals` are what the processes of the server count together.
    """
    app = FastAPI(
        title="onnxpipe",
        version=__version__,
        docs_url=None,  # FastAPI's own page loads its files from a CDN
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    workers = Workers(
        settings.max_running, settings.max_waiting, max_large=settings.max_large, timeout_s=settings.request_timeout
    )
    # apart from the others: they take long and mostly wait for each other's steps
    writers = Workers(settings.max_writing, settings.max_waiting)
    answers = Answers(settings.cache_bytes, settings.cache_seconds)
    queue = [] if stock is None or stock.scheduler is None else [read_queue(stock.scheduler)]
    metrics = Metrics((read_workers({"requests": workers, "writers": writers}), *queue, answers.readings), totals)
    app.state.metrics = metrics
    for name in settings.default_models:
        models.find(name)
    first, last = classic.make_routes(models, settings, workers, writers, answers)
    app.router.routes.extend(first)
    for dialect in (tei, rerank, embeddings, oip):
        app.router.routes.extend(dialect.make_routes(models, settings, workers))
    app.router.routes.append(make_metrics_route(metrics))
    app.include_router(openai.make_router(models, settings, writers))
    app.include_router(tgi.make_router(models, settings, writers))
    app.include_router(oip.make_router(models, stock))
    app.include_router(health.make_router(models, settings, stock))
    app.router.routes.extend(last)

    def document() -> Json:
        operations = (
            *(tgi.OPERATIONS + openai.OPERATIONS if any(one.continues or one.rewrites for one in models.all()) else ()),
            *((tei.TOKENIZE, tei.DECODE) if any(served.reads_text for served in models.all()) else ()),
            *(tei.EMBEDDING + embeddings.OPERATIONS if any(map(embeds, models.all())) else ()),
            *((tei.PREDICT,) if any(map(classifies, models.all())) else ()),
            *((tei.RERANK, *rerank.OPERATIONS) if any(map(reranks, models.all())) else ()),
            *(oip.OPERATIONS if any(map(oip.takes_tensors, models.all())) else ()),
        )
        return make_document(app.routes, models.all(), operations)

    app.include_router(docs.make_router(document))
    add_error_handlers(app)
    if forward is not None:
        app.add_middleware(forward.cls, *forward.args, **forward.kwargs)
    if stock is not None:
        app.add_middleware(Gate, lifecycle=stock.lifecycle, settings=settings)
    if keyring is not None:
        app.add_middleware(TokenGate, keyring=keyring, open_docs=settings.open_docs, open_metrics=settings.open_metrics)
    app.state.traces = Traces() if settings.traces else None
    app.add_middleware(RequestGuard, metrics=metrics, body_timeout_s=settings.body_timeout, traces=app.state.traces)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST", "OPTIONS"],
        allow_headers=["*"],  # each header asked for is named in the answer, authorization among them
        expose_headers=_EXPOSED_HEADERS,
    )
    return app
