"""Requests to an application without a socket, of clients that may walk away or take what is sent slowly."""

import asyncio
import json
from collections.abc import Callable

import httpx
from starlette.types import ASGIApp, Message


async def post(app: ASGIApp, path: str = "/", body: object = None) -> httpx.Response:
    """The whole answer."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as client:
        return await client.post(path, json=body)


class Visit:
    """A request of a client that can walk away, and takes what is sent only when it likes to."""

    def __init__(self, app: ASGIApp, path: str = "/", body: object = None) -> None:
        self.app, self.path, self.body = app, path, json.dumps(body).encode()
        self.messages: list[Message] = []
        self.left = asyncio.Event()
        self.taking = asyncio.Event()
        self.taking.set()
        self._sent = False

    async def _receive(self) -> Message:
        if not self._sent:
            self._sent = True
            return {"type": "http.request", "body": self.body}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self.taking.wait()
        self.messages.append(message)

    async def run(self) -> None:
        scope = {
            "type": "http",
            "method": "POST",
            "path": self.path,
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
        }
        await asyncio.wait_for(self.app(scope, self._receive, self._send), 10)


async def until(condition: Callable[[], object]) -> None:
    """Ends when the condition holds; that it does within some seconds is certain, or an error."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to that")
