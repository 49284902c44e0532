"""Errors and the HTTP statuses they are answered with: one table for all routes, and how each dialect tells of them."""

import dataclasses
import logging
import math
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Scope

from onnxpipe.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidInput,
    MalformedAudio,
    MalformedImage,
    OnnxpipeError,
    Overloaded,
    UnprocessableInput,
    UnsupportedMedia,
)
from onnxpipe.records import FieldError
from onnxpipe_server.explain import current_account

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Error:
    """The body of every error: what is wrong, and a word for its kind that programs may compare."""

    error: str
    error_type: str


class UnknownModel(InvalidInput):
    """No model of that id is served."""


class BodyTooLarge(InvalidInput):
    """A request body over the limit."""


class EmptyInput(InvalidInput):
    """No text at all, where text embeddings inference wants one."""


class AmbiguousModel(FieldError):
    """Several models of the server fit, and the request names none."""


class WrongModel(UnprocessableInput):
    """A model of another kind than the route needs."""


class BodyTooSlow(InvalidInput):
    """A request body that does not come."""


class Unauthorized(InvalidInput):
    """No token, or one that nobody knows."""


class Forbidden(InvalidInput):
    """A token that may not do what was asked for."""


class RateLimited(Overloaded):
    """A token whose work for now is done."""


class TooBig(UnprocessableInput):
    """A model that does not fit into the memory for models."""


class Loading(Overloaded):
    """A model that is not in memory yet; `retry_after_s` is how long its load will take."""


class TemplateRefused(UnprocessableInput):
    """The model has no chat template, or its template does not take the messages."""


class NotFinite(OnnxpipeError, ArithmeticError):
    """The model answered with NaN or infinity, which JSON cannot say."""


# error class -> (status, error_type); an error is answered as the nearest of its classes
STATUSES: Mapping[type[BaseException], tuple[int, str]] = {
    InvalidInput: (400, "validation"),
    EmptyInput: (400, "empty"),
    AmbiguousModel: (400, "ambiguous_model"),
    Unauthorized: (401, "unauthorized"),
    Forbidden: (403, "forbidden"),
    TooBig: (403, "too_big"),
    UnknownModel: (404, "not_found"),
    BodyTooSlow: (408, "timeout"),
    BodyTooLarge: (413, "too_large"),
    UnsupportedMedia: (415, "unsupported_media_type"),
    UnprocessableInput: (422, "validation"),
    TemplateRefused: (422, "template_error"),
    WrongModel: (424, "backend"),
    Overloaded: (429, "overloaded"),
    Cancelled: (499, "cancelled"),  # nginx's number for a client that left; it never sees the answer
    OnnxpipeError: (500, "backend"),  # a bundle, provider or model that does not work: the message tells which
    Loading: (503, "loading"),
    DeadlineExceeded: (504, "timeout"),
    Exception: (500, "internal"),
}
# what clients know an error by, in the place of our own words
_KNOWN_WORDS: Mapping[type[BaseException], str] = {MalformedAudio: "Malformed soundfile"}
_OPENAI_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    408: "timeout",
    429: "rate_limit_error",
    499: "cancelled",
    500: "server_error",
    503: "server_error",
    504: "timeout",
}
_OPENAI_CODES = {"not_found": "model_not_found", "unauthorized": "invalid_api_key"}
# what files are declared as, the types that say nothing included; behind another one only a whole file is taken
_KNOWN_TYPES = re.compile(
    r"|application/(json|octet-stream|x-www-form-urlencoded)|.+\+json|text/plain"
    r"|image/(x-)?(image|png|jpe?g|tiff?|bmp|gif|webp|ms-bmp)"
    r"|(audio|video)/(x-)?(audio|flac|mpe?g(-?[34])?|mp[34]|wave?|aiff?|ogg|opus|webm|amr(-wb\+?)?|m4a|mp4|aac|ms-wma)"
)
_OPENAI_PATHS = re.compile(r"(/models/.+)?/v1/.*", re.DOTALL)
_TGI_PREFIX = "Input validation error: "


@dataclasses.dataclass(frozen=True)
class Refusal:
    """What an error is answered with, in the classic routes' terms; `field` is the one that is wrong."""

    status: int
    message: str
    error_type: str
    field: str | None = None
    retry_after_s: float | None = None


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a family of routes tells of errors: which status and words it has for one, and the body it puts them in."""

    adapt: Callable[[Refusal], Refusal]
    body: Callable[[Refusal], dict[str, Any]]

    def respond(self, refusal: Refusal, headers: Mapping[str, str] | None = None) -> JSONResponse:
        """The whole response."""
        adapted = self.adapt(refusal)
        wait = {} if adapted.retry_after_s is None else {"retry-after": f"{max(math.ceil(adapted.retry_after_s), 1)}"}
        return JSONResponse(self.body(adapted), adapted.status, {**wait, **(headers or {})})


def _classic_body(refusal: Refusal) -> dict[str, Any]:
    return dataclasses.asdict(Error(refusal.message, refusal.error_type))


def _as_tgi(refusal: Refusal) -> Refusal:
    if refusal.error_type == "validation":
        message = refusal.message if refusal.message.startswith(_TGI_PREFIX) else _TGI_PREFIX + refusal.message
        return dataclasses.replace(refusal, status=422, message=message)
    if refusal.error_type == "backend":
        message = f"Request failed during generation: {refusal.message}"
        return dataclasses.replace(refusal, status=424, message=message, error_type="generation")
    return refusal


def _as_tei(refusal: Refusal) -> Refusal:
    status = {"validation": 422, "backend": 424}.get(refusal.error_type, refusal.status)
    return dataclasses.replace(refusal, status=status)


def _cohere_body(refusal: Refusal) -> dict[str, Any]:
    return {"message": refusal.message, **_classic_body(refusal)}


def _oip_body(refusal: Refusal) -> dict[str, Any]:
    return {"error": refusal.message}


def _as_openai(refusal: Refusal) -> Refusal:
    status = 422 if refusal.error_type == "validation" or refusal.status == 424 else refusal.status
    code = _OPENAI_CODES.get(refusal.error_type, refusal.error_type)
    return dataclasses.replace(refusal, status=status, error_type=code)


def _openai_body(refusal: Refusal) -> dict[str, Any]:
    kind = _OPENAI_KINDS.get(refusal.status, "invalid_request_error")
    error = {"message": refusal.message, "type": kind, "param": refusal.field, "code": refusal.error_type}
    # the number is for events in a stream, which have no other status
    return {"error": {**error, "http_status_code": refusal.status}}


CLASSIC = Dialect(lambda refusal: refusal, _classic_body)
TGI = Dialect(_as_tgi, _classic_body)
TEI = Dialect(_as_tei, _classic_body)
COHERE = Dialect(_as_tei, _cohere_body)
OPENAI = Dialect(_as_openai, _openai_body)
OIP = Dialect(lambda refusal: refusal, _oip_body)


def speak(dialect: Dialect) -> Callable[[Request], Any]:
    """A dependency of routes that tell of errors in this dialect."""

    async def depend(request: Request) -> None:
        request.state.dialect = dialect

    return depend


def dialect_of(scope: Scope) -> Dialect:
    """The dialect of a request's route, or of its path where no route has said so."""
    dialect: Dialect | None = scope.get("state", {}).get("dialect")
    return dialect or (OPENAI if _OPENAI_PATHS.fullmatch(scope["path"]) else CLASSIC)


def refuse(error: Exception, request_id: str) -> Refusal:
    """What to say of an error: of one that nobody raised on purpose only the id under which the log has it.

    Errors that are not the caller's are logged here.
    """
    status, error_type = next(STATUSES[cls] for cls in type(error).__mro__ if cls in STATUSES)
    current_account().error_type = error_type
    if not isinstance(error, OnnxpipeError):
        _log.error("request %s failed", request_id, exc_info=error)
        return unforeseen(request_id)
    if status == 500:
        _log.error("request %s: %s", request_id, error, exc_info=error)
    message = _KNOWN_WORDS.get(type(error), str(error))
    if message != str(error):
        _log.info("request %s: %s", request_id, error)
    return Refusal(
        status,
        message,
        error_type,
        error.path if isinstance(error, FieldError) else None,
        error.retry_after_s if isinstance(error, Overloaded | DeadlineExceeded) else None,
    )


def unforeseen(request_id: str) -> Refusal:
    """What to say of a bug."""
    status, error_type = STATUSES[Exception]
    return Refusal(status, f"unknown error (request {request_id})", error_type)


def add_error_handlers(app: FastAPI) -> None:
    """Answer the errors raised on purpose, by onnxpipe and by the router, in the dialect of their route."""
    app.add_exception_handler(OnnxpipeError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)


async def _answer_error(request: Request, error: Exception) -> JSONResponse:
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if isinstance(error, MalformedAudio | MalformedImage) and not _KNOWN_TYPES.fullmatch(declared):
        error = UnsupportedMedia(f"{error}; it was declared as {declared!r}, which is not known here")
    return dialect_of(request.scope).respond(refuse(error, request.state.request_id))


async def _answer_http_exception(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):  # the handler's type is wider than what it is registered for
        raise error
    phrase = HTTPStatus(error.status_code).phrase
    message = f"{phrase}: {request.method} {request.url.path}; /docs lists the routes"
    dialect = dialect_of(request.scope)
    error_type = "unknown_url" if dialect is OPENAI and error.status_code == 404 else phrase.lower().replace(" ", "_")
    current_account().error_type = error_type
    return dialect.respond(Refusal(error.status_code, message, error_type), error.headers)
