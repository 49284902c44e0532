"""OpenAI's embeddings, for the default model and for each under /models/{id}/v1."""

import base64
import dataclasses
from typing import Literal

import numpy as np
from starlette.responses import Response
from starlette.routing import BaseRoute

from onnxpipe.arrays import Floats
from onnxpipe.errors import UnprocessableInput
from onnxpipe.records import FieldError, Record, parameter
from onnxpipe.tasks.feature_extraction import Parameters
from onnxpipe_server import tei
from onnxpipe_server.calls import Visit, post
from onnxpipe_server.encoders import Embeddings, TokenIds
from onnxpipe_server.models import Models
from onnxpipe_server.openai.forms import ProblemReport
from onnxpipe_server.openapi import Operation
from onnxpipe_server.settings import Settings
from onnxpipe_server.status import OPENAI, NotFinite
from onnxpipe_server.workers import Workers

# OpenAI's own; what is more than fits into a run is split here, not by the client
_MAX_INPUTS = 2048
_PATHS = ("/v1/embeddings", "/embeddings", "/models/{model_id:path}/v1/embeddings")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddingRequest(Record):
    """Texts that are to become vectors of length 1."""

    input: str | TokenIds | tuple[str | TokenIds, ...] = parameter(
        description="A text, its token ids with the special ones, or a list of such."
    )
    model: str | None = parameter(None, description="Which model, where several of this server fit.")
    encoding_format: Literal["float", "base64"] = parameter("float", description="base64: little-endian float32.")
    dimensions: int | None = parameter(None, ge=1, description="Keep only the first dimensions of the embedding.")
    user: str | None = parameter(None, description="Not used.")


@dataclasses.dataclass(frozen=True)
class EmbeddingItem:
    """The vector of one text."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


@dataclasses.dataclass(frozen=True)
class EmbeddingUsage:
    """How many tokens it took."""

    prompt_tokens: int
    total_tokens: int


@dataclasses.dataclass(frozen=True)
class EmbeddingList:
    """The vectors of all texts."""

    object: Literal["list"]
    data: list[EmbeddingItem]
    model: str
    usage: EmbeddingUsage


OPERATIONS = tuple(
    Operation(path, "Vectors of texts", EmbeddingRequest, EmbeddingList, error=ProblemReport, tag="embeddings")
    for path in ("/v1/embeddings", "/embeddings", "/models/{model_id}/v1/embeddings")
)


def make_routes(models: Models, settings: Settings, workers: Workers) -> list[BaseRoute]:
    """The routes."""
    return [post(path, embed, OPENAI, models, settings, workers) for path in _PATHS]


def embed(visit: Visit) -> Response:
    """A vector for each text or list of tokens."""
    asked = visit.read(EmbeddingRequest)
    served = visit.choose(asked.model, tei.EMBEDDING)
    batch = tei.batch_of(asked.input)
    if not batch or not all(batch):
        raise UnprocessableInput("`input` cannot be empty, nor any text in it")
    if len(batch) > _MAX_INPUTS:
        raise FieldError("input", f"expected at most {_MAX_INPUTS} texts, given {len(batch)}")
    answered = Embeddings(served.model).run(batch, Parameters(normalize=True, dimensions=asked.dimensions))
    items = [
        {
            "object": "embedding",
            "index": index,
            "embedding": _base64(vector) if asked.encoding_format == "base64" else vector,
        }
        for index, vector in enumerate(answered.results)
    ]
    usage = {"prompt_tokens": answered.elements, "total_tokens": answered.elements}
    value = {"object": "list", "data": items, "model": served.id, "usage": usage}
    return visit.respond(served, value, answered, characters=sum(len(text) for text in batch if isinstance(text, str)))


def _base64(vector: Floats) -> str:
    if not np.isfinite(vector).all():
        raise NotFinite("the model's answer to these inputs holds NaN or infinity")
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
