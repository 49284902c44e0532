"""How a bundle runs best on this machine, as `onnxpipe tune` has measured it: precision, providers, threads.

    BUNDLE/recipes/FINGERPRINT.json            one for each machine, beside the files that the manifest lists
    CACHE/recipes/DIGEST-FINGERPRINT.json      where the bundle's folder cannot be written to

A recipe holds for one state of the bundle and one kind of machine. It is never needed: without one that fits, the
bundle's first precision runs with the threads planned from the machine's limits.
"""

import dataclasses
import functools
import hashlib
import json
import logging
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxpipe.bundle import Bundle
from onnxpipe.errors import InvalidInput
from onnxpipe.machine import inspect_machine
from onnxpipe.prepacked import default_folder
from onnxpipe.records import Record, parameter, plain, read
from onnxpipe.session import Level, onnxruntime_version

_log = logging.getLogger(__name__)

FOLDER = "recipes"
FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(Record):
    """The choice, for which machine and bundle it was made, and everything that was measured for it.

    `bundle` is the digest of the bundle's manifest, `machine` what `fingerprint` stands for; `batch` is how many rows
    in a run give the most rows a second.
    """

    format_version: int = FORMAT_VERSION
    bundle: str
    fingerprint: str
    precision: str
    providers: tuple[str, ...]
    threads: int = parameter(ge=1, le=1024, description="Threads of a run.")
    level: Level = "all"
    batch: int = parameter(1, ge=1, description="Rows of a run that serve many best.")
    machine: Mapping[str, Any]  # JSON, as the evidence
    evidence: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Choice:
    """How a bundle is loaded: what the caller named, or else what its recipe says; None is left to the defaults."""

    precision: str | None
    providers: Sequence[str] | None
    threads: int | None
    level: Level = "all"


def choose(bundle: Bundle, precision: str | None, providers: Sequence[str] | None, threads: int | None) -> Choice:
    """What the caller named; where that is neither a precision nor providers, what the recipe of this machine says.

    The caller's `threads` win in any case.
    """
    recipe = find_recipe(bundle) if precision is None and providers is None else None
    if recipe is None:
        return Choice(precision, providers, threads)
    return Choice(recipe.precision, recipe.providers, threads or recipe.threads, recipe.level)


def find_recipe(bundle: Bundle) -> Recipe | None:
    """The recipe for this machine; None when there is none that fits. One that cannot be used is told in the log."""
    if not any(file.parent.is_dir() for file in _places(bundle, "")):
        return None  # as most often: without a look at the machine
    for file in _places(bundle, fingerprint()):
        try:
            content = file.read_bytes()
        except OSError:
            continue
        problem = "made for another state of the bundle"
        try:
            recipe = read(Recipe, json.loads(content), ignore_unknown=True)
        except (ValueError, RecursionError) as error:  # InvalidInput is one
            problem = str(error)
        else:
            if recipe.format_version == FORMAT_VERSION and recipe.bundle == bundle.digest:
                if recipe.precision in bundle.manifest.variants:
                    return recipe
                problem = f"the bundle has no precision {recipe.precision!r}"
        _log.warning("%s: not used (%s); `onnxpipe tune` makes a new one", file, problem)
    return None


def write_recipe(bundle: Bundle, recipe: Recipe) -> Path:
    """Store a recipe in the bundle, or where that cannot be written to in the user's cache; the file's path.

    Raises InvalidInput when neither can be written.
    """
    text = json.dumps(plain(recipe), indent=2, ensure_ascii=False, allow_nan=False)
    problem: OSError | None = None
    for file in _places(bundle, recipe.fingerprint):
        try:
            _write(file, f"{text}\n")
        except OSError as error:
            problem = error
        else:
            return file
    raise InvalidInput(f"the recipe cannot be written ({problem}); make {bundle.path} or the cache folder writable")


def machine_facts() -> dict[str, Any]:  # JSON
    """What a recipe depends on: processor, instructions, how many CPUs, and the onnxruntime."""
    machine = inspect_machine()
    return {
        "system": platform.system(),
        "architecture": machine.architecture,
        "cpu": cpu_name(),
        "isa": list(machine.isa),
        "cpu_set": machine.cpu_set,
        "threads": machine.threads,
        "onnxruntime": onnxruntime_version(),
    }


@functools.cache
def fingerprint() -> str:
    """What stands for this kind of machine: 16 hex digits."""
    return hashlib.sha256(json.dumps(machine_facts(), sort_keys=True).encode()).hexdigest()[:16]


def cpu_name() -> str:
    """The processor's name as it tells it, or at least its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _places(bundle: Bundle, name: str) -> tuple[Path, Path]:
    """Where the recipe of a fingerprint may be, the better place first."""
    return bundle.path / FOLDER / f"{name}.json", default_folder() / FOLDER / f"{bundle.digest[:32]}-{name}.json"


def _write(file: Path, text: str) -> None:
    """Write a file so that no reader finds a part of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(prefix=".", dir=file.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(part).chmod(0o644)  # other users may run the bundle
        Path(part).replace(file)
    except OSError:
        Path(part).unlink(missing_ok=True)
        raise
