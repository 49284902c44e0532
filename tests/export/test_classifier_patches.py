import json
import shutil

import numpy as np
import PIL.Image
import pytest
import transformers

import onnxpipe
from onnxpipe.bundle import open_bundle
from onnxpipe.errors import UnsupportedModel
from onnxpipe_export.classifier_patches import classifier_options, only_size
from onnxpipe_export.export import export
from onnxpipe_export.loaded import Loaded
from vision_zoo import vision_families

HEAD = "ForImageClassification"


@pytest.fixture
def with_settings(tiny_model, tmp_path):
    """A copy of a tiny model whose image processor has other settings."""

    def copy(family, **settings):
        folder = shutil.copytree(tiny_model(family, HEAD), tmp_path / "model")
        file = folder / "preprocessor_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
        return folder

    return copy


@pytest.mark.parametrize("family", vision_families(HEAD))
def test_a_graph_takes_the_one_size_its_processor_makes(tiny_bundle, family):
    shape = open_bundle(tiny_bundle(family, HEAD)).manifest.graphs["model"].inputs[0].shape
    edge = 65 if family == "mobilenet-v2" else 64
    assert shape == ("batch", 3, edge, edge)


@pytest.mark.parametrize(
    ("processor", "size"),
    [
        (transformers.ViTImageProcessor(size={"height": 20, "width": 30}), (20, 30)),
        (transformers.ConvNextImageProcessor(size={"shortest_edge": 40}), (40, 40)),
        (transformers.ConvNextImageProcessor(size={"shortest_edge": 384}), (384, 384)),
        (transformers.MobileNetV2ImageProcessor(size={"shortest_edge": 40}), (224, 224)),
        (transformers.MobileNetV2ImageProcessor(size={"shortest_edge": 40}, do_center_crop=False), None),
        (transformers.ViTImageProcessor(do_resize=False), None),
    ],
)
def test_what_a_processor_makes_is_tried_out(processor, size):
    assert only_size(processor) == size


def test_pictures_of_several_sizes_are_refused_for_graphs_of_one(with_settings, tmp_path):
    folder = with_settings("mobilenet-v1", do_center_crop=False)
    with pytest.raises(UnsupportedModel, match=r"makes pictures of several sizes, but MobileNetV1.* do_center_crop"):
        export(folder, tmp_path / "out", precisions=["fp32"])


def test_a_network_of_any_size_keeps_its_axes_open(with_settings, tmp_path):
    settings = {"image_processor_type": "MobileNetV1ImageProcessor", "do_center_crop": False}
    folder = with_settings("resnet", **settings, size={"shortest_edge": 48})
    export(folder, tmp_path / "out", precisions=["fp32"])
    classify = onnxpipe.load(tmp_path / "out")
    assert classify.model.graph().inputs[0].shape[2:] == ("height", "width")
    processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)
    reference = transformers.pipeline("image-classification", str(folder), image_processor=processor, device="cpu")
    ramp = np.linspace(0, 255, 90 * 61 * 3).reshape(90, 61, 3).astype(np.uint8)
    for picture in (PIL.Image.fromarray(ramp), PIL.Image.fromarray(ramp[:50])):
        expected = {item["label"]: item["score"] for item in reference(picture)}
        assert {item.label: item.score for item in classify(picture)} == pytest.approx(expected, abs=1e-5)


def test_the_model_and_its_config_are_as_they_were(tiny_model):
    model = transformers.AutoModelForImageClassification.from_pretrained(tiny_model("mobilenet-v2", HEAD))
    processor = transformers.AutoImageProcessor.from_pretrained(tiny_model("mobilenet-v2", HEAD), use_fast=False)
    assert classifier_options(Loaded(None, model, image_processor=processor))
    assert model.config.image_size == 96


def test_other_models_need_nothing(tiny_model):
    model = transformers.AutoModel.from_pretrained(tiny_model("vit", HEAD))
    processor = transformers.ViTImageProcessor()
    assert classifier_options(Loaded(None, model, image_processor=processor)) == {}
    assert classifier_options(Loaded(None, model)) == {}
