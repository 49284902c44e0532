"""Rows of a request on their way through a model's queue: what they are, which share a run, and what came of them."""

import collections
import dataclasses
import threading
import time
from collections.abc import Sequence

from onnxpipe.batching import Row, Shapes, rigid_shapes, row_size
from onnxpipe.bundle import Graph
from onnxpipe.session import Arrays
from onnxpipe_server.tickets import Ticket

# Elements, or the share of its length, by which a row may be padded in a batch: beyond that a run of its own costs less
# (16 tokens of MiniLM cost as much time alone as 37 of a batch).
_PADDING, _PADDED_SHARE = 16, 1 / 16
# What a run adds to the measured speed: the last fifty count for the most.
_MEMORY = 0.98


@dataclasses.dataclass(frozen=True, eq=False)
class Queued:
    """A row in a queue: number `index` of those that a submission brings."""

    owner: "Submission"
    index: int
    row: Row
    size: int
    shapes: Shapes


class Submission:
    """Rows of a request, and what came of them. All but `rows` is read and changed under the queue's lock."""

    def __init__(self, ticket: Ticket, graph: Graph, rows: Sequence[Row], lock: threading.Lock) -> None:
        self.ticket = ticket
        sized = [
            Queued(self, index, row, row_size(row, graph), rigid_shapes(row, graph)) for index, row in enumerate(rows)
        ]
        # those of one length come one after the other
        self.to_bring = collections.deque(sorted(sized, key=lambda queued: (queued.shapes, queued.size)))
        self.elements = sum(queued.size for queued in sized)
        self.bytes = sum(array.nbytes for row in rows for array in row.values())
        self.ahead = self.elements_ahead = 0  # in the queue or in a run
        self.outputs: list[tuple[int, Arrays]] = []
        self.error: Exception | None = None
        self.changed = threading.Condition(lock)
        self.waits = False  # nobody but itself can make it go on
        self.leads = False  # it has a run to make
        self.closed = False

    @property
    def can_go_on(self) -> bool:
        """Whether there is something to take, to make or to raise."""
        return bool(self.outputs) or self.leads or self.error is not None or self.ticket.is_dead

    def deliver(self, queued: Queued, outcome: Arrays | Exception) -> None:
        """Take what came of one of the rows, unless nobody wants it any more."""
        self.ahead -= 1
        self.elements_ahead -= queued.size
        if self.closed:
            return
        self.ticket.rows += 1
        if isinstance(outcome, Exception):
            self.error = outcome
        else:
            self.outputs.append((queued.index, outcome))


def choose_batch(waiting: Sequence[Queued], limit: int) -> list[Queued]:
    """Rows for one run: the first, and those nearest to it in length, as long as they pad each other little.

    Longest x count is at most `limit`, unless the first alone is longer.
    """
    first = waiting[0]
    batch, shortest, longest = [first], first.size, first.size
    candidates = [queued for queued in waiting[1:] if queued.shapes == first.shapes]
    for queued in sorted(candidates, key=lambda queued: abs(queued.size - first.size)):
        low, high = min(shortest, queued.size), max(longest, queued.size)
        if high - low <= max(_PADDING, _PADDED_SHARE * high) and high * (len(batch) + 1) <= limit:
            batch.append(queued)
            shortest, longest = low, high
    return batch


class Speed:
    """Elements per second while there are runs; the last ones count for the most. Under the queue's lock."""

    def __init__(self) -> None:
        self._elements = self._seconds = 0.0
        self._runs = 0
        self._counted_until = 0.0

    def begin(self) -> float:
        """When a run begins: now."""
        now = time.perf_counter()
        if not self._runs:
            self._counted_until = now
        self._runs += 1
        return now

    def end(self, begin: float, elements: int) -> float:
        """How long a run took that ends now."""
        now = time.perf_counter()
        self._elements = self._elements * _MEMORY + elements
        self._seconds = self._seconds * _MEMORY + now - self._counted_until
        self._counted_until = now
        self._runs -= 1
        return now - begin

    def seconds(self, elements: int) -> float:
        """How long so many may take; 0 before anything has run."""
        return elements * self._seconds / self._elements if self._elements else 0.0
