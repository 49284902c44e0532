"""Several processes behind one listening socket, made by fork from one that has imported everything and runs nothing.

So they share the memory of what is imported, and one that dies is replaced in milliseconds.
"""

import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from onnxpipe.errors import InvalidInput

_log = logging.getLogger(__name__)

# Files in memory, in a container with a read-only file system too; what is made there is this user's alone.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
# A process that cannot begin its work ends with this; then so do the others.
CANNOT_START = 3
# Seconds between replacements of processes that die young.
_PAUSE_S = 1.0
# The same of one that could not start, such as for a bundle that has been damaged in the meantime.
_RETRY_S = 5.0
# A process that takes the place of another and lives so long could start.
_SOUND_S = 60.0
# Seconds that a process may take to end: longer than the server waits for requests that run.
_PATIENCE_S = 40.0
# Seconds after which it is told again: while a server starts, a signal may be lost.
_AGAIN_S = 1.0


def run_processes(
    count: int,
    work: Callable[[], int],
    work_again: Callable[[], int],
    note_end: Callable[[int], None] = lambda _: None,
) -> int:
    """Run `work` in so many processes until SIGINT or SIGTERM comes or one cannot start; 0, or that one's exit status.

    `work` returns the exit status of its process; so does `work_again`, for one that takes the place of another. Where
    that one cannot start it is tried again as long as there are others that could. `note_end` is told the number of one
    that is to be replaced.
    """
    if not hasattr(os, "fork"):
        raise InvalidInput("--workers: more than one needs an operating system with fork; start several servers")
    alive, lifeline = os.pipe()  # closed when this process ends, however it does
    gc.collect()
    gc.freeze()  # so that the collector of a child does not write to pages it shares
    begun: dict[int, float] = {}
    status = 0
    try:
        for _ in range(count):
            begun[_fork(work, alive, lifeline)] = time.monotonic()
        first = set(begun)
        while not status:
            number, ended = os.wait()
            code = os.waitstatus_to_exitcode(ended)
            now = time.monotonic()
            lived_s = now - begun.pop(number)
            sound = any(one in first or now - since > _SOUND_S for one, since in begun.items())
            status = CANNOT_START if code == CANNOT_START and (number in first or not sound) else 0
            if not status:
                _log.error("process %d ended (%d) and is replaced", number, code)
                note_end(number)
                time.sleep(_RETRY_S if code == CANNOT_START else max(_PAUSE_S - lived_s, 0))
                begun[_fork(work_again, alive, lifeline)] = time.monotonic()
    except KeyboardInterrupt:
        _log.info("stopping %d processes", count)
    finally:
        _stop(begun)
        os.close(lifeline)
        os.close(alive)
    return status


def _fork(work: Callable[[], int], alive: int, lifeline: int) -> int:
    """The number of a new process that works."""
    sys.stdout.flush()
    sys.stderr.flush()
    number = os.fork()
    if number:
        return number
    status = 1
    try:
        os.close(lifeline)
        threading.Thread(target=_end_with_parent, args=(alive,), daemon=True).start()
        status = work()
    except KeyboardInterrupt:
        status = 0
    except BaseException:  # noqa: BLE001 - nothing may go on in the parent's place
        _log.exception("a process failed")
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it comes more than once
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # what the parent has open is not this process's to close


def _end_with_parent(alive: int) -> None:
    os.read(alive, 1)
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_AGAIN_S)
    os._exit(1)


def _stop(numbers: Iterable[int]) -> None:
    """End processes, patiently: they answer what they have begun. Those that do not end in time are killed."""
    left = set(numbers)
    end, again = time.monotonic() + _PATIENCE_S, 0.0
    while left:
        with contextlib.suppress(KeyboardInterrupt, ProcessLookupError):
            if (now := time.monotonic()) >= again:
                again = now + _AGAIN_S
                for number in left:
                    os.kill(number, signal.SIGKILL if now > end else signal.SIGTERM)
            left = {number for number in left if not _has_ended(number)}
            time.sleep(0.01)


def _has_ended(number: int) -> bool:
    try:
        return os.waitpid(number, os.WNOHANG) != (0, 0)
    except ChildProcessError:  # waited for before
        return True
