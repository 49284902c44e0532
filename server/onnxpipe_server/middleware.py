"""What holds for every request, whatever its route: an id, no trailing slash, a body that comes, an account of it all,
and an answer even to a bug.
"""

import asyncio
import logging
import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onnxpipe_server.explain import Account, account_for
from onnxpipe_server.logs import log_request
from onnxpipe_server.metrics import Metrics
from onnxpipe_server.status import STATUSES, BodyTooSlow, dialect_of, unforeseen
from onnxpipe_server.traces import Traces

_log = logging.getLogger(__name__)
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# A body may take as long as it does at this rate, beside the pause that it may make.
_SLOWEST_BYTES_PER_S = 16_000
# Made for probes all day: worth a line only to those who look for every detail.
_QUIET_PATHS = ("/health", "/health/live", "/health/ready", "/ping", "/metrics", "/v2/health/live", "/v2/health/ready")
_NO_ANSWER = 499
_BODY_TOO_SLOW = STATUSES[BodyTooSlow][0]


class RequestGuard:
    """Tags each answer with an x-request-id, the client's own if it is fit for a log, and catches what nobody did.

    A request that is over has a line in the log and is counted; one that comes with `x-onnxpipe-explain: 1` is told in
    the header of that name what it was answered with. Not an exception handler of the application: that one would
    answer outside of the CORS middleware, so that a browser could not read it.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics | None = None,
        body_timeout_s: float = 30.0,
        traces: Traces | None = None,
    ) -> None:
        self._app = app
        self._metrics = metrics or Metrics()
        self._body_timeout_s = body_timeout_s
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request. Raises only what comes up after the answer has begun."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope)
        given = asked.get("x-request-id", "")
        account = Account(given if _SANE_ID.fullmatch(given) else str(uuid.uuid4()))
        scope.setdefault("state", {})["request_id"] = account.request_id
        scope["path"] = scope["path"].rstrip("/") or "/"
        explains = asked.get("x-onnxpipe-explain", "").lower() in ("1", "true")
        status = 0

        async def send_tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = account.request_id
                if explains:
                    headers["x-onnxpipe-explain"] = account.header()
                if status == _BODY_TOO_SLOW:
                    headers["connection"] = "close"  # what is left of the body would be taken for a request
            await send(message)

        self._metrics.lag.begin()
        with account_for(account):
            try:
                await self._app(scope, in_time(receive, self._body_timeout_s), send_tagged)
            except Exception:
                _log.exception("request %s failed: %s %s", account.request_id, scope["method"], scope["path"])
                if status:
                    raise
                account.error_type = "internal"
                await dialect_of(scope).respond(unforeseen(account.request_id))(scope, receive, send_tagged)
            finally:
                self._metrics.note(account, status or _NO_ANSWER)
                if scope["path"] not in _QUIET_PATHS:
                    log_request(account, scope["method"], scope["path"], status or _NO_ANSWER)
                    if self._traces is not None:
                        self._traces.note(account, scope, status or _NO_ANSWER)


def in_time(receive: Receive, pause_s: float) -> Receive:
    """The same, but it raises BodyTooSlow for a body that pauses longer, or is slower than any network has to be."""
    loop = asyncio.get_running_loop()
    begun, received, complete = loop.time(), 0, False

    async def receive_in_time() -> Message:
        nonlocal received, complete
        if complete:
            return await receive()
        try:
            until = min(loop.time(), begun + received / _SLOWEST_BYTES_PER_S) + pause_s
            async with asyncio.timeout_at(until):
                message = await receive()
        except TimeoutError:
            raise BodyTooSlow(
                f"the body did not come: {received} bytes in {loop.time() - begun:.0f} s, and no end; send it faster"
            ) from None
        received += len(message.get("body", b""))
        complete = not message.get("more_body", False)
        return message

    return receive_in_time
