"""A machine-local cache of graphs as onnxruntime runs them: optimised, with weights in the order its kernels read.

Such a graph loads several times faster, and its weights are mapped from the file: processes and sessions of one machine
share their memory. It fits one release of onnxruntime and one set of instructions, so both are part of its key, and it
is never part of a bundle. The cache is never needed: without room, or with damaged files in it, the bundle's own file
is loaded.

onnxruntime 1.31.1 crashes in some of its own files, such as those of models whose head shares its weights with the
embeddings. So an entry is used only after a process made for that has run it and left `proved`.

    CACHE/prepacked/KEY/    graph.onnx, weights.bin, entry.json with their digests, and proved; or only refused
    CACHE/verified/DIGEST   which files of that bundle have been compared with their digests, and their state then
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxpipe.bundle import Bundle, sha256
from onnxpipe.errors import BundleError, OnnxpipeError
from onnxpipe.machine import inspect_machine
from onnxpipe.session import CPU, Session, onnxruntime_version, resolve_providers

_log = logging.getLogger(__name__)

_GRAPH, _WEIGHTS, _ENTRY = "graph.onnx", "weights.bin", "entry.json"
_PROVED, _REFUSED = "proved", "refused"
_LAYOUT = 2
# A file this young may still change without its time stamps showing it.
_FRESH_NS = 2 * 10**9
# Prepacked weights are at most this many times as large as those in the bundle.
_GROWTH = 3


def default_folder() -> Path:
    """Where caches of this user belong: $XDG_CACHE_HOME/onnxpipe, else ~/.cache/onnxpipe."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onnxpipe"


@dataclasses.dataclass(frozen=True)
class Cache:
    """A folder for such graphs, made when it is first written to; None keeps nothing.

    With `proving` entries are made, and used before they are proved.
    """

    folder: Path | None = None
    proving: bool = False

    def session(
        self,
        bundle: Bundle,
        name: str,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
        *,
        steps: bool = False,
    ) -> Session:
        """A session of a listed graph file: from the cache where it has it, else from the bundle.

        Raises as `Session` does.
        """
        if self.folder is None or resolve_providers(providers) != [CPU]:
            return Session(bundle.file(name), providers, threads, steps=steps)
        entry = _entry(self.folder, bundle, name)
        if not self.proving and not (entry / _PROVED).exists():
            return Session(bundle.file(name), providers, threads, steps=steps)
        try:
            with _locked(entry):
                if not _is_whole(entry):
                    if not self.proving:
                        raise OSError(f"{entry}: damaged")  # noqa: TRY301
                    _build(entry, bundle, name, threads)
            return Session(entry / _GRAPH, providers, threads, steps=steps, optimized=True)
        except (OSError, OnnxpipeError) as error:
            _log.warning("%s: not cached for this machine, which costs time and memory: %s", bundle.file(name), error)
            shutil.rmtree(entry, ignore_errors=True)
            return Session(bundle.file(name), providers, threads, steps=steps)

    def lacks(self, bundle: Bundle, names: Iterable[str]) -> bool:
        """Whether one of these graph files could be there and is not: neither proved nor refused."""
        if self.folder is None:
            return False
        entries = [_entry(self.folder, bundle, name) for name in names]
        return not all((entry / _PROVED).exists() or (entry / _REFUSED).exists() for entry in entries)

    def note(self, bundle: Bundle, names: Iterable[str], *, proved: bool) -> None:
        """Take note that these graph files run from the cache as they should, or that they do not."""
        if self.folder is None:
            return
        for name in names:
            entry = _entry(self.folder, bundle, name)
            with contextlib.suppress(OSError):
                if not proved:
                    shutil.rmtree(entry, ignore_errors=True)
                    entry.mkdir(parents=True)
                (entry / (_PROVED if proved else _REFUSED)).touch()

    def forget(self, bundle: Bundle, names: Iterable[str]) -> bool:
        """Remove what is kept of these graph files; whether there was anything."""
        if self.folder is None:
            return False
        entries = [_entry(self.folder, bundle, name) for name in names]
        found = [entry for entry in entries if entry.exists()]
        for entry in found:
            shutil.rmtree(entry, ignore_errors=True)
        return bool(found)

    def verify(self, bundle: Bundle, names: Iterable[str]) -> None:
        """`Bundle.verify` of the files that have changed since it was last done on this machine. Raises BundleError."""
        record = None if self.folder is None else self.folder / "verified" / bundle.digest
        known = _read_json(record)
        states = {name: _state(bundle.file(name)) for name in names}
        where = str(bundle.path.resolve())
        changed = [name for name, state in states.items() if known.get(f"{where}:{name}") != state]
        if not changed:
            return
        bundle.verify(changed)
        if record is None:
            return
        oldest = time.time_ns() - _FRESH_NS
        known |= {f"{where}:{name}": states[name] for name in changed if max(states[name][2:4]) < oldest}
        with contextlib.suppress(OSError):
            record.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write(record, known)


def _entry(folder: Path, bundle: Bundle, name: str) -> Path:
    """Where a cache keeps a graph file of a bundle."""
    machine = inspect_machine()
    parts = (_LAYOUT, bundle.digest, name, onnxruntime_version(), machine.architecture, machine.isa)
    return folder / "prepacked" / hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _build(entry: Path, bundle: Bundle, name: str, threads: int | None) -> None:
    """Make an entry, whole or not at all. Raises OSError, or as `Session` does."""
    size_bytes = bundle.manifest.files[name].size_bytes + sum(
        bundle.manifest.files[data].size_bytes
        for variant in bundle.manifest.variants.values()
        if name in variant.files.values()
        for data in variant.external_data
    )
    free_bytes = shutil.disk_usage(entry.parent).free
    if free_bytes < _GROWTH * size_bytes:
        raise OSError(f"{entry.parent}: {free_bytes / 1e6:.0f} MB free, {_GROWTH * size_bytes / 1e6:.0f} MB wanted")
    folder = Path(tempfile.mkdtemp(prefix=".", dir=entry.parent))
    try:
        Session(bundle.file(name), None, threads, save_to=(folder / _GRAPH, _WEIGHTS))
        files = {file.name: {"sha256": sha256(file), "state": _state(file)} for file in folder.iterdir()}
        _write(folder / _ENTRY, files)
        shutil.rmtree(entry, ignore_errors=True)
        folder.rename(entry)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_whole(entry: Path) -> bool:
    """Whether the files of an entry are what was written."""
    files = _read_json(entry / _ENTRY)
    if _GRAPH not in files:
        return False
    try:
        return all(
            _state(entry / name) == told["state"] or sha256(entry / name) == told["sha256"]
            for name, told in files.items()
        )
    except (OSError, BundleError, TypeError, KeyError):  # BundleError: a file is gone
        return False


def _state(file: Path) -> list[int]:
    """What changes when a file's content does."""
    try:
        stat = file.stat()
    except OSError as error:
        raise BundleError(f"{file}: cannot be read ({error})") from None
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


@contextlib.contextmanager
def _locked(entry: Path) -> Iterator[None]:
    """Keep other processes from making the same entry."""
    entry.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows: two processes may make it, and the second one's takes the place
        yield
        return
    with (entry.parent / f"{entry.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read_json(file: Path | None) -> dict[str, Any]:  # JSON
    """The object in a file; empty when there is none, or none that can be read."""
    try:
        data = json.loads(file.read_bytes()) if file else {}
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _write(file: Path, data: Mapping[str, object]) -> None:
    """Write JSON, so that no reader finds a part of it."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.write_text(json.dumps(data), encoding="utf-8")
    part.replace(file)
