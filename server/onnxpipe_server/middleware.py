"""What holds for every request, whatever its route: an id, no trailing slash, and an answer even to a bug."""

import logging
import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onnxpipe_server.status import dialect_of, unforeseen

_log = logging.getLogger(__name__)
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestGuard:
    """Tags each answer with an x-request-id, the client's own if it is fit for a log, and catches what nobody did.

    Not an exception handler of the application: that one would answer outside of the CORS middleware, so that a
    browser could not read it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request. Raises only what comes up after the answer has begun."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _SANE_ID.fullmatch(given) else str(uuid.uuid4())
        scope.setdefault("state", {})["request_id"] = request_id
        scope["path"] = scope["path"].rstrip("/") or "/"
        started = False

        async def send_tagged(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_tagged)
        except Exception:
            _log.exception("request %s failed: %s %s", request_id, scope["method"], scope["path"])
            if started:
                raise
            await dialect_of(scope).respond(unforeseen(request_id))(scope, receive, send_tagged)
