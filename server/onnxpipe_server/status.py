"""Errors and the HTTP statuses they are answered with: one table for every route."""

import dataclasses
import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from onnxpipe.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidInput,
    OnnxpipeError,
    Overloaded,
    UnprocessableInput,
)

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


class NotFinite(OnnxpipeError, ArithmeticError):
    """The model answered with NaN or infinity, which JSON cannot say."""


# error class -> (status, error_type); an error is answered as the nearest of its classes
STATUSES: Mapping[type[BaseException], tuple[int, str]] = {
    InvalidInput: (400, "validation"),
    UnknownModel: (404, "not_found"),
    BodyTooLarge: (413, "too_large"),
    UnprocessableInput: (422, "validation"),
    Overloaded: (429, "overloaded"),
    Cancelled: (499, "cancelled"),  # nginx's number for a client that left; it never sees the answer
    OnnxpipeError: (500, "backend"),  # a bundle, provider or model that does not work: the message tells which
    DeadlineExceeded: (504, "timeout"),
    Exception: (500, "internal"),
}
_RETRY_AFTER = {"retry-after": "1"}


def error_response(
    status: int, message: str, error_type: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The one shape of an error: a JSON object with two strings."""
    return JSONResponse(dataclasses.asdict(Error(message, error_type)), status, dict(headers or {}))


def unforeseen_response(request_id: str) -> JSONResponse:
    """The answer to a bug: nothing of its inside, but the id under which the log has the traceback."""
    status, error_type = STATUSES[Exception]
    return error_response(status, f"unknown error (request {request_id})", error_type)


def add_error_handlers(app: FastAPI) -> None:
    """Answer the errors raised on purpose, by onnxpipe and by the router, in that shape."""
    app.add_exception_handler(OnnxpipeError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)


async def _answer_error(request: Request, error: Exception) -> JSONResponse:
    status, error_type = next(STATUSES[cls] for cls in type(error).__mro__ if cls in STATUSES)
    if status == 500:
        _log.error("request %s: %s", request.state.request_id, error, exc_info=error)
    return error_response(status, str(error), error_type, _RETRY_AFTER if status == 429 else None)


async def _answer_http_exception(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):  # the handler's type is wider than what it is registered for
        raise error
    phrase = HTTPStatus(error.status_code).phrase
    message = f"{phrase}: {request.method} {request.url.path}; /docs lists the routes"
    return error_response(error.status_code, message, phrase.lower().replace(" ", "_"), error.headers)
