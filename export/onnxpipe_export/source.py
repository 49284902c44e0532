"""The model to export: a folder in hub layout, from disk or from the hub, and what its files say about it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from onnxpipe import hub
from onnxpipe.errors import UnsupportedModel

# weights as safetensors only, configuration, tokenizers; no pickles, no code, no other frameworks' weights
_PATTERNS = ("*.json", "*.jinja", "*.txt", "*.model", "*.spm", "*.safetensors")
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.pth", "model.bin")


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


def find_model(model: str, revision: str | None = None) -> SourceModel:
    """The model in a folder, or downloaded when `model` is a hub id.

    Raises UnsupportedModel when it cannot be found, has no config.json, or has its weights only as pickles.
    """
    if Path(model).is_dir():
        if revision is not None:
            raise UnsupportedModel(f"{model} is a folder: a revision only means something for a hub id")
        folder, commit = Path(model), None
        name = folder.resolve().name
    else:
        folder, commit = hub.download(model, revision, _PATTERNS)
        name = model
    source = SourceModel(folder, name, commit, {})
    config = source.read_json("config.json")
    if not isinstance(config, dict):
        raise UnsupportedModel(f"{model}: no config.json; expected a model folder in hub layout")
    _check_weights(folder, model)
    return dataclasses.replace(source, config=config)


def _check_weights(folder: Path, model: str) -> None:
    if any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")):
        return
    pickles = [name for name in _PICKLES if (folder / name).is_file()]
    found = f"only {pickles[0]}, a pickle, which can run code when opened" if pickles else "no weights"
    raise UnsupportedModel(
        f"{model}: {found}; expected model.safetensors. transformers writes it: "
        "AutoModel.from_pretrained(...).save_pretrained(..., safe_serialization=True)"
    )
