"""Connections of clients that are slow, say too much, or nothing at all: none of them costs more than its socket."""

import asyncio
from typing import Any, cast

import orjson
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from onnxpipe_server.settings import Settings

_TOO_LARGE = "the request's headers are too large: at most {0.max_header_bytes} bytes and {0.max_headers} are accepted"


def protocol_of(settings: Settings) -> "type[asyncio.Protocol]":
    """The protocol that uvicorn shall speak, under the limits of the settings."""
    return cast("type[asyncio.Protocol]", type("Connection", (Connection,), {"settings": settings}))


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP with limits that it has not: on the size of a request's head and how long it takes to come, on how
    long an answer may wait for its reader, and on how many connections there are. Each answer is JSON.
    """

    settings: Settings

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head_bytes = 0
        self._wants_head = True
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Wait for the head of a request, but not for ever."""
        super().connection_made(transport)
        if len(self.connections) > self.settings.max_connections:
            self._refuse(503, "overloaded", f"{self.settings.max_connections} connections are open; try again later")
            return
        self._start("head", self.settings.header_timeout, self._give_up_head)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        for timer in self._timers.values():
            timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, under the limits."""
        if self._wants_head:
            self._head_bytes += len(data)
            self._start("head", self.settings.header_timeout, self._give_up_head)
        super().data_received(data)
        if self._wants_head and self._head_bytes > self.settings.max_header_bytes:
            self._refuse(431, "too_large", _TOO_LARGE.format(self.settings))

    def on_headers_complete(self) -> None:
        """Begin the request, or refuse it."""
        self._stop("head")
        self._wants_head = False
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self.settings.max_header_bytes or len(self.headers) > self.settings.max_headers:
            # uvicorn begins what it takes for the application
            self.app = cast("Any", _refuse_head(self.settings))
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """What comes next is the head of another request."""
        super().on_message_complete()
        self._wants_head, self._head_bytes = True, 0

    def pause_writing(self) -> None:
        """The client does not read: wait a while."""
        super().pause_writing()
        self._start("answer", self.settings.send_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        self._stop("answer")
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close, and do not wait for ever until the client has read what it was sent."""
        super().timeout_keep_alive_handler()
        self._start("close", self.settings.send_timeout, self.transport.abort)

    def on_response_complete(self) -> None:
        """The same where the connection ends with an answer."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._start("close", self.settings.send_timeout, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is answered in JSON too."""
        self._refuse(400, "validation", msg)

    def _give_up_head(self) -> None:
        self._stop("head")
        if self._is_answering():  # what came may be the line end that some clients send behind a body
            self._start("head", self.settings.header_timeout, self._give_up_head)
        elif self._head_bytes:
            self._refuse(408, "timeout", f"no whole request came within {self.settings.header_timeout} s")
        else:
            self.transport.close()

    def _refuse(self, status: int, error_type: str, message: str) -> None:
        """Answer in the place of the application, and close."""
        if self.transport.is_closing():
            return
        # an answer that has begun may not be mixed with another
        if not self._is_answering():
            body = orjson.dumps({"error": message, "error_type": error_type})
            wait = b"retry-after: 1\r\n" if status == 503 else b""
            self.transport.write(
                STATUS_LINE[status]
                + b"content-type: application/json\r\nconnection: close\r\n"
                + wait
                + b"content-length: %d\r\n\r\n" % len(body)
                + body
            )
        self.transport.close()
        self._start("close", self.settings.send_timeout, self.transport.abort)

    def _is_answering(self) -> bool:
        cycle = cast("Any", self.cycle)  # None before the first request, whatever its annotation says
        return cycle is not None and not cycle.response_complete

    def _start(self, name: str, seconds: float, act: Any) -> None:  # a callback of no arguments
        if name not in self._timers:
            self._timers[name] = self.loop.call_later(seconds, act)

    def _stop(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()


def _refuse_head(settings: Settings) -> ASGIApp:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        error = {"error": _TOO_LARGE.format(settings), "error_type": "too_large"}
        await JSONResponse(error, 431, {"connection": "close"})(scope, receive, send)

    return refuse
