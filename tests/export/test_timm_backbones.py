import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from onnxpipe.errors import UnsupportedModel
from onnxpipe_export.loaded import load_torch
from onnxpipe_export.recipes import RECIPES
from onnxpipe_export.source import find_model
from timm_names import rename_backbone

HEAD = "ForObjectDetection"
RECIPE = RECIPES["object-detection"]


@pytest.fixture
def renamed(tiny_model, tmp_path):
    """A tiny DETR as with a backbone from timm."""
    return rename_backbone(tiny_model("detr", HEAD), tmp_path / "timm")


@pytest.fixture
def edit_weights(renamed):
    def edit(function):
        weights = load_file(renamed / "model.safetensors")
        function(weights)
        save_file(weights, renamed / "model.safetensors", metadata={"format": "pt"})

    return edit


def load(folder):
    return load_torch(find_model(str(folder)), RECIPE)


def answers(model):
    torch.manual_seed(0)
    with torch.inference_mode():
        outputs = model(torch.randn(1, 3, 64, 96))
    return torch.cat([outputs.logits.flatten(), outputs.pred_boxes.flatten()])


def test_the_weights_are_the_same_under_other_names(tiny_model, renamed):
    torch.testing.assert_close(answers(load(renamed)), answers(load(tiny_model("detr", HEAD))), atol=0, rtol=0)


@pytest.mark.parametrize("layer_type", ["basic", "bottleneck"])
def test_sizes_are_read_from_the_weights(tiny_model, tmp_path, layer_type):
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [2, 1, 3, 1], "layer_type": layer_type}
    source = tiny_model("detr", HEAD, backbone_config={"model_type": "resnet", **sizes})
    model = load(rename_backbone(source, tmp_path / "timm"))
    config = model.config.backbone_config.to_dict()
    assert {name: config[name] for name in sizes} == sizes
    torch.testing.assert_close(answers(model), answers(load(source)), atol=0, rtol=0)


def test_a_dilated_last_stage_keeps_its_size(tiny_model, tmp_path):
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 3], "layer_type": "bottleneck"}
    source = tiny_model("detr", HEAD, backbone_config={"model_type": "resnet", **sizes})
    folder = rename_backbone(source, tmp_path / "timm")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dilation": True}))
    backbone = load(folder).model.backbone.conv_encoder.model
    with torch.inference_mode():
        maps = backbone(torch.randn(1, 3, 64, 96)).feature_maps
    assert [tuple(features.shape[2:]) for features in maps] == [(16, 24), (8, 12), (4, 6), (4, 6)]
    kernels = [block.layer[1].convolution for block in backbone.encoder.stages[-1].layers]
    assert [kernel.dilation for kernel in kernels] == [(1, 1), (2, 2), (2, 2)]


def test_counters_of_training_are_left_out(renamed, edit_weights):
    expected = answers(load(renamed))
    name = "model.backbone.conv_encoder.model.bn1.num_batches_tracked"
    edit_weights(lambda weights: weights.update({name: torch.tensor(7)}))
    torch.testing.assert_close(answers(load(renamed)), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda backbone, weights: weights.pop(f"{backbone}conv1.weight"),
            "is no plain ResNet .it has no 'conv1.weight'",
        ),
        (
            lambda backbone, weights: weights.update({f"{backbone}layer1.0.se.fc1.weight": torch.zeros(1)}),
            "has a weight 'layer1.0.se.fc1.weight', which a plain ResNet has not",
        ),
        (lambda backbone, weights: weights.pop(f"{backbone}bn1.bias"), "do not fit a ResNet in the place of timm's"),
        (lambda backbone, weights: weights.update(more=torch.zeros(1)), r"do not fit a ResNet .* \(more\)"),
    ],
)
def test_other_backbones_are_refused(renamed, edit_weights, change, message):
    edit_weights(lambda weights: change("model.backbone.conv_encoder.model.", weights))
    with pytest.raises(UnsupportedModel, match=message):
        load(renamed)
