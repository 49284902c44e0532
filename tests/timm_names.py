"""A tiny detector's files as they are on the hub where its backbone came from timm: the same weights, timm's names."""

import json
import re
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

_STEM = {"embedder.embedder.convolution": "conv1", "embedder.embedder.normalization": "bn1"}
_BLOCK = re.compile(r"encoder\.stages\.(\d+)\.layers\.(\d+)\.(shortcut|layer\.(\d+))\.(convolution|normalization)")


def rename_backbone(source: Path, folder: Path) -> Path:
    """Write the model in `source`, whose backbone is a ResNet of transformers' own, to `folder`."""
    shutil.copytree(source, folder)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config |= {"use_timm_backbone": True, "backbone": "resnet18", "backbone_config": None, "backbone_kwargs": None}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    weights = {timm_name(name): tensor for name, tensor in load_file(source / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def timm_name(name: str) -> str:
    """What timm calls a weight, given by its name in transformers; names outside of a backbone stay."""
    before, backbone, inside = name.partition(".conv_encoder.model.")
    for own, timm in _STEM.items():
        inside = inside.replace(own, timm)
    return before + backbone + _BLOCK.sub(_in_block, inside)


def _in_block(match: re.Match[str]) -> str:
    stage, block, place, number, kind = match.groups()
    layer = f"layer{int(stage) + 1}.{block}"
    if place == "shortcut":
        return f"{layer}.downsample.{int(kind == 'normalization')}"
    return f"{layer}.{'conv' if kind == 'convolution' else 'bn'}{int(number) + 1}"
