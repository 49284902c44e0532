"""What a request has been: its model, batch and the time of each stage; for the log, the metrics and its client."""

import contextlib
import contextvars
import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

from onnxpipe.pipeline import Answer, Model
from onnxpipe_server.tickets import Ticket

Cached = Literal["hit", "miss", "off"]

# Numbers of a picture or sound that cost about as much as a token: a patch of 16 x 16 pixels of three colours.
_NUMBERS_PER_TOKEN = 768


@dataclasses.dataclass(eq=False)
class Account:
    """What is known of a request so far. Times are milliseconds; `stages` come in the order they were gone through.

    `tokens` counts those of the inputs, `elements` all that was in the batches its rows were in, and `padding` what of
    that was no input of anybody. `error_type` is the kind of error it was answered with.
    """

    request_id: str = ""
    model: str = ""
    task: str = ""
    precision: str = ""
    device: str = ""
    providers: tuple[str, ...] = ()
    cache: Cached = "off"
    tokens: int = 0
    count_new_tokens: Callable[[], int] | None = None
    batch_rows: int = 0
    elements: int = 0
    padding: int = 0
    error_type: str = ""
    stages: dict[str, float] = dataclasses.field(default_factory=dict)
    begun: float = dataclasses.field(default_factory=time.perf_counter)

    @property
    def new_tokens(self) -> int:
        """Tokens that were written."""
        return 0 if self.count_new_tokens is None else self.count_new_tokens()

    @property
    def work(self) -> int:
        """What it cost, in tokens; at least 1."""
        return max(self.tokens + self.new_tokens, 1)

    @property
    def total_ms(self) -> float:
        """Since it came."""
        return 1e3 * (time.perf_counter() - self.begun)

    def note_model(self, model: Model, task: str) -> None:
        """Take note of what answers it."""
        self.model, self.task, self.precision = model.bundle.manifest.id, task, model.precision
        self.device = model.device
        # engines of tests have none
        providers = (name for one in model.sessions.values() for name in getattr(one, "providers", ()))
        self.providers = tuple(dict.fromkeys(providers))

    def note_answer(self, answered: Answer[Any], ticket: Ticket, *, media: bool, waited_ms: float = 0.0) -> None:
        """Take note of what an answer and the runs behind it cost; `waited_ms` passed before a thread took it up."""
        self.tokens += -(-answered.elements // _NUMBERS_PER_TOKEN) if media else answered.elements
        self.batch_rows, self.elements, self.padding = ticket.batch_rows, ticket.elements, ticket.padding
        self.stages = {
            "queue": waited_ms + ticket.queue_ms,
            "preprocess": answered.preprocess_ms,
            "inference": max(answered.infer_ms - ticket.queue_ms, 0.0),
            "postprocess": answered.postprocess_ms,
        }

    def note_writing(self, tokens: int, count_new_tokens: Callable[[], int]) -> None:
        """Take note of a text that is about to be written, and of what tells how long it got."""
        earlier = self.count_new_tokens
        self.tokens += tokens
        self.count_new_tokens = count_new_tokens if earlier is None else lambda: earlier() + count_new_tokens()

    def facts(self) -> dict[str, Any]:
        """What there is to tell, nothing of the inputs themselves."""
        known: dict[str, Any] = {
            name: value
            for name in ("model", "task", "precision", "device", "providers", "batch_rows", "tokens", "error_type")
            if (value := getattr(self, name))
        }
        if self.model:
            known["cache"] = self.cache
        if new_tokens := self.new_tokens:
            known["new_tokens"] = new_tokens
        if self.elements:
            known["padded_share"] = round(self.padding / self.elements, 4)
        stages = {name: round(value, 3) for name, value in self.stages.items()}
        return {**known, "ms": {**stages, "total": round(self.total_ms, 3)}}

    def header(self) -> str:
        """The same on one line of ASCII."""
        return json.dumps(self.facts())


_current: contextvars.ContextVar[Account | None] = contextvars.ContextVar("account", default=None)


def current_account() -> Account:
    """The account of the request at work, in the event loop as in its worker thread; a new one where there is none."""
    return _current.get() or Account()


@contextlib.contextmanager
def account_for(account: Account) -> Iterator[None]:
    """Makes it the current one."""
    token = _current.set(account)
    try:
        yield
    finally:
        _current.reset(token)
