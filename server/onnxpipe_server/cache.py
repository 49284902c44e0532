"""Answers that need not be made again, and equal requests that share one that is being made."""

import collections
import dataclasses
import hashlib
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import orjson

from onnxpipe.errors import Cancelled, DeadlineExceeded, Overloaded
from onnxpipe_server.metrics import Reading
from onnxpipe_server.tickets import current_ticket

# What an entry takes beside its content and key, about.
_OVERHEAD_BYTES = 600
# An answer that fills more than this part of the cache would drive out many others.
_LARGEST_SHARE = 0.125
# Errors of the request itself, not of what it asked for: others like it may do better.
_OWN_ERRORS = (Cancelled, DeadlineExceeded, Overloaded)
_MOMENT = 0.02


@dataclasses.dataclass(frozen=True)
class Kept:
    """An answer's JSON, and what its headers say of its making."""

    content: bytes
    headers: Mapping[str, str]


class Flight:
    """An answer that one request is making, and for which others wait. As a context it ends what its maker began."""

    def __init__(self, cache: "Answers", key: bytes) -> None:
        self.kept: Kept | None = None
        self.error: Exception | None = None
        self.ended = False
        self._cache = cache
        self._key = key
        self._changed = threading.Condition()

    def keep(self, kept: Kept) -> None:
        """Hand it to those that wait, and to those that come later."""
        self.kept = kept

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, cls: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, _OWN_ERRORS):
            self.error = error
        self._cache.land(self._key, self)
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def wait(self) -> Kept | None:
        """What came of it; None when its maker gave up, and somebody else has to make it. Raises what went wrong with
        it, and Cancelled and DeadlineExceeded as the current ticket says.
        """
        ticket = current_ticket()
        outer, ticket.wake = ticket.wake, self._notify
        try:
            with self._changed:
                while not self.ended:
                    ticket.check()
                    self._changed.wait(ticket.remaining_s())
        finally:
            ticket.wake = outer
        return self._outcome()

    def wait_in_steps(self) -> Generator[None, None, Kept | None]:
        """The same with an item every moment, so that whoever waits can leave."""
        while not self.ended:
            with self._changed:
                self._changed.wait(_MOMENT)
            yield None
        return self._outcome()

    def _outcome(self) -> Kept | None:
        if self.error is not None:
            raise self.error
        return self.kept

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()


class Answers:
    """Answers by key: at most `max_bytes` of them, none older than `max_age_s`, the longest unused go first.

    With `max_bytes` 0 nothing is kept, but equal requests still share what is being made. From any thread.
    """

    def __init__(self, max_bytes: int, max_age_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: collections.OrderedDict[bytes, tuple[Kept, float]] = collections.OrderedDict()
        self._flights: dict[bytes, Flight] = {}
        self.bytes = self.hits = self.joined = self.misses = self.evicted = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: bytes) -> tuple[Kept | Flight, bool]:
        """The answer, or the flight that makes it; and whether it is the caller who has to."""
        with self._lock:
            if (kept := self._fresh(key)) is not None:
                self.hits += 1
                return kept, False
            if (flight := self._flights.get(key)) is not None:
                return flight, False
            self.misses += 1
            flight = self._flights[key] = Flight(self, key)
            return flight, True

    def answer(self, key: bytes, make: Callable[[], Kept]) -> tuple[Kept, bool]:
        """The answer, and whether it was there; else it is made, here or by an equal request on its way.

        Raises what `make` does, whoever calls it; and what the current ticket says while another one makes it.
        """
        while True:
            found, leads = self.find(key)
            if isinstance(found, Kept):
                return found, True
            if leads:
                with found:
                    made = make()
                    found.keep(made)
                return made, False
            if (shared := found.wait()) is not None:
                self._note_joined()
                return shared, True

    def answer_in_steps(
        self, key: bytes, make: Callable[[], Generator[None, None, Kept]]
    ) -> Generator[None, None, tuple[Kept, bool]]:
        """The same for an answer that is made step by step; closing the generator leaves it to others."""
        while True:
            found, leads = self.find(key)
            if isinstance(found, Kept):
                return found, True
            if leads:
                with found:
                    made = yield from make()
                    found.keep(made)
                return made, False
            if (shared := (yield from found.wait_in_steps())) is not None:
                self._note_joined()
                return shared, True

    def readings(self) -> Iterator[Reading]:
        """What it holds and has done, for the metrics."""
        yield "onnxpipe_cache_bytes", "Memory of answers that are kept.", [({}, self.bytes)]
        yield "onnxpipe_cache_entries", "Answers that are kept.", [({}, len(self))]
        counts = {"hit": self.hits, "joined": self.joined, "miss": self.misses}
        finds = [({"outcome": outcome}, count) for outcome, count in counts.items()]
        yield "onnxpipe_cache_finds_total", "Looks into the cache by what came of them.", finds
        yield "onnxpipe_cache_evicted_total", "Answers that had to go for others.", [({}, self.evicted)]

    def land(self, key: bytes, flight: Flight) -> None:
        """End a flight: what it made is kept."""
        with self._lock:
            del self._flights[key]
            if flight.kept is not None:
                self._keep(key, flight.kept)

    def _note_joined(self) -> None:
        with self._lock:
            self.joined += 1

    def _fresh(self, key: bytes) -> Kept | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        kept, until = entry
        if self._clock() >= until:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return kept

    def _keep(self, key: bytes, kept: Kept) -> None:
        size = _size(kept)
        if size > self._max_bytes * _LARGEST_SHARE:
            return
        self._entries[key] = kept, self._clock() + self._max_age_s
        self.bytes += size
        while self.bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))
            self.evicted += 1

    def _drop(self, key: bytes) -> None:
        kept, _ = self._entries.pop(key)
        self.bytes -= _size(kept)


def make_key(*parts: object) -> bytes | None:
    """What equal requests have in common: a digest of strings, numbers, records and files, whatever spelling they came
    in; None where a part is of another kind.
    """
    try:
        said = orjson.dumps(parts, default=_digest, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        return None
    return hashlib.blake2b(said, digest_size=16).digest()


def _digest(part: object) -> Any:  # JSON data
    if isinstance(part, bytes | bytearray | memoryview):
        return {"blake2b": hashlib.blake2b(part, digest_size=16).hexdigest()}
    raise TypeError(type(part).__name__)


def _size(kept: Kept) -> int:
    return len(kept.content) + _OVERHEAD_BYTES
