"""Threads that work for the event loop, and the line before them.

Beside `anyio.to_thread` a piece of work takes a third of the CPU to hand over, and its place in the line can be given
up apart from the work.
"""

import asyncio
import collections
import contextlib
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from onnxpipe.errors import Cancelled

T = TypeVar("T")


class Place:
    """Where a piece of work waits for a thread."""

    def __init__(self) -> None:
        self.given_up = False
        self._turn: asyncio.Future[None] | None = None

    def give_up(self) -> None:
        """End the wait; does nothing to work that has begun. From the event loop."""
        self.given_up = True
        if self._turn is not None:
            self._turn.cancel()

    async def wait(self, turn: asyncio.Future[None]) -> None:
        """Until it is its turn. Raises Cancelled when the place is given up before."""
        self._turn = turn
        try:
            if self.given_up:
                turn.cancel()
            await turn
        except asyncio.CancelledError:
            if self.given_up:
                raise Cancelled("the client left before its request was begun") from None
            raise
        finally:
            self._turn = None


class Threads:
    """At most so many threads, begun as they are needed, and those who wait for one, first come first served.

    All but the threads themselves belongs to one event loop.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.running = 0
        self._begun = 0
        self._line: collections.deque[asyncio.Future[None]] = collections.deque()
        self._tasks: queue.SimpleQueue[_Task] = queue.SimpleQueue()

    @property
    def waiting(self) -> int:
        """How many wait for a thread."""
        return len(self._line)

    async def run(self, work: Callable[[], T], place: Place | None = None) -> T:
        """What `work` returns, in a thread and in the caller's context. Raises what it does.

        Cancelled when its place is given up before it begins. Cancelling the caller does not end work that has begun.
        """
        if self.running < self.count:
            self.running += 1
        else:
            await self._queue_up(place or Place())
        if self._begun < self.running:
            self._begun += 1
            # daemons: a model that runs on when the server ends may not keep the process
            threading.Thread(target=_serve, args=(self._tasks,), name="onnxpipe-worker", daemon=True).start()
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._tasks.put((contextvars.copy_context(), work, done, self._leave))
        return await done

    async def _queue_up(self, place: Place) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await place.wait(turn)
        except BaseException:
            if turn.cancelled():
                with contextlib.suppress(ValueError):
                    self._line.remove(turn)
            else:
                self._leave()  # it was its turn, and it does not take it
            raise

    def _leave(self) -> None:
        """A thread is free: for the next in line, if there is any."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.running -= 1


_Task = tuple[contextvars.Context, Callable[[], Any], "asyncio.Future[Any]", Callable[[], None]]


def _serve(tasks: "queue.SimpleQueue[_Task]") -> None:
    """What a thread does as long as its process lives."""
    while True:
        context, work, done, leave = tasks.get()
        value, error = None, None
        try:
            value = context.run(work)
        except BaseException as raised:  # noqa: BLE001 - raised again where it is waited for
            # a future takes any other
            error = RuntimeError("StopIteration") if isinstance(raised, StopIteration) else raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            done.get_loop().call_soon_threadsafe(_finish, done, leave, value, error)
        del context, work, done, leave, value, error  # or they would stay until the next comes


def _finish(done: asyncio.Future[Any], leave: Callable[[], None], value: object, error: BaseException | None) -> None:
    leave()
    if done.done():  # whoever waited was cancelled
        return
    if error is None:
        done.set_result(value)
    else:
        done.set_exception(error)
