"""What a tuning has measured so far, on disk: an interrupted one goes on where it was."""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnxpipe.prepacked import default_folder

_LAYOUT = 1


class State:
    """Figures by name, stored whenever one is set; those of another `question` are never found.

    Without a `folder` it is that of the user's cache; where nothing can be written, nothing is kept.
    """

    def __init__(self, question: Mapping[str, Any], folder: Path | None = None) -> None:
        text = json.dumps([_LAYOUT, question], sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:24]
        self.file = (folder or default_folder() / "tune") / f"{name}.json"
        try:
            found = json.loads(self.file.read_bytes())
        except (OSError, ValueError):
            found = {}
        self._figures: dict[str, Any] = found if isinstance(found, dict) else {}

    @property
    def goes_on(self) -> bool:
        """Whether there was something already."""
        return bool(self._figures)

    def get(self, name: str) -> Any:  # JSON
        """A figure; None when it is not there."""
        return self._figures.get(name)

    def set(self, name: str, value: Any) -> None:  # JSON
        """Keep a figure."""
        self._figures[name] = value
        part = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            part.write_text(json.dumps(self._figures), encoding="utf-8")
            part.replace(self.file)

    def forget(self) -> None:
        """It is done with."""
        self.file.unlink(missing_ok=True)
