"""The token loop: requests join and leave the rows that a model writes, between one step and the next.

There is no thread of its own. Whoever waits for a token and finds nobody at work does the next step, for all.
"""

import collections
import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from onnxpipe.arrays import Floats
from onnxpipe.errors import Cancelled, OnnxpipeError, Overloaded, UnprocessableInput
from onnxpipe.generation.batch import Batch, Slots, Text
from onnxpipe.generation.decoder import Ids
from onnxpipe.generation.results import Search, Step
from onnxpipe.generation.sampling import token_logprobs
from onnxpipe.session import Array

# Tokens of a prompt that are read at once: all that wait for their next token wait for it.
_CHUNK_ALONE, _CHUNK_BESIDE_OTHERS = 512, 128
# Fewer where the log probabilities of all of them are wanted: a whole vocabulary's for each.
_CHUNK_WITH_LOGPROBS = 32
# What idle batches may keep of their buffers, all together.
_IDLE_BYTES = 64 * 2**20

_NOTHING = Step(np.zeros(0, np.int64), np.zeros(0, np.intp))


@dataclasses.dataclass(eq=False)
class Job:
    """A request in the loop: what it writes behind, how it is searched, and how many rows and tokens it may take.

    `prompt` (P,) are the decoder's first tokens; `encode` gives the encoder's keys and values in encoder-decoder
    models, for `source_length` positions. `deadline` is on the clock of `time.monotonic`. With `prompt_logprobs` those
    of the prompt's tokens from the second on are gathered in `prompt_scores`. Rows that get longer than `reread_at` are
    read anew.
    """

    search: Search
    prompt: Ids
    rows: int
    total_length: int
    encode: Callable[[], Mapping[str, Array]] | None = None
    source_length: int = 0
    deadline: float | None = None
    prompt_logprobs: bool = False
    reread_at: int | None = None
    prompt_scores: list[float] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.text = Text(self.prompt)
        self.steps: collections.deque[Step] = collections.deque()
        self.batch: Batch | None = None
        self.done = False
        self.error: BaseException | None = None
        self.anew: list[Text] = []  # its rows, while they are read again
        self.anew_logits: list[Floats] = []  # behind those that have been


class TokenLoop:
    """The requests to one model. `make_batch` makes a batch for texts of so many rows per source."""

    def __init__(self, make_batch: Callable[[int], Batch], *, budget_bytes: int, max_waiting: int = 256) -> None:
        self._make_batch = make_batch
        self._budget_bytes = budget_bytes
        self._max_waiting = max_waiting
        self._changed = threading.Condition()
        # all below under its lock, except that whoever is at work has batches and their texts to itself
        self._at_work = False
        self._waiting: collections.deque[Job] = collections.deque()
        self._running: list[Job] = []
        self._leaving: list[Job] = []
        self._batches: dict[int, Batch] = {}

    def steps(self, job: Job) -> Iterator[Step]:
        """What each step made of the request, as it comes; steps of others, and pieces of its prompt, make empty ones.

        Closing the iterator ends the request within one step. Raises Overloaded when too many wait, UnprocessableInput
        when its keys and values exceed the memory for them, and what its search or the model raise.
        """
        self._submit(job)
        try:
            while (step := self._next(job)) is not None:
                yield step
        finally:
            self._withdraw(job)
        if job.error is not None:
            raise job.error

    def run(self, jobs: list[Job], check: Callable[[], None] | None = None) -> None:
        """Write all of them. Raises as `steps` does, for the first that fails; and what `check` does after a step."""
        for job in jobs:
            self._submit(job)
        try:
            for job in jobs:
                while self._next(job) is not None:
                    if check is not None:
                        check()
                if job.error is not None:
                    raise job.error
        finally:
            for job in jobs:
                self._withdraw(job)

    def _submit(self, job: Job) -> None:
        width = job.rows if job.encode else 1
        with self._changed:
            if len(self._waiting) >= self._max_waiting:
                raise Overloaded(f"{self._max_waiting} requests are waiting for this model already; try again later")
            if width not in self._batches:
                self._batches[width] = self._make_batch(width)
            job.batch = self._batches[width]
            self._waiting.append(job)

    def _next(self, job: Job) -> Step | None:
        """The job's next step, an empty one when a round brought none, None at its end.

        Works for it where nobody else does.
        """
        with self._changed:
            if self._at_work and not job.steps and not job.done:
                self._changed.wait()
            if job.steps or job.done or self._at_work:
                return self._taken(job)
            self._at_work = True
        try:
            self._advance()
        except BaseException as error:
            self._fail_all(error)
            raise
        finally:
            with self._changed:
                self._at_work = False
                self._changed.notify_all()
        with self._changed:
            return self._taken(job)

    def _taken(self, job: Job) -> Step | None:
        if job.steps:
            return job.steps.popleft()
        return None if job.done else _NOTHING

    def _withdraw(self, job: Job) -> None:
        """Take a request out that nobody waits for any more: at once, or after the step that is being made."""
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
            if not job.done:
                job.done, job.error = True, Cancelled("the request was given up")
            self._leaving.append(job)
            if not self._at_work:
                self._clear_leaving()
            # somebody else may have to take the next step
            self._changed.notify_all()

    def _clear_leaving(self) -> None:
        for job in self._leaving:
            if job in self._running:
                self._running.remove(job)
            if job.batch is not None and job.text.blocks:
                job.batch.leave(job.text)
        self._leaving.clear()
        for batch in self._batches.values():
            batch.rest(_IDLE_BYTES // len(self._batches))

    def _advance(self) -> None:
        """One step: let in who fits, read a piece of one prompt, and write a token of all others."""
        with self._changed:
            self._clear_leaving()
            while self._waiting and self._fits(self._waiting[0]):
                self._running.append(self._waiting.popleft())
            running = list(self._running)
        reading = next((job for job in running if not job.text.tokens.size and not job.done), None)
        if reading is not None:
            beside_others = any(job.text.tokens.size for job in running)
            self._guarded(reading, functools.partial(self._read, reading, beside_others=beside_others))
        writing = [job for job in running if job.text.tokens.size]
        for batch in {job.batch for job in writing if job.batch is not None}:
            logits = batch.step()
            # taken before the first goes on, which may give a slot of its own to another
            rows = [(job, _rows(logits, job.text.slots)) for job in writing if job.batch is batch and not job.done]
            for job, own in rows:
                self._guarded(job, functools.partial(self._search, job, own))

    def _fits(self, job: Job) -> bool:
        """Whether there is memory for a request beside those that run; one that never fits fails here."""
        needed = sum(map(_size_bytes, self._running)) + _size_bytes(job)
        if needed <= self._budget_bytes:
            return True
        if not self._running:
            job.error = UnprocessableInput(
                f"{job.total_length} tokens in {job.rows} rows take {needed / 1e6:.0f} MB of keys and values, but at "
                f"most {self._budget_bytes / 1e6:.0f} MB are allowed: shorten the input, or ask for fewer tokens or "
                "rows (beams, texts)"
            )
            job.done = True
            return True
        return False

    def _read(self, job: Job, *, beside_others: bool) -> None:
        """The next piece of a prompt; behind its end comes the first token."""
        batch, text = job.batch, job.text
        assert batch is not None  # noqa: S101 - as above
        count = _CHUNK_BESIDE_OTHERS if beside_others else _CHUNK_ALONE
        if job.anew:
            self._read_anew(job, batch, count)
            return
        if not text.blocks:
            batch.enter(text, job.total_length, job.encode() if job.encode else None)
        if job.prompt_logprobs:
            count = _CHUNK_WITH_LOGPROBS
        if job.encode:
            count = len(job.prompt)  # several rows at once cannot go on behind a past
        begin = text.length
        logits = batch.read_prompt(text, count, every=job.prompt_logprobs)
        if job.prompt_logprobs:
            following = text.prompt[begin + 1 : text.length + 1]
            job.prompt_scores += token_logprobs(logits[: len(following)], following).tolist()
        if text.length == len(text.prompt):
            self._search(job, logits[-1:])

    def _read_anew(self, job: Job, batch: Batch, count: int) -> None:
        """The next piece of a row that is read again; when all have been, their next tokens come."""
        row = len(job.anew_logits)
        one = job.anew[row]
        # a slot is a block, for there is no encoder; it changes when others leave
        one.blocks = [int(job.text.slots[row])]
        logits = batch.read_prompt(one, count)
        if one.length < len(one.prompt):
            return
        job.anew_logits.append(logits[-1].copy())
        if len(job.anew_logits) == len(job.anew):
            rows = np.stack(job.anew_logits)
            job.anew, job.anew_logits = [], []
            self._search(job, rows)

    def _search(self, job: Job, logits: Floats) -> None:
        """The next tokens of a request, from the logits of its rows."""
        last = job.deadline is not None and time.monotonic() >= job.deadline
        step = job.search.step(logits, last=last)
        assert job.batch is not None  # noqa: S101 - as above
        job.batch.go_on(job.text, step.tokens, step.parents)
        job.steps.append(step)
        if not job.search.rows:
            self._end(job, None)
        elif job.text.length == job.reread_at:
            job.anew = [Text(row) for row in job.search.tokens.copy()]
            # it takes no part in steps; what they write into the slots of such texts comes behind what is read
            job.text.tokens, job.text.length = job.text.tokens[:0], job.text.length + 1

    def _guarded(self, job: Job, work: Callable[[], None]) -> None:
        """Do what concerns one request; when it fails only that one does."""
        try:
            work()
        except OnnxpipeError as error:
            self._end(job, error)

    def _end(self, job: Job, error: BaseException | None) -> None:
        if job.batch is not None and job.text.blocks:
            job.batch.leave(job.text)
        with self._changed:
            job.done, job.error = True, error
            if job in self._running:
                self._running.remove(job)

    def _fail_all(self, error: BaseException) -> None:
        """The model itself failed: nobody gets further."""
        for job in list(self._running):
            self._end(job, error)


def _rows(logits: Floats, slots: Slots) -> Floats:
    """Logits of a text's rows: a row alone is looked at where it lies, several are copied."""
    return logits[slots] if len(slots) > 1 else logits[slots[0] : slots[0] + 1]


def _size_bytes(job: Job) -> int:
    """Memory of all keys and values that a request may come to."""
    assert job.batch is not None  # noqa: S101 - set when it was submitted
    own = job.rows * job.total_length * job.batch.bytes_per_position
    return own + job.source_length * job.batch.bytes_per_source_position
