"""What one request may still cost and what it has cost, at hand wherever its thread works for it."""

import contextlib
import contextvars
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

from onnxpipe.errors import Cancelled, DeadlineExceeded


@dataclasses.dataclass(eq=False)
class Ticket:
    """A request at work. `deadline` is on the clock of `time.monotonic`, `timeout_s` how long that was from the start.

    Of its rows that ran: how many, the largest batch that one was in, the elements of those batches and how many of
    them were padding; how long their runs took, and how long the request waited for outputs in all.
    """

    deadline: float | None = None
    timeout_s: float = 0.0
    rows: int = 0
    batch_rows: int = 0
    elements: int = 0
    padding: int = 0
    run_ms: float = 0.0
    infer_ms: float = 0.0
    cancelled: bool = False
    admitted: bool = False  # whether its first rows have been let in; the others follow
    wake: Callable[[], None] | None = None  # reaches its thread while that waits

    @property
    def is_dead(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.cancelled or (self.deadline is not None and time.monotonic() >= self.deadline)

    @property
    def queue_ms(self) -> float:
        """How long none of its rows ran while it waited for them; 0 where several ran side by side."""
        return max(self.infer_ms - self.run_ms, 0.0)

    @property
    def padded_share(self) -> float:
        """The share of padding in the batches its rows were in."""
        return self.padding / self.elements if self.elements else 0.0

    def remaining_s(self) -> float | None:
        """Seconds until the deadline, at least 0; None without one."""
        return None if self.deadline is None else max(self.deadline - time.monotonic(), 0.0)

    def check(self) -> None:
        """Raise Cancelled or DeadlineExceeded when it is dead."""
        if self.cancelled:
            raise Cancelled("the client left before its answer was complete")
        if self.is_dead:
            raise DeadlineExceeded(f"Request timed out after {self.timeout_s:g} s")

    def note_run(self, sizes: Sequence[int], run_s: float) -> None:
        """Take note of a run that some of its rows were in, with rows of those sizes."""
        elements = max(sizes) * len(sizes)
        self.batch_rows = max(self.batch_rows, len(sizes))
        self.elements += elements
        self.padding += elements - sum(sizes)
        self.run_ms += 1e3 * run_s

    def cancel(self) -> None:
        """Let its work end as soon as it waits, or before it begins. From any thread."""
        self.cancelled = True
        # read after the line above and set before `cancelled` is looked at: one of both threads sees the other's
        if (wake := self.wake) is not None:
            wake()


_current: contextvars.ContextVar[Ticket | None] = contextvars.ContextVar("ticket", default=None)


def current_ticket() -> Ticket:
    """The ticket of the request that this thread works for; a new one without limits where it works for none."""
    return _current.get() or Ticket()


def check_current() -> None:
    """Raise what the current ticket does when it is dead."""
    current_ticket().check()


@contextlib.contextmanager
def working_for(ticket: Ticket) -> Iterator[None]:
    """Makes it the current one."""
    token = _current.set(ticket)
    try:
        yield
    finally:
        _current.reset(token)
