"""Detectors whose backbone came from timm, in transformers' own terms: the same ResNet under other names.

Most detectors on the hub were saved so (facebook/detr-resnet-50 and -101, microsoft/conditional-detr-resnet-50,
microsoft/table-transformer-detection ...). transformers loads them with timm, which needs a torchvision of just the
torch that is installed; reading their weights needs neither.
"""

import re
from collections.abc import Mapping
from typing import Any

from onnxpipe.errors import UnsupportedModel
from onnxpipe_export.source import SourceModel

Weights = dict[str, Any]  # name -> torch tensor: torch is untyped here

_BACKBONE = ".conv_encoder.model."
_STEM = {"conv1": "embedder.embedder.convolution", "bn1": "embedder.embedder.normalization"}
_KINDS = {"conv": "convolution", "bn": "normalization"}
# layer3.0.conv2.weight, layer3.0.bn2.bias; layer3.0.downsample.0.weight is a convolution, .1. its normalisation
_BLOCK = re.compile(r"layer([1-4])\.(\d+)\.(?:(conv|bn)([1-3])|downsample\.([01]))\.(\w+)")


def without_timm(source: SourceModel) -> tuple[Any, Weights] | None:
    """The config and the weights of a model with a timm backbone, for transformers' ResNet; None for other models.

    Raises UnsupportedModel when the backbone is no plain ResNet.
    """
    import transformers

    config = transformers.AutoConfig.from_pretrained(source.folder, trust_remote_code=False)
    if not getattr(config, "use_timm_backbone", False):
        return None
    saved = _read_weights(source)
    backbone = {name.partition(_BACKBONE)[2]: tensor for name, tensor in saved.items() if _BACKBONE in name}
    config.update(
        {
            "backbone_config": _resnet_config(backbone, source),
            "use_timm_backbone": False,
            "use_pretrained_backbone": False,
            "backbone": None,
            "backbone_kwargs": None,
        }
    )
    weights = {}
    for name, tensor in saved.items():
        before, mark, inside = name.partition(_BACKBONE)
        if not inside.endswith("num_batches_tracked"):  # how often it was trained, which nothing uses
            weights[before + mark + (_rename(inside, source) if mark else "")] = tensor
    return config, weights


def dilate(model: Any) -> None:  # a torch module
    """Let the last stage of a ResNet keep its size and look twice as far, where the config says so (DC5)."""
    if not getattr(model.config, "dilation", False):
        return
    stage = next(module for name, module in model.named_modules() if name.endswith("conv_encoder.model")).encoder.stages
    for number, block in enumerate(stage[-1].layers):
        convolution = block.layer[1].convolution
        if number == 0:
            convolution.stride = (1, 1)
            block.shortcut.convolution.stride = (1, 1)
        else:
            convolution.dilation = convolution.padding = (2, 2)


def _read_weights(source: SourceModel) -> Weights:
    from safetensors.torch import load_file

    files = sorted(source.folder.glob("model*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def _rename(name: str, source: SourceModel) -> str:
    layer, _, kind = name.rpartition(".")
    if layer in _STEM:
        return f"{_STEM[layer]}.{kind}"
    match = _BLOCK.fullmatch(name)
    if match is None:
        raise UnsupportedModel(
            f"{source.name}: its timm backbone has a weight {name!r}, which a plain ResNet has not; "
            "other backbones from timm are not supported"
        )
    stage, block, layer_kind, number, shortcut, kind = match.groups()
    place = f"encoder.stages.{int(stage) - 1}.layers.{block}"
    if shortcut is not None:
        return f"{place}.shortcut.{'convolution' if shortcut == '0' else 'normalization'}.{kind}"
    return f"{place}.layer.{int(number) - 1}.{_KINDS[layer_kind]}.{kind}"


def _resnet_config(weights: Mapping[str, Any], source: SourceModel) -> Any:  # a config of transformers
    """The sizes of a ResNet with these weights, named as timm names them."""
    import transformers

    bottleneck = "layer1.0.conv3.weight" in weights
    try:
        last = [weights[f"layer{stage}.0.conv{3 if bottleneck else 2}.weight"] for stage in range(1, 5)]
        stem = weights["conv1.weight"]
    except KeyError as error:
        raise UnsupportedModel(f"{source.name}: its timm backbone is no plain ResNet (it has no {error})") from None
    blocks = [{name.split(".")[1] for name in weights if name.startswith(f"layer{stage}.")} for stage in range(1, 5)]
    return transformers.ResNetConfig(
        num_channels=stem.shape[1],
        embedding_size=stem.shape[0],
        hidden_sizes=[weight.shape[0] for weight in last],
        depths=[len(numbers) for numbers in blocks],
        layer_type="bottleneck" if bottleneck else "basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
