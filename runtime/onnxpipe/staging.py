"""Folders that appear whole or not at all."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from onnxpipe.bundle import MANIFEST_NAME, FileEntry, sha256
from onnxpipe.errors import BundleError


@contextlib.contextmanager
def staged_folder(target: Path, *, replace: bool) -> Iterator[Path]:
    """A temporary sibling of `target` that takes its name when the block ends well, and is deleted otherwise.

    Raises BundleError at once when `target` exists, unless it is empty or a bundle that `replace` allows to go.
    """
    _check_target(target, replace=replace)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield staging
        staging.chmod(0o755)  # mkdtemp's 0700 would lock out the service user a bundle is often served by
        _move(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _check_target(target: Path, *, replace: bool) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / MANIFEST_NAME).is_file():
        raise BundleError(f"{target} exists and is no bundle: choose another name for the output")
    if not replace:
        raise BundleError(f"{target} already holds a bundle: choose another name, or replace it with --force")


def _move(staging: Path, target: Path) -> None:
    """Rename; an old bundle steps aside first, so that only the instant between two renames has none."""
    if not target.exists():
        staging.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    target.rename(old / target.name)
    staging.rename(target)
    shutil.rmtree(old)


def list_files(folder: Path) -> dict[str, FileEntry]:
    """Size and digest of every file below `folder`, by relative path, in order."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != MANIFEST_NAME)
    return {
        file.relative_to(folder).as_posix(): FileEntry(size_bytes=file.stat().st_size, sha256=sha256(file))
        for file in files
    }
