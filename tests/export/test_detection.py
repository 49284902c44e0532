import types

import numpy as np
import pytest

from onnxpipe.bundle import open_bundle
from onnxpipe.errors import UnsupportedModel
from onnxpipe.golden import check_golden
from onnxpipe.load import load_model
from onnxpipe.sections import Detection
from onnxpipe.tasks.object_detection import Box, DetectedObject
from onnxpipe.verification.found import box_figures, golden_parameters, overlaps
from onnxpipe_export.detection import detection_section
from onnxpipe_export.export import export
from onnxpipe_export.source import SourceModel

HEAD = "ForObjectDetection"
SOURCE = SourceModel(None, "acme/detector", None, {})
DETECTION = Detection(labels=("ONE", "TWO"), scores="softmax_without_last")


def fake(kind, **config):
    settings = {"id2label": {0: "cat", 1: "dog"}, "num_labels": 2, **config}
    return types.SimpleNamespace(config=types.SimpleNamespace(**settings)), type(kind, (), {})()


@pytest.mark.parametrize(
    ("processor", "config", "scores", "count"),
    [
        ("DetrImageProcessor", {}, "softmax_without_last", None),
        ("YolosImageProcessor", {}, "softmax_without_last", None),
        ("ConditionalDetrImageProcessor", {}, "sigmoid_top_k", 100),
        ("DeformableDetrImageProcessor", {}, "sigmoid_top_k", 100),
        ("RTDetrImageProcessor", {"use_focal_loss": True}, "sigmoid_top_k", None),
        ("RTDetrImageProcessor", {"use_focal_loss": False}, "softmax_without_last", None),
    ],
)
def test_the_processor_s_own_rule_is_the_manifest_s(processor, config, scores, count):
    section = detection_section(SOURCE, *fake(processor, **config))
    assert (section.scores, section.count, section.box_format) == (scores, count, "cxcywh")
    assert section.labels == ("cat", "dog")


def test_a_class_without_a_label_gets_a_number():
    model, processor = fake("DetrImageProcessor", id2label={0: "N/A", 2: "dog"}, num_labels=3)
    assert detection_section(SOURCE, model, processor).labels == ("N/A", "LABEL_1", "dog")


def test_a_processor_that_finds_no_objects_is_refused():
    with pytest.raises(
        UnsupportedModel, match="acme/detector: cannot find objects as ViTImageProcessor does; supported"
    ):
        detection_section(SOURCE, *fake("ViTImageProcessor"))


def test_overlaps_are_shares_of_the_area_that_either_covers():
    boxes = np.array([[0, 0, 2, 2], [0, 0, 0, 0]], np.float32)
    others = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6], [0, 0, 0, 0]], np.float32)
    np.testing.assert_allclose(overlaps(boxes, others), [[1, 1 / 3, 0, 0], [0, 0, 0, 0]], atol=1e-7)


def outputs(probabilities, boxes):
    return {"logits": np.log(np.array(probabilities, np.float32)), "pred_boxes": np.array(boxes, np.float32)}


PROBABILITIES = [[0.8, 0.1, 0.1], [0.1, 0.6, 0.3], [0.05, 0.05, 0.9]]
BOXES = [[0.5, 0.5, 0.4, 0.4], [0.2, 0.2, 0.2, 0.2], [0.8, 0.8, 0.1, 0.1]]


def figures(probabilities, boxes):
    return box_figures(DETECTION, [outputs(PROBABILITIES, BOXES)], [outputs(probabilities, boxes)])


def test_the_same_outputs_agree_fully():
    assert figures(PROBABILITIES, BOXES) == {"agreement": 1.0, "score_error": 0.0, "box_error": 0.0}


def test_the_order_of_predictions_does_not_matter():
    assert figures(PROBABILITIES[::-1], BOXES[::-1]) == {"agreement": 1.0, "score_error": 0.0, "box_error": 0.0}


def test_what_is_found_with_another_label_or_elsewhere_is_not_found_and_errors_are_means():
    found = figures([[0.1, 0.8, 0.1], [0.1, 0.5, 0.4], [0.05, 0.05, 0.9]], BOXES)
    assert found == pytest.approx({"agreement": 0.5, "score_error": (0.8 + 0.1) / 2, "box_error": 0.0})
    found = figures(PROBABILITIES, [[0.6, 0.5, 0.4, 0.4], *BOXES[1:]])
    assert found == pytest.approx({"agreement": 0.5, "score_error": 0.8 / 2, "box_error": 0.0})


def test_what_torch_hardly_sees_is_left_out():
    assert figures(PROBABILITIES, [*BOXES[:2], [0.1, 0.1, 0.1, 0.1]])["agreement"] == 1.0


def test_boxes_that_share_most_of_their_area_or_are_tiny_and_near_are_the_same():
    found = figures(PROBABILITIES, [[0.505, 0.5, 0.4, 0.4], *BOXES[1:]])
    assert found == pytest.approx({"agreement": 1.0, "score_error": 0.0, "box_error": 0.01 / 8})
    tiny = outputs([[0.8, 0.1, 0.1]], [[0.5, 0.5, 0.0, 0.0]])
    assert box_figures(DETECTION, [tiny], [tiny])["agreement"] == 1.0


def test_when_nothing_is_found_again_the_figures_say_so():
    assert figures(PROBABILITIES, np.array(BOXES) / 3) == pytest.approx(
        {"agreement": 0.0, "score_error": 0.7, "box_error": 1.0}
    )


@pytest.mark.parametrize(
    ("scores", "threshold"),
    [
        ([0.2, 0.9, 0.8], 0.5),
        ([0.9], 0.45),
        ([0.9, 0.89, 0.88, 0.87, 0.86, 0.1], 0.48),
        # the sixth and those behind it are too many
        ([0.9, 0.89, 0.8, 0.79, 0.78, 0.77, 0.1], 0.845),
        ([0.0], 0.0),
        # all but one: with all of them
        ([0.9, 0.8999, 0.8998, 0.8997, 0.8996, 0.8995, 0.8994], 0.4497),
    ],
)
def test_a_golden_threshold_lies_in_the_widest_gap_below_a_few_objects(scores, threshold):
    objects = [DetectedObject(score, "ONE", Box(0, 0, 1, 1)) for score in scores]
    assert golden_parameters(lambda _, threshold: objects, "picture") == {"threshold": pytest.approx(threshold)}


def test_a_bundle_reproduces_its_golden_objects_and_notices_others(tiny_bundle):
    model = load_model(tiny_bundle("rt-detr", HEAD))
    (golden,) = model.golden
    assert 1 <= len(golden.expected) <= 5
    assert check_golden(model) == []
    golden.expected[0]["box"]["xmin"] += 2
    (problem,) = check_golden(model)
    assert "differs from the reference by" in problem


@pytest.mark.parametrize("family", ["detr", "conditional-detr", "table-transformer"])
def test_pictures_of_different_sizes_never_share_a_run(tiny_bundle, family):
    inputs = open_bundle(tiny_bundle(family, HEAD)).manifest.graphs["model"].inputs
    assert [(tensor.name, tensor.pad) for tensor in inputs] == [("pixel_values", None), ("pixel_mask", None)]


def test_a_detector_whose_graph_holds_sizes_is_refused(tmp_path, tiny_model):
    import transformers

    model = transformers.DeformableDetrForObjectDetection(
        transformers.DeformableDetrConfig(
            use_timm_backbone=False,
            use_pretrained_backbone=False,
            backbone=None,
            backbone_config=transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8] * 4, depths=[1] * 4),
            d_model=32,
            encoder_layers=1,
            decoder_layers=1,
        )
    )
    model.save_pretrained(tmp_path / "model")
    transformers.DeformableDetrImageProcessor().save_pretrained(tmp_path / "model")
    with pytest.raises(
        UnsupportedModel, match="DeformableDetrForObjectDetection cannot be exported for object-detection"
    ):
        export(tmp_path / "model", tmp_path / "bundle", precisions=["fp32"])
