"""The model to export: a folder in hub layout, from disk or from the hub."""

import dataclasses
from pathlib import Path

from onnxpipe.errors import UnsupportedModel
from onnxpipe.hub import door
from onnxpipe.hub.source import SourceModel

__all__ = ["SourceModel", "find_model"]

# weights as safetensors only, configuration, tokenizers; no pickles, no code, no other frameworks' weights
_PATTERNS = ("*.json", "*.jinja", "*.txt", "*.model", "*.spm", "*.safetensors")
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.pth", "model.bin")


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
        folder, commit = door.download(model, revision, _PATTERNS)
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
