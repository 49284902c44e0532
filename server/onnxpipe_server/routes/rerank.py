"""Reranking as Jina's and Cohere's clients ask for it."""

import dataclasses
import uuid
from typing import Literal

from starlette.responses import Response
from starlette.routing import BaseRoute

from onnxpipe.labels import Label
from onnxpipe.pipeline import Answer
from onnxpipe.records import Record, parameter
from onnxpipe_server import tei
from onnxpipe_server.calls import Visit, post
from onnxpipe_server.encoders import ScoreParameters
from onnxpipe_server.models import Models, Served
from onnxpipe_server.openai.forms import ProblemReport
from onnxpipe_server.openapi import Operation
from onnxpipe_server.settings import Settings
from onnxpipe_server.status import COHERE, OPENAI, Error
from onnxpipe_server.workers import Workers

# as many as Cohere takes; what is more than fits into a run is split here, not by the client
_MAX_DOCUMENTS = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Document(Record):
    """A text."""

    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class OrderRequest(Record):
    """Documents to put into the order in which they answer a query."""

    query: str | Document = parameter(description="The query.")
    documents: tuple[str | Document, ...] = parameter(description="The documents.")
    top_n: int | None = parameter(None, ge=1, description="How many come back; all when absent.")
    return_documents: bool | None = parameter(
        None, description="Each document beside its score; /v1 does so when this is absent, /v2 does not."
    )
    model: str | None = parameter(None, description="Which model, where several of this server fit.")


@dataclasses.dataclass(frozen=True)
class Relevance:
    """A document, its place among those given, and how well it answers."""

    index: int
    relevance_score: float
    document: Document | None = None


@dataclasses.dataclass(frozen=True)
class OrderUsage:
    """How many tokens it took."""

    total_tokens: int
    prompt_tokens: int


@dataclasses.dataclass(frozen=True)
class JinaOrder:
    """The documents by falling score, as Jina tells of them."""

    object: Literal["list"]
    model: str
    usage: OrderUsage
    results: list[Relevance]


@dataclasses.dataclass(frozen=True)
class ApiVersion:
    """The version of the API."""

    version: str


@dataclasses.dataclass(frozen=True)
class BilledUnits:
    """Searches that were made."""

    search_units: int


@dataclasses.dataclass(frozen=True)
class Meta:
    """What Cohere says beside the results."""

    api_version: ApiVersion
    billed_units: BilledUnits


@dataclasses.dataclass(frozen=True)
class CohereOrder:
    """The documents by falling score, as Cohere tells of them."""

    id: str
    results: list[Relevance]
    meta: Meta


@dataclasses.dataclass(frozen=True)
class CohereError(Error):
    """The body of an error where Cohere's clients look for its words."""

    message: str


OPERATIONS = (
    *(
        Operation(path, "Documents by how they answer", OrderRequest, JinaOrder, error=ProblemReport, tag="ranks")
        for path in ("/v1/rerank", "/models/{model_id}/v1/rerank")
    ),
    Operation("/v2/rerank", "Documents by how they answer", OrderRequest, CohereOrder, error=CohereError, tag="ranks"),
)


def make_routes(models: Models, settings: Settings, workers: Workers) -> list[BaseRoute]:
    """The routes."""
    return [
        post("/v1/rerank", order_as_jina, OPENAI, models, settings, workers),
        post("/models/{model_id:path}/v1/rerank", order_as_jina, OPENAI, models, settings, workers),
        post("/v2/rerank", order_as_cohere, COHERE, models, settings, workers),
    ]


def order_as_jina(visit: Visit) -> Response:
    """The documents by falling score, with them unless told otherwise."""
    asked = visit.read(OrderRequest)
    served, results, answered = _order(visit, asked, with_documents=asked.return_documents is not False)
    usage = OrderUsage(answered.elements, answered.elements)
    return visit.respond(served, JinaOrder("list", served.id, usage, results), answered, characters=_count(asked))


def order_as_cohere(visit: Visit) -> Response:
    """The documents by falling score, without them unless told otherwise."""
    asked = visit.read(OrderRequest)
    served, results, answered = _order(visit, asked, with_documents=asked.return_documents is True)
    meta = Meta(ApiVersion("2"), BilledUnits(1))
    return visit.respond(served, CohereOrder(str(uuid.uuid4()), results, meta), answered, characters=_count(asked))


def _order(
    visit: Visit, asked: OrderRequest, *, with_documents: bool
) -> tuple[Served, list[Relevance], Answer[list[Label]]]:
    served = visit.choose(asked.model, tei.RERANKER)
    query, texts = _text(asked.query), [_text(document) for document in asked.documents]
    tei.check_batch([query], 1, "query")
    tei.check_batch(texts, _MAX_DOCUMENTS, "documents")
    ranks, answered = tei.rank(served, query, texts, ScoreParameters(function_to_apply="sigmoid"))
    results = [
        Relevance(rank.index, rank.score, Document(text=texts[rank.index]) if with_documents else None)
        for rank in ranks[: asked.top_n]
    ]
    return served, results, answered


def _count(asked: OrderRequest) -> int:
    """The characters that were given."""
    return sum(len(_text(document)) for document in (asked.query, *asked.documents))


def _text(document: str | Document) -> str:
    return document if isinstance(document, str) else document.text
