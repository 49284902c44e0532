"""Requests that need a model which is not in memory: held until it is, then begun again."""

import asyncio
import math
import time
from collections import deque
from typing import Any

import orjson
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onnxpipe.errors import DeadlineExceeded, OnnxpipeError, Overloaded
from onnxpipe_server.lifecycle import Lifecycle, begin_hold
from onnxpipe_server.on_demand import Hold, NotLoaded, OnDemand
from onnxpipe_server.settings import Settings
from onnxpipe_server.status import Loading, dialect_of, refuse

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


class Gate:
    """Holds requests for `load_wait` seconds, or for the time a request may take where it asks to wait."""

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle, settings: Settings) -> None:
        self._app = app
        self._lifecycle = lifecycle
        self._settings = settings
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request, again and again until the model it needs is there; answer it when that takes too long."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        replay, hold, begin = Replay(receive), begin_hold(), time.monotonic()
        before = dict(scope)
        try:
            while True:
                try:
                    await self._app(scope, replay.receive, send)
                except NotLoaded as missing:
                    if not await self._admit(missing.model, hold, scope, replay, begin, send):
                        return
                    scope.clear()
                    scope.update(before)
                    replay.rewind()
                else:
                    return
        finally:
            self._lifecycle.release(hold)

    async def _admit(
        self, model: OnDemand, hold: Hold, scope: Scope, replay: "Replay", begin: float, send: Send
    ) -> bool:
        """Whether the model has come while the client waited; if not, it has been answered where it is still there."""
        self._lifecycle.want(hold, model)
        try:
            return await self._wait(model, Headers(scope=scope), replay, begin)
        except OnnxpipeError as error:
            await self._refuse(error, scope, replay, send)
            return False

    async def _wait(self, model: OnDemand, headers: Headers, replay: "Replay", begin: float) -> bool:
        """Whether it is there; False when the client has left. Raises Loading, DeadlineExceeded, or why it failed."""
        if headers.get("x-load-model", "").lower() in _FALSE and model.loading is None:
            raise self._loading(model)
        if self._held >= self._settings.max_waiting:
            raise Overloaded(
                f"Model is overloaded: {self._held} requests wait for models already; try again later",
                retry_after_s=self._lifecycle.estimate_s(model),
            )
        self._held += 1
        try:
            loaded = asyncio.wrap_future(self._lifecycle.start(model))
            patient = await self._is_patient(headers, replay)
            limit_s = self._settings.request_timeout if patient else self._settings.load_wait
            gone = asyncio.ensure_future(replay.until_gone())
            try:
                left_s = max(begin + limit_s - time.monotonic(), 0)
                both: list[asyncio.Future[Any]] = [loaded, gone]  # of what has come, and of nothing
                done, _ = await asyncio.wait(both, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                gone.cancel()
        finally:
            self._held -= 1
        if loaded in done:
            if error := loaded.result():
                raise error
            return True
        if gone in done:
            return False
        if patient:
            raise DeadlineExceeded(
                f"Request timed out after {limit_s} s: {model.id} is still loading",
                retry_after_s=self._lifecycle.estimate_s(model),
            )
        raise self._loading(model)

    def _loading(self, model: OnDemand) -> Loading:
        return Loading(f"Model {model.id} is currently loading", retry_after_s=self._lifecycle.estimate_s(model))

    async def _is_patient(self, headers: Headers, replay: "Replay") -> bool:
        """Whether the request asks to wait, by its header, else by its options."""
        given = headers.get("x-wait-for-model", "").lower()
        if given in _TRUE or given in _FALSE:
            return given in _TRUE
        try:
            async with asyncio.timeout(self._settings.body_timeout):
                body = await replay.read(self._settings.max_media_bytes)
        except TimeoutError:  # the route says so
            return False
        if body.lstrip()[:1] != b"{" or b"wait_for_model" not in body:
            return False
        try:
            options = orjson.loads(body).get("options")  # an object, as its first character says
        except orjson.JSONDecodeError:
            return False
        return isinstance(options, dict) and str(options.get("wait_for_model")).lower() in _TRUE

    async def _refuse(self, error: OnnxpipeError, scope: Scope, replay: "Replay", send: Send) -> None:
        dialect = dialect_of(scope)
        request_id = scope.get("state", {}).get("request_id", "")
        if isinstance(error, Loading):
            wait_s = error.retry_after_s
            refusal = dialect.adapt(refuse(error, request_id))
            body = {**dialect.body(refusal), "estimated_time": round(wait_s, 3)}
            answer = JSONResponse(body, refusal.status, {"retry-after": f"{max(math.ceil(wait_s), 1)}"})
        else:
            answer = dialect.respond(refuse(error, request_id))
        await answer(scope, replay.receive, send)


class Replay:
    """A request's messages, from the first one again after `rewind`."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._seen: list[Message] = []
        self._again: deque[Message] = deque()

    async def receive(self) -> Message:
        """The next message."""
        if self._again:
            return self._again.popleft()
        message = await self._receive()
        self._seen.append(message)
        return message

    def rewind(self) -> None:
        """Begin again."""
        self._again = deque(self._seen)

    async def read(self, most_bytes: int) -> bytes:
        """The body, or its beginning when it has more bytes than that."""
        self.rewind()
        parts, size = [], 0
        while size <= most_bytes:
            message = await self.receive()
            if message["type"] != "http.request":
                break
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if not message.get("more_body", False):
                break
        return b"".join(parts)

    async def until_gone(self) -> None:
        """Returns when the client has left. The body has been read before, or is too large to be."""
        while (await self.receive())["type"] != "http.disconnect":
            pass
