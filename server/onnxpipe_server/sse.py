"""Answers that are made step by step: server-sent events, and any other answer whose work a client may walk away from.

What is iterated does its work in the thread that asks for the next item (the token loop has no thread of its own), so
one worker thread iterates, and hands what comes to the event loop. When the client leaves, when an answer is complete
and when the server stops, the thread finishes the step it is in, closes the iterator, and is given back.
"""

import asyncio
import collections
import contextlib
import dataclasses
import threading
from collections.abc import Callable, Generator, Mapping
from typing import Generic, TypeVar

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from onnxpipe.errors import Cancelled
from onnxpipe_server.status import dialect_of, refuse
from onnxpipe_server.threads import Place
from onnxpipe_server.workers import Workers

T = TypeVar("T")

# What may be ready before the client has taken it; a slow client slows its own text down, not the event loop.
_AHEAD = 32
_EVENT_HEADERS = {"content-type": "text/event-stream", "cache-control": "no-cache", "x-accel-buffering": "no"}


@dataclasses.dataclass(frozen=True)
class Opening:
    """What begins a stream of events: its headers beside those that every stream has."""

    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


# What an answer is made of: either a response, or an opening and then events. None is a step without any of them.
Part = Response | Opening | bytes | None
Parts = Generator[Part, None, None]


def event(data: object) -> bytes:
    """A server-sent event with JSON."""
    return b"data: " + orjson.dumps(data) + b"\n\n"


class Reply(Response):
    """The response that `parts` make, which are iterated in a worker thread from when the response is asked for.

    What they raise before the first event is an error like any other; later it becomes an event in the dialect of the
    route, and the last one.
    """

    def __init__(self, workers: Workers, parts: Callable[[], Parts]) -> None:
        super().__init__()
        self._workers = workers
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer. Raises what the parts do before the first event, Cancelled when the client left before it."""
        feed: Feed[Response | Opening | bytes] = Feed(self._workers, self._parts)
        watch = asyncio.create_task(_until_gone(receive))
        watch.add_done_callback(lambda _: feed.give_up())
        try:
            await _answer(feed, scope, receive, send)
        finally:
            watch.cancel()
            await feed.close()


class Feed(Generic[T]):
    """The items of a generator that are not None, made in a worker thread and taken in the event loop."""

    def __init__(self, workers: Workers, make: Callable[[], Generator[T | None, None, None]]) -> None:
        self._workers = workers
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._items: collections.deque[T] = collections.deque()
        self._changed = asyncio.Event()
        self._room = threading.Semaphore(_AHEAD)
        self._given_up = False
        self._place = Place()
        self._work = asyncio.create_task(self._run())
        self._work.add_done_callback(lambda _: self._changed.set())

    async def take(self) -> T | None:
        """The next item, None behind the last. Raises what the generator does; Cancelled when it was given up."""
        while True:
            if self._given_up:
                raise Cancelled("the client left before its answer was complete")
            if self._items:
                self._room.release()
                return self._items.popleft()
            if self._work.done():
                self._work.result()
                return None
            self._changed.clear()
            await self._changed.wait()

    def give_up(self) -> None:
        """Let the work end after the step that it is in, or before it begins."""
        self._given_up = True
        self._room.release()
        self._place.give_up()
        self._changed.set()

    async def close(self) -> None:
        """Give up, and wait until the thread is free."""
        self.give_up()
        await asyncio.wait([self._work])
        if not self._work.cancelled():
            self._work.exception()  # whatever it was, nobody wants it any more

    async def _run(self) -> None:
        await self._workers.run(self._iterate, self._place)

    def _iterate(self) -> None:
        """In the worker thread."""
        with contextlib.closing(self._make()) as items:
            for item in items:
                if item is not None:
                    self._room.acquire()
                    self._loop.call_soon_threadsafe(self._put, item)
                if self._given_up:
                    return

    def _put(self, item: T) -> None:
        self._items.append(item)
        self._changed.set()


async def _until_gone(receive: Receive) -> None:
    """Returns when the client has left. The body has been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(feed: Feed[Response | Opening | bytes], scope: Scope, receive: Receive, send: Send) -> None:
    head = await feed.take()
    if isinstance(head, Response):
        await head(scope, receive, send)
        return
    if not isinstance(head, Opening):
        raise TypeError(f"expected a response or an opening first, given {type(head).__name__}")
    chunk = await feed.take()  # so that what fails before the first event still has a status
    headers = [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in {**_EVENT_HEADERS, **head.headers}.items()
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while chunk is not None:
        if not isinstance(chunk, bytes):
            raise TypeError(f"expected an event, given {type(chunk).__name__}")
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        try:
            chunk = await feed.take()
        except Cancelled:
            return
        except Exception as error:  # noqa: BLE001 - told to the client, and logged where it is a bug
            chunk = _failure(error, scope)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            break
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _failure(error: Exception, scope: Scope) -> bytes:
    dialect = dialect_of(scope)
    return event(dialect.body(dialect.adapt(refuse(error, scope["state"]["request_id"]))))
