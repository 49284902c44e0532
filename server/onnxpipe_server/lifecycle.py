"""When models are in memory: loaded in the background when one is first used, gone when others need the room.

A route asks a model for its `model` or `pipelines`, and gets them or `NotLoaded`; `gate` then waits for the load and
has the request begin again. From that first look on the request holds the state of the model it was given, so a model
that is in use is never evicted, and one whose bundle is replaced answers to the end with what it began with.
"""

import contextvars
import ctypes
import dataclasses
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path

from onnxpipe.bundle import Bundle, open_bundle
from onnxpipe.errors import BundleError, InvalidInput, OnnxpipeError
from onnxpipe_server.described import Description, Plan, stamp_of
from onnxpipe_server.models import Served
from onnxpipe_server.on_demand import Hold, NotLoaded, OnDemand, Version
from onnxpipe_server.status import TooBig

_log = logging.getLogger(__name__)

# Seconds until a load that failed is tried again, doubled each time up to the last.
_PAUSES_S = 10.0, 300.0
# How many bytes load in a second, until one has.
_FIRST_RATE = 2e8
# Seconds in which a bundle's manifest is looked at once.
_LOOK_EVERY_S = 1.0


_hold: contextvars.ContextVar[Hold | None] = contextvars.ContextVar("hold", default=None)


def begin_hold() -> Hold:
    """What the current request, and threads that work for it, will use."""
    hold = Hold()
    _hold.set(hold)
    return hold


class Lifecycle:
    """Loads and unloads the models of a server. `load` makes one from its folder.

    `memory_bytes` bounds what is planned for those in memory (None: nothing does); one that has not been used for
    `idle_s` seconds goes (None: none does).
    """

    def __init__(
        self, load: Callable[[Path], Served], *, memory_bytes: int | None = None, idle_s: float | None = None
    ) -> None:
        self._load_served = load
        self._memory_bytes = memory_bytes
        self._idle_s = idle_s
        self._changed = threading.Condition()
        self._models: list[OnDemand] = []
        self._planned = 0  # bytes of what is in memory, or on its way
        self._rate = _FIRST_RATE
        self._looks_for_idle = False

    def add(self, bundle: Bundle, precision: str | None, plan: Plan) -> OnDemand:
        """A model that will be loaded when it is used."""
        model = OnDemand(Description.of(bundle, precision), plan, self)
        with self._changed:
            self._models.append(model)
        return model

    def is_too_big(self, model: OnDemand) -> bool:
        """Whether it could not be loaded even alone."""
        return self._is_over(model.described.planned_bytes)

    def check_memory(self, models: Iterable[OnDemand]) -> None:
        """Raise InvalidInput when these do not fit into memory beside each other."""
        needed = {model.id: model.described.planned_bytes for model in models}
        if self._is_over(sum(needed.values())):
            told = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in needed.items())
            raise InvalidInput(
                f"--memory: {(self._memory_bytes or 0) / 1e6:.0f} MB are too few, "
                f"{sum(needed.values()) / 1e6:.0f} MB are needed: {told}"
            )

    def use(self, model: OnDemand) -> Served:
        """A model in memory, which the current request holds from now on. Raises NotLoaded."""
        hold = _hold.get()
        if hold is not None and (held := hold.versions.get(model)):
            return held.served
        with self._changed:
            self._look(model)
            version = model.version
            if version is None:
                raise NotLoaded(model)
            model.used_at = time.monotonic()
            if hold is not None:
                self._want(hold, None)
                version.uses += 1
                hold.versions[model] = version
            return version.served

    def release(self, hold: Hold) -> None:
        """A request has ended."""
        if not hold.versions and hold.wanted is None:
            return
        with self._changed:
            self._want(hold, None)
            for model, version in hold.versions.items():
                version.uses -= 1
                model.used_at = time.monotonic()
                if not version.uses and model.version is not version:
                    self._planned -= version.size_bytes
            hold.versions.clear()
            self._changed.notify_all()

    def start(self, model: OnDemand) -> "Future[OnnxpipeError | None]":
        """Done when it is loaded, or with why it cannot be: one load, however many ask.

        Raises TooBig, or within a pause why the last load failed.
        """
        with self._changed:
            if model.loading is not None:
                return model.loading
            done: Future[OnnxpipeError | None] = Future()
            if model.version is not None:
                done.set_result(None)
                return done
            self._check_size(model.id, model.described)
            is_early = time.monotonic() < model.retry_at and stamp_of(model.bundle.path) == model.failed_stamp
            if model.error is not None and is_early:
                raise model.error.with_traceback(None)
            self._begin(model, done)
            return done

    def want(self, hold: Hold, model: OnDemand) -> None:
        """A request waits for a model, which is then not evicted before it has had it."""
        with self._changed:
            self._want(hold, model)

    def estimate_s(self, model: OnDemand) -> float:
        """How many seconds its load will take yet: as long as the last one, else by its size."""
        expected = model.load_s or model.size_bytes / self._rate
        if model.loading is None:
            return max(expected, 0.1)
        elapsed = time.monotonic() - model.begun_at
        # what takes longer than it should may well take half as long again
        return max(expected - elapsed, elapsed / 2, 0.1)

    def unload(self, model: OnDemand) -> bool:
        """Drop a model that nobody uses or waits for; whether it has gone."""
        with self._changed:
            if model.version is None or model.version.uses or model.wanted:
                return False
            self._drop(model)
        _give_back()
        return True

    def _want(self, hold: Hold, model: OnDemand | None) -> None:
        if hold.wanted is not None:
            hold.wanted.wanted -= 1
        if model is not None:
            model.wanted += 1
        hold.wanted = model

    def _is_over(self, size_bytes: int) -> bool:
        return self._memory_bytes is not None and size_bytes > self._memory_bytes

    def _check_size(self, name: str, described: Description) -> None:
        if self._is_over(described.planned_bytes):
            raise TooBig(
                f"The model {name} is too large to be loaded ({described.planned_bytes / 1e6:.0f} MB > "
                f"{(self._memory_bytes or 0) / 1e6:.0f} MB)"
            )

    def _drop(self, model: OnDemand) -> None:
        version = model.version
        if version is None:
            return
        model.version = None
        if not version.uses:
            self._planned -= version.size_bytes
        self._changed.notify_all()
        _log.info("unloaded %s", model.id)

    def _begin(self, model: OnDemand, done: "Future[OnnxpipeError | None]") -> None:
        if self._idle_s is not None and not self._looks_for_idle:  # not before: a process may be forked in between
            self._looks_for_idle = True
            threading.Thread(target=self._unload_idle, name="onnxpipe-idle", daemon=True).start()
        model.loading, model.begun_at = done, time.monotonic()
        threading.Thread(target=self._load, args=(model, done), name=f"onnxpipe-load {model.id}", daemon=True).start()

    def _load(self, model: OnDemand, done: "Future[OnnxpipeError | None]") -> None:
        """In a thread: load what the folder holds now, beside or in the place of what is in memory."""
        size_bytes, failure = 0, None
        try:
            bundle = open_bundle(model.bundle.path)
            if bundle.manifest.id != model.id:
                raise BundleError(f"{bundle.path}: holds {bundle.manifest.id} now, and not {model.id}")  # noqa: TRY301
            described = Description.of(bundle, model.precision)
            self._check_size(model.id, described)
            size_bytes = described.planned_bytes
            self._reserve(size_bytes)
            begin = time.monotonic()
            served = self._load_served(bundle.path)
            took_s = time.monotonic() - begin
        except Exception as error:  # noqa: BLE001 - told to all who wait
            failure = self._fail(model, error, size_bytes)
        else:
            with self._changed:
                self._drop(model)
                described = dataclasses.replace(described, precision=served.precision)  # a recipe may have come or gone
                model.version, model.described, model.passed = Version(served, size_bytes), described, True
                model.error, model.failures, model.retry_at = None, 0, 0.0
                model.load_s, model.used_at = took_s, time.monotonic()
                self._rate += (model.size_bytes / max(took_s, 1e-3) - self._rate) / 2
            _log.info("loaded %s in %.2f s", model.id, took_s)
        with self._changed:
            model.loading = None
            self._changed.notify_all()
        done.set_result(failure)
        _trim()

    def _fail(self, model: OnDemand, error: Exception, reserved_bytes: int) -> OnnxpipeError:
        """Take note of an error; what to say of it."""
        if not isinstance(error, OnnxpipeError):
            _log.error("loading %s failed", model.id, exc_info=error)
            error = BundleError(f"{model.id} cannot be loaded; the log of the server says why")
        with self._changed:
            self._planned -= reserved_bytes
            model.retry_at = time.monotonic() + min(_PAUSES_S[0] * 2**model.failures, _PAUSES_S[1])
            model.error, model.failures = error, model.failures + 1
            model.failed_stamp = stamp_of(model.bundle.path)
            goes_on = model.version is not None
        if goes_on:
            _log.error("%s goes on as it was loaded before: %s", model.id, error)
        else:
            _log.error("loading %s failed: %s", model.id, error)
        return error

    def _reserve(self, size_bytes: int) -> None:
        """Wait for room, and take it. Those that were not used for longest go."""
        while True:
            with self._changed:
                while (victim := self._victim(size_bytes)) is None:
                    if not self._is_over(self._planned + size_bytes):
                        self._planned += size_bytes
                        return
                    self._changed.wait()
                self._drop(victim)
            _give_back()

    def _victim(self, size_bytes: int) -> OnDemand | None:
        if not self._is_over(self._planned + size_bytes):
            return None
        idle = [one for one in self._models if one.version and not one.version.uses and not one.wanted]
        return min(idle, key=lambda one: one.used_at, default=None)

    def _look(self, model: OnDemand) -> None:
        """See whether the bundle has been replaced, now and then; what is new is loaded beside what is there."""
        now = time.monotonic()
        if now - model.looked_at < _LOOK_EVERY_S or model.loading is not None:
            return
        model.looked_at = now
        if model.version is None:
            return
        stamp = stamp_of(model.bundle.path)
        if stamp != model.described.stamp and (stamp != model.failed_stamp or now >= model.retry_at):
            self._begin(model, Future())

    def _unload_idle(self) -> None:
        idle_s = self._idle_s or 0.0
        while True:
            now = time.monotonic()
            for model in list(self._models):
                if model.version is not None and now - model.used_at >= idle_s:
                    self.unload(model)
            with self._changed:
                due = [one.used_at + idle_s for one in self._models if one.version is not None]
                # a model that has just come is due in idle_s at the earliest
                self._changed.wait(max(min(due, default=now + idle_s) - now, 0.05))


def _give_back() -> None:
    """Return what the process does not use to the machine."""
    gc.collect()
    _trim()


def _trim() -> None:
    """The same of what the C library keeps for later."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # another C library than glibc
        return
