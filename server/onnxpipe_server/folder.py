"""A folder of bundles, each in DIR/NAME or DIR/ORG/NAME: those that are there, and those that come later."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from onnxpipe.bundle import MANIFEST_NAME, Bundle, open_bundle
from onnxpipe.errors import BundleError, InvalidInput, OnnxpipeError
from onnxpipe_server.described import stamp_of
from onnxpipe_server.on_demand import OnDemand

_log = logging.getLogger(__name__)

# Seconds in which the folder is looked through once, however many unknown names are asked for.
_SCAN_EVERY_S = 1.0


class Folder:
    """The bundles of a folder as models that `add` makes. Raises InvalidInput when there is no such folder."""

    def __init__(self, path: Path, add: Callable[[Bundle], OnDemand]) -> None:
        if not path.is_dir():
            raise InvalidInput(f"--models: expected a folder with bundles, given {path}")
        self._path = path
        self._add = add
        self._stamps: dict[Path, tuple[int, ...]] = {}  # of the bundles that are known, or known to be damaged
        self._damaged: dict[str, BundleError] = {}
        self._ids: dict[str, Path] = {}
        self._scanned_at = -_SCAN_EVERY_S

    def discover(self, name: str) -> list[OnDemand]:
        """The models that were not there before. Raises BundleError when the folder of that name is damaged."""
        found = self.scan()
        if name in self._damaged and not any(one.id == name for one in found):
            raise self._damaged[name].with_traceback(None)
        return found

    def scan(self) -> list[OnDemand]:
        """The models that were not there before."""
        now = time.monotonic()
        if now - self._scanned_at < _SCAN_EVERY_S:
            return []
        self._scanned_at = now
        manifests = sorted([*self._path.glob(f"*/{MANIFEST_NAME}"), *self._path.glob(f"*/*/{MANIFEST_NAME}")])
        found = [self._read(manifest.parent) for manifest in manifests]
        return [one for one in found if one is not None]

    def _read(self, path: Path) -> OnDemand | None:
        stamp, name = stamp_of(path), path.relative_to(self._path).as_posix()
        if self._stamps.get(path) == stamp or path in self._ids.values():
            return None
        self._stamps[path] = stamp
        self._damaged.pop(name, None)
        try:
            bundle = open_bundle(path)
            if bundle.manifest.id in self._ids:
                other = self._ids[bundle.manifest.id]
                raise BundleError(f"{path}: has the id {bundle.manifest.id}, as {other} has; left out")
            model = self._add(bundle)
        except OnnxpipeError as error:
            _log.error("%s", error)
            self._damaged[name] = error if isinstance(error, BundleError) else BundleError(str(error))
            return None
        self._ids[model.id] = path
        return model
