"""The threads that tokenise and infer, so that the event loop never does."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from starlette.requests import Request
from starlette.types import Receive

from onnxpipe.errors import Cancelled, Overloaded
from onnxpipe.records import FieldError, show
from onnxpipe_server.threads import Place, Threads
from onnxpipe_server.tickets import Ticket, working_for

T = TypeVar("T")

# A body from here on may take a multiple of it in memory before its rows are made.
LARGE_BYTES = 100_000
# Seconds after which a request is slow enough to see whether its client still waits.
_MOMENT = 0.05
# What an answer adds to the measured time between answers: the last fifty count for the most.
_MEMORY = 0.98


class Workers:
    """At most `max_running` pieces of work at once, each in a thread, and at most `max_waiting` that wait for one.

    Of large requests at most `max_large` are worked on, for each takes memory before the model sees it. A request may
    take `timeout_s` from when it came, or what its x-request-timeout says.
    """

    def __init__(
        self, max_running: int, max_waiting: int, *, max_large: int = 1, timeout_s: float | None = None
    ) -> None:
        self._lines = Line(max_running, max_waiting), Line(max_large, max_waiting)
        self._timeout_s = timeout_s

    def load(self) -> tuple[int, int]:
        """How many are worked on, and how many wait."""
        return sum(line.threads.running for line in self._lines), sum(line.threads.waiting for line in self._lines)

    async def run(self, work: Callable[[], T], place: Place | None = None) -> T:
        """What `work` returns. Raises Overloaded when too many wait already, Cancelled when it gives up its place."""
        line = self._lines[0]
        line.admit()
        return await line.threads.run(work, place)

    async def answer(self, request: Request, work: Callable[[], T], *, large: bool = False) -> T:
        """What `work` returns for a request whose body has been read; its ticket is also in the request's state.

        Raises Overloaded as `run` does, or when too many wait for an answer in time; Cancelled and DeadlineExceeded
        when the client leaves or the time is over before the model has run.
        """
        timeout_s = read_timeout(request.headers, self._timeout_s)
        ticket = Ticket(None if timeout_s is None else time.monotonic() + timeout_s, timeout_s or 0.0)
        request.state.ticket = ticket
        line = self._lines[large]
        line.admit(timeout_s)
        loop = asyncio.get_running_loop()
        watch = Watch(request.receive, ticket)
        timer = loop.call_later(_MOMENT, watch.begin)

        def in_thread() -> T:
            ticket.check()
            with working_for(ticket):
                return work()

        try:
            return await line.threads.run(in_thread, watch.place)
        except Cancelled:
            ticket.check()  # its time may be what is over
            raise
        finally:
            timer.cancel()
            watch.end()
            line.measure(loop.time())


class Line:
    """Work in threads, and work that waits for one."""

    def __init__(self, max_running: int, max_waiting: int) -> None:
        self.threads = Threads(max_running)
        self._max_waiting = max_waiting
        self._answered = 0.0  # when the last answer was given
        self._interval_s = 0.0  # between answers, while others wait for a thread

    def admit(self, timeout_s: float | None = None) -> None:
        """Raise Overloaded when there is no room for one more, or when all those before it take too long."""
        if self.threads.running < self.threads.count:
            return
        waiting = self.threads.waiting
        wait_s = self._interval_s * waiting
        if waiting >= self._max_waiting:
            raise Overloaded(
                f"Model is overloaded: {waiting} requests wait already; try again later",
                retry_after_s=wait_s,
            )
        if timeout_s is not None and wait_s > timeout_s:
            raise Overloaded(
                f"Model is overloaded: an answer within {timeout_s:g} s is not to be expected, with "
                f"{waiting} requests waiting; try again later",
                retry_after_s=wait_s,
            )

    def measure(self, now: float) -> None:
        """Take note that an answer was given."""
        if self.threads.waiting:
            self._interval_s = self._interval_s * _MEMORY + (now - self._answered) * (1 - _MEMORY)
        self._answered = now


class Watch:
    """Sees when the client of a slow request leaves, and when its time is over."""

    def __init__(self, receive: Receive, ticket: Ticket) -> None:
        self.place = Place()
        self._receive = receive
        self._ticket = ticket
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Begin to look."""
        self._task = asyncio.ensure_future(self._look())

    def end(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()

    async def _look(self) -> None:
        with contextlib.suppress(TimeoutError):  # then the ticket is dead by its deadline
            async with asyncio.timeout(self._ticket.remaining_s()):
                while (await self._receive())["type"] != "http.disconnect":
                    pass
            self._ticket.cancel()
        self.place.give_up()


def read_timeout(headers: Mapping[str, str], default_s: float | None) -> float | None:
    """The seconds a request may take, by its header, at most the default. Raises FieldError."""
    given = headers.get("x-request-timeout")
    if given is None:
        return default_s
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise FieldError("x-request-timeout", f"expected seconds above 0, given {show(given)}")
    return seconds if default_s is None else min(seconds, default_s)
