"""The threads that tokenise and infer, so that the event loop never does."""

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from onnxpipe.errors import Overloaded

T = TypeVar("T")


class Workers:
    """At most `max_running` pieces of work at once, each in a thread, and at most `max_waiting` that wait for one."""

    def __init__(self, max_running: int, max_waiting: int) -> None:
        self._limiter = CapacityLimiter(max_running)
        self._max_waiting = max_waiting

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns. Raises Overloaded when too many wait already."""
        load = self._limiter.statistics()
        if load.borrowed_tokens >= load.total_tokens and load.tasks_waiting >= self._max_waiting:
            raise Overloaded(f"the server is overloaded: {load.tasks_waiting} requests wait already; try again later")
        return await to_thread.run_sync(work, limiter=self._limiter)
