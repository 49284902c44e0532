"""A model in hub layout, and what its files say about it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from onnxpipe.errors import UnsupportedModel


@dataclasses.dataclass(frozen=True)
class SourceModel:
    """A folder in hub layout. `name` is the hub id or the folder's name, `revision` the hub commit when it has one."""

    folder: Path
    name: str
    revision: str | None
    config: dict[str, Any]  # config.json: its keys differ per architecture

    @property
    def architecture(self) -> str:
        """The class the weights were saved from, such as BertForSequenceClassification; empty when not stated."""
        return next(iter(self.config.get("architectures") or []), "")

    def read_json(self, name: str) -> Any:  # JSON of any shape
        """A JSON file of the folder, or None when it is not there. Raises UnsupportedModel when it is not JSON."""
        file = self.folder / name
        if not file.is_file():
            return None
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UnsupportedModel(f"{file}: not JSON ({error})") from None
