"""A process that makes a model's entries in the cache and answers its golden requests from them.

    python -m onnxpipe_server.proof BUNDLE PRECISION CACHE

If onnxruntime crashes there, no server does, and the entries are refused.
"""

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

from onnxpipe.bundle import Bundle
from onnxpipe.errors import OnnxpipeError
from onnxpipe.prepacked import Cache
from onnxpipe_server.models import load_served
from onnxpipe_server.scheduler import Scheduler

_log = logging.getLogger(__name__)

_MOST_S = 600
# In the background: answers come first.
_NICE = 10
_ONE_AT_A_TIME = threading.Lock()


def main() -> int:
    """Prove one model."""
    path, precision, folder = sys.argv[1:]
    os.nice(_NICE)
    cache = Cache(Path(folder), proving=True)
    try:
        served = load_served(path, precision=precision, scheduler=Scheduler(), cache=cache)
    except OnnxpipeError as error:
        print(error, file=sys.stderr)
        return 1
    cache.note(served.bundle, served.model.variant.files.values(), proved=True)
    return 0


def begin_proof(bundle: Bundle, precision: str, cache: Cache) -> threading.Thread | None:
    """Make the entries that a cache lacks, in a process of their own; the thread that waits for it."""
    names = [*bundle.manifest.variants[precision].files.values()]
    if not cache.lacks(bundle, names):
        return None
    thread = threading.Thread(target=_prove, args=(bundle, precision, names, cache), daemon=True)
    thread.start()
    return thread


def _prove(bundle: Bundle, precision: str, names: list[str], cache: Cache) -> None:
    command = [sys.executable, "-m", __name__, str(bundle.path), precision, str(cache.folder)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        with _ONE_AT_A_TIME:
            done = subprocess.run(  # noqa: S603 - this module
                command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_MOST_S
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        _log.warning("%s: not cached for this machine: %s", bundle.path, error)
        return
    if done.returncode:
        reason = done.stderr.strip() or f"onnxruntime crashed ({done.returncode})"
        _log.warning("%s: not cached for this machine, which costs time and memory: %s", bundle.path, reason)
        cache.note(bundle, names, proved=False)


if __name__ == "__main__":
    sys.exit(main())
