import json

import pytest

pytest.importorskip("transformers", reason="the reference needs the export extra")
import transformers

from onnxpipe.errors import UnsupportedModel
from onnxpipe.hub import vision as hub_vision
from onnxpipe.hub.processors import DEFAULTS
from onnxpipe.hub.source import SourceModel
from onnxpipe.hub.vision import detection_section, image_section, segmentation_section
from onnxpipe_export import detection, segmentation, vision
from onnxpipe_export.loaded import load_image_processor
from onnxpipe_export.source import find_model
from vision_zoo import VISION_ZOO


@pytest.fixture
def write(tmp_path):
    """Writes preprocessor_config.json; returns the source."""

    def make(config=None, **settings):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
        return SourceModel(tmp_path, "org/model", None, config or {})

    return make


def exported(source, fixed_size=None):
    return vision.image_section(source, load_image_processor(source), fixed_size=fixed_size)


@pytest.mark.parametrize("family", VISION_ZOO)
def test_every_familys_pictures_are_made_as_at_export(family, tmp_path):
    row = VISION_ZOO[family]
    row.processor(**row.settings).save_pretrained(tmp_path)
    source = SourceModel(tmp_path, family, None, {})
    assert image_section(source) == exported(source)
    assert image_section(source, fixed_size=(64, 64)) == exported(source, (64, 64))


@pytest.mark.parametrize("kind", DEFAULTS)
def test_what_the_file_does_not_say_is_the_processors_own(kind, write):
    source = write(image_processor_type=kind)
    assert image_section(source) == exported(source)


@pytest.mark.parametrize(
    "settings",
    [
        {"feature_extractor_type": "ViTFeatureExtractor", "size": 64},
        {"feature_extractor_type": "ViTFeatureExtractor", "size": [64, 96]},
        {"feature_extractor_type": "DetrFeatureExtractor", "size": 640, "max_size": 900},
        {"feature_extractor_type": "DetrFeatureExtractor", "size": 640},
        {"feature_extractor_type": "CLIPFeatureExtractor", "size": 90, "crop_size": 64},
        {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 224},
        {"feature_extractor_type": "DeiTFeatureExtractor", "size": 256, "crop_size": 224, "do_center_crop": False},
        {"image_processor_type": "ViTFeatureExtractor", "feature_extractor_type": "ViTFeatureExtractor", "size": 64},
        {"image_processor_type": "ViTImageProcessorFast", "resample": 3, "image_mean": None, "do_normalize": False},
        {"image_processor_type": "PoolFormerImageProcessor", "crop_pct": None, "size": {"height": 70, "width": 80}},
        {"image_processor_type": "PoolFormerImageProcessor", "size": {"height": 70, "width": 80}},
        {"image_processor_type": "DPTImageProcessor", "keep_aspect_ratio": True, "ensure_multiple_of": 32},
        {"image_processor_type": "DPTImageProcessor", "do_pad": True, "size_divisor": 14},
        {"image_processor_type": "DetrImageProcessor", "pad_size": {"height": 900, "width": 900}},
        {"image_processor_type": "DetrImageProcessor", "size": {"max_height": 90, "max_width": 80}},
        {"image_processor_type": "EfficientNetImageProcessor", "rescale_offset": True, "include_top": False},
        {"image_processor_type": "ViTImageProcessor", "do_center_crop": True, "crop_size": 20, "do_pad": True},
        {"image_processor_type": "CLIPImageProcessor", "resample": None, "do_resize": False, "do_rescale": False},
        {"image_processor_type": "LevitImageProcessor", "size": {"height": 70, "width": 80}},
    ],
    ids=lambda settings: " ".join(map(str, settings.values())),
)
def test_old_and_unusual_settings_are_read_as_at_export(settings, write):
    source = write(**settings)
    assert image_section(source) == exported(source)


@pytest.mark.parametrize(
    "settings",
    [
        {"image_processor_type": "ViTImageProcessor", "size": {"shortest_edge": 224}},
        {"image_processor_type": "ViTImageProcessor", "size": "large"},
        {"image_processor_type": "ViTImageProcessor", "image_std": [0.0, 1.0, 1.0]},
        {"image_processor_type": "RTDetrImageProcessor", "size": 640},
    ],
)
def test_settings_the_processor_could_not_use_itself_are_told(settings, write):
    with pytest.raises(UnsupportedModel, match=r"the settings of its .*ImageProcessor are not supported"):
        image_section(write(**settings))


def test_an_unknown_processor_is_told_with_those_that_are_known(write, tmp_path):
    with pytest.raises(UnsupportedModel, match=r"ImageGPTImageProcessor is not supported; supported are: Beit, Bit"):
        image_section(write(image_processor_type="ImageGPTImageProcessor"))
    with pytest.raises(UnsupportedModel, match="image processor of no name is not supported"):
        image_section(write(do_resize=True))
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(UnsupportedModel, match=r"no preprocessor_config.json"):
        image_section(SourceModel(tmp_path, "org/model", None, {}))


@pytest.mark.parametrize("family", [name for name, row in VISION_ZOO.items() if "ForObjectDetection" in row.heads])
def test_every_detectors_objects_are_chosen_as_at_export(family, tiny_model):
    source = find_model(str(tiny_model(family, "ForObjectDetection")))
    config = transformers.AutoConfig.from_pretrained(source.folder)
    model = type("Model", (), {"config": config})
    assert detection_section(source) == detection.detection_section(source, model, load_image_processor(source))


SEGMENTERS = [(name, row.heads[0]) for name, row in VISION_ZOO.items() if "Segmentation" in row.heads[0]]


@pytest.mark.parametrize(("family", "head"), SEGMENTERS)
def test_every_segmenters_segments_are_made_as_at_export(family, head, tiny_bundle, tiny_model):
    from onnxpipe.bundle import open_bundle

    manifest = open_bundle(tiny_bundle(family, head)).manifest
    source = find_model(str(tiny_model(family, head)))
    outputs = [tensor.name for tensor in manifest.graphs["model"].outputs]
    assert segmentation_section(source, outputs) == manifest.segmentation


@pytest.mark.parametrize("kind", DEFAULTS)
def test_a_processor_has_pixels_and_objects_where_transformers_has_them(kind, write):
    source = write({"id2label": {"0": "a"}, "num_labels": 1}, image_processor_type=kind)
    processor = getattr(transformers, kind)
    finds_pixels = hasattr(processor, "post_process_semantic_segmentation")
    try:
        section = segmentation_section(source, ["logits"])
    except UnsupportedModel:
        assert not finds_pixels
    else:
        assert finds_pixels
        assert (section.predicts, section.subtasks) == ("pixels", ("semantic",))
    assert (kind in detection._RULES) == (kind in hub_vision._DETECTIONS)
    assert (kind in segmentation._RULES) == (kind in hub_vision._SEGMENTATIONS)
