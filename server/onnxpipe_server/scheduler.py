"""Rows of many requests share the runs of a model.

There is no thread of its own: a request's thread brings its rows, and when a run is free to begin it takes a batch out
of the queue, its own rows and others', runs it and hands the outputs out; otherwise it waits until one that has done so
wakes it, with outputs or with the next run to make. So nothing waits while the machine is idle. Helping threads come
only for a request that has brought several rows which have to run one by one.
"""

import collections
import itertools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

from onnxpipe.batching import Row, max_elements, run_batch
from onnxpipe.bundle import Graph
from onnxpipe.errors import Overloaded
from onnxpipe.pipeline import Model
from onnxpipe.session import Arrays, Engine
from onnxpipe_server.engines import Engines
from onnxpipe_server.submissions import Queued, Speed, Submission, choose_batch
from onnxpipe_server.tickets import current_ticket

# Runs of batches at once: while one ends and its requests are answered, the next one keeps the cores busy.
_BATCH_RUNS = 2
# Runs of single rows at once for each core: threads that come out of a run, or are woken for one, wait for the
# interpreter.
_ROW_RUNS = 2
# Rows of one request that wait or run, for each core, where each runs alone.
_AHEAD = 4
# The oldest rows of a queue, among which a batch is chosen.
_WINDOW = 512


class Scheduler:
    """What the models of a server share: how many rows and bytes may wait, and how large a batch gets."""

    def __init__(self, *, max_rows: int = 4096, max_bytes: int = 2**28, max_batch_elements: int = 1024) -> None:
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self.max_batch_elements = max_batch_elements
        self.lock = threading.Lock()
        self.rows = self.bytes = 0  # let in and not answered; under the lock

    def runner(self, narrow: Mapping[str, Engine] | None = None) -> "Runner":
        """A `Model.runner`; `narrow` are engines of its graphs that run with one thread."""
        return Runner(self, narrow or {})

    def has_room(self, submission: Submission) -> bool:
        """Whether its rows may wait beside the others. Under the lock."""
        rows = self.rows + len(submission.to_bring)
        return rows <= self.max_rows and self.bytes + submission.bytes <= self.max_bytes


class Runner:
    """Runs rows of one model, for many threads at once; see `Model.runner`."""

    def __init__(self, scheduler: Scheduler, narrow: Mapping[str, Engine]) -> None:
        self._scheduler = scheduler
        self._narrow = narrow
        self._queues: dict[str, Queue] = {}

    def __call__(self, model: Model, graph: str, rows: Sequence[Row]) -> Iterator[tuple[int, Arrays]]:
        """Each row's index and outputs, as they come.

        Raises Overloaded when the rows do not fit beside those that wait or cannot be done in time, DeadlineExceeded
        and Cancelled as the current ticket says, and what the run of one of the rows raises.
        """
        with self._scheduler.lock:
            if graph not in self._queues:
                engines = Engines(model.sessions[graph], self._narrow.get(graph))
                together = model.variant.batch_invariant
                self._queues[graph] = Queue(self._scheduler, model.graph(graph), engines, together=together)
        return self._queues[graph].run(rows)


class Queue:
    """The rows of one graph that wait, and its runs. Its state is read and changed under the lock."""

    def __init__(self, scheduler: Scheduler, graph: Graph, engines: Engines, *, together: bool) -> None:
        self._scheduler = scheduler
        self._lock = scheduler.lock
        self._graph = graph
        self._engines = engines
        self._together = together
        self._most_runs = _ROW_RUNS * engines.wide.threads if engines.narrow else _BATCH_RUNS
        self._waiting: collections.deque[Queued] = collections.deque()
        self._runs = 0  # being made, and given to somebody to make
        self._elements = 0  # in the queue and in runs
        self._speed = Speed()

    def run(self, rows: Sequence[Row]) -> Iterator[tuple[int, Arrays]]:
        """See `Runner`."""
        if not rows:
            return
        ticket = current_ticket()
        ticket.check()
        submission = Submission(ticket, self._graph, rows, self._lock)
        self._admit(submission)
        outer, ticket.wake = ticket.wake, lambda: self._wake(submission)
        try:
            left = len(rows)
            while left:
                begin = time.perf_counter()
                outputs = self._next(submission)
                ticket.infer_ms += 1e3 * (time.perf_counter() - begin)
                left -= len(outputs)
                yield from outputs
        finally:
            ticket.wake = outer
            self._withdraw(submission, len(rows))

    def _admit(self, submission: Submission) -> None:
        scheduler, ticket = self._scheduler, submission.ticket
        with self._lock:
            # what follows the first rows of a request belongs to it; and where nothing waits anything may be tried
            if not ticket.admitted and self._elements:
                wait_s = self._speed.seconds(self._elements)
                if not scheduler.has_room(submission):
                    raise Overloaded(
                        f"Model is overloaded: {scheduler.rows} inputs are waiting; try again later",
                        retry_after_s=wait_s,
                    )
                remaining_s = ticket.remaining_s()
                if remaining_s is not None and wait_s + self._speed.seconds(submission.elements) > remaining_s:
                    raise Overloaded(
                        f"Model is overloaded: an answer within {ticket.timeout_s:g} s is not to be expected, with "
                        f"{scheduler.rows} inputs waiting; try again later",
                        retry_after_s=wait_s,
                    )
            ticket.admitted = True
            scheduler.rows += len(submission.to_bring)
            scheduler.bytes += submission.bytes

    def _withdraw(self, submission: Submission, rows: int) -> None:
        """Forget what a submission has in the queue yet."""
        with self._lock:
            self._scheduler.rows -= rows
            self._scheduler.bytes -= submission.bytes
            submission.closed = True
            if submission.ahead:
                self._elements -= sum(queued.size for queued in self._waiting if queued.owner is submission)
                self._waiting = collections.deque(queued for queued in self._waiting if queued.owner is not submission)
            self._pass_on(submission)

    def _wake(self, submission: Submission) -> None:
        with self._lock:
            submission.changed.notify()

    def _next(self, submission: Submission) -> list[tuple[int, Arrays]]:
        """Some more of a submission's outputs: made by others, or by this thread."""
        while True:
            with self._lock:
                self._bring(submission)
                self._wait(submission)
                if submission.error is not None:
                    raise submission.error
                if submission.outputs:
                    self._pass_on(submission)
                    outputs, submission.outputs = submission.outputs, []
                    return outputs
                submission.ticket.check()
                helpers = self._count_helpers()
            for _ in range(helpers):
                threading.Thread(target=self._help, name="onnxpipe-run", daemon=True).start()
            try:
                self._make_run()
            finally:
                with self._lock:
                    self._pass_on(submission)

    def _bring(self, submission: Submission) -> None:
        """Put more rows into the queue, as many as may be ahead of their request: a batch, or a few runs of one row.

        So a request of many rows lets others in between, and its outputs do not pile up.
        """
        while submission.to_bring:
            queued = submission.to_bring[0]
            if self._together:
                full = submission.elements_ahead + queued.size > self._limit(queued)
            else:
                full = submission.ahead >= _AHEAD * self._engines.wide.threads
            if full and submission.ahead:
                return
            self._waiting.append(submission.to_bring.popleft())
            self._elements += queued.size
            submission.ahead += 1
            submission.elements_ahead += queued.size

    def _wait(self, submission: Submission) -> None:
        """Returns when there is something to take, to make or to raise."""
        while not submission.can_go_on:
            if self._waiting and self._runs < self._most_runs:
                self._runs += 1
                submission.leads = True
            else:
                submission.waits = True
                submission.changed.wait(submission.ticket.remaining_s())
                submission.waits = False

    def _pass_on(self, submission: Submission) -> None:
        """Leave the run that the submission was to make, or has made, to one of those that wait for longest."""
        if submission.leads:
            submission.leads = False
            self._end_run()

    def _end_run(self) -> None:
        self._runs -= 1
        for queued in self._waiting:
            if queued.owner.waits and not queued.owner.can_go_on:
                queued.owner.leads = True
                self._runs += 1
                queued.owner.changed.notify()
                return

    def _count_helpers(self) -> int:
        """How many more runs could begin now, of rows that nobody else waits for; they count as being made."""
        count = 0 if self._together else min(self._engines.wide.threads - self._runs, len(self._waiting) - 1)
        self._runs += max(count, 0)
        return count

    def _help(self) -> None:
        """Make runs as long as there is one to make."""
        while self._make_run():
            pass
        with self._lock:
            self._end_run()

    def _make_run(self) -> bool:
        """Run a batch and hand its outputs out, or to its owners what it raised. False when nothing waits."""
        with self._lock:
            batch = self._take()
            if not batch:
                return False
            engine = self._engines.choose(batch[0].size, alone=self._runs == 1 and not self._waiting)
            begin = self._speed.begin()
        outcomes = self._run_rows(engine, batch)
        with self._lock:
            sizes = [queued.size for queued in batch]
            run_s = self._speed.end(begin, sum(sizes))
            self._elements -= sum(sizes)
            for queued, outcome in zip(batch, outcomes, strict=True):
                queued.owner.deliver(queued, outcome)
            for owner in {queued.owner for queued in batch}:
                owner.ticket.note_run(sizes, run_s)
                owner.changed.notify()
        return True

    def _take(self) -> list[Queued]:
        """The rows of the next run, out of the queue."""
        while self._waiting and self._waiting[0].owner.ticket.is_dead:
            self._drop(self._waiting.popleft())
        if not self._waiting:
            return []
        if not self._together or len(self._waiting) == 1:
            return [self._waiting.popleft()]
        window = [queued for queued in itertools.islice(self._waiting, _WINDOW) if not queued.owner.ticket.is_dead]
        batch = choose_batch(window, self._limit(window[0]))
        taken = set(batch)
        self._waiting = collections.deque(queued for queued in self._waiting if queued not in taken)
        return batch

    def _drop(self, queued: Queued) -> None:
        self._elements -= queued.size
        queued.owner.ahead -= 1

    def _run_rows(self, engine: Engine, batch: Sequence[Queued]) -> list[Arrays | Exception]:
        """Each row's outputs, or why it has none."""
        try:
            return [*run_batch(engine, self._graph, [queued.row for queued in batch])]
        except Exception as error:  # noqa: BLE001 - raised where the owners wait
            if len(batch) == 1:
                return [error]
            # it is perhaps one row's fault: the others shall not have to answer for it
            return [outcome for queued in batch for outcome in self._run_rows(engine, [queued])]

    def _limit(self, queued: Queued) -> int:
        """How many elements rows like this one may have in one run."""
        most = max_elements(queued.row, self._graph)
        is_real = queued.row[self._graph.inputs[0].name].dtype.kind == "f"
        return most if is_real else min(most, self._scheduler.max_batch_elements)
