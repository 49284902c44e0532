import types

import numpy as np
import pytest

from onnxpipe.bundle import Graph, Tensor, open_bundle
from onnxpipe.errors import UnsupportedModel
from onnxpipe.golden import check_golden
from onnxpipe.load import load_model
from onnxpipe.pipeline import Work
from onnxpipe.sections import Size
from onnxpipe.tasks.image_segmentation import Segment
from onnxpipe.verification.found import mask_figures
from onnxpipe.vision.mask_png import encode_mask
from onnxpipe_export.recipes import choose_recipe
from onnxpipe_export.segmentation import segmentation_section
from onnxpipe_export.source import SourceModel

SOURCE = SourceModel(None, "acme/segmenter", None, {})
SUBTASKS = ("panoptic", "instance", "semantic")


def fake(kind, subtasks=SUBTASKS, **config):
    settings = {"id2label": {0: "cat", 1: "sky"}, "num_labels": 2, **config}
    methods = {f"post_process_{name}_segmentation": None for name in subtasks}
    return types.SimpleNamespace(config=types.SimpleNamespace(**settings)), type(kind, (), methods)()


def graph(*outputs):
    tensors = [Tensor(name=name, dtype="float32", shape=("batch",)) for name in ("pixel_values", *outputs)]
    return Graph(inputs=tuple(tensors[:1]), outputs=tuple(tensors[1:]))


@pytest.mark.parametrize(
    ("processor", "instances", "mask_size"),
    [
        ("DetrImageProcessor", "queries", None),
        ("MaskFormerImageProcessor", "pairs", None),
        ("Mask2FormerImageProcessor", "pairs", Size(height=384, width=384)),
    ],
)
def test_the_processor_s_own_rules_are_the_manifest_s(processor, instances, mask_size):
    section = segmentation_section(SOURCE, *fake(processor), graph("logits", "masks"))
    assert (section.predicts, section.subtasks) == ("queries", SUBTASKS)
    assert (section.instances, section.mask_size, section.fused_labels) == (instances, mask_size, ())


def test_scores_of_pixels_are_semantic_whatever_the_processor_can_do():
    section = segmentation_section(SOURCE, *fake("DetrImageProcessor"), graph("logits"))
    assert (section.predicts, section.subtasks, section.labels) == ("pixels", ("semantic",), ("cat", "sky"))


def test_labels_to_fuse_are_those_of_the_config():
    model, processor = fake("DetrImageProcessor", label_ids_to_fuse=[1])
    assert segmentation_section(SOURCE, model, processor, graph("logits", "masks")).fused_labels == ("sky",)


def test_a_class_without_a_label_gets_a_number():
    model, processor = fake("DetrImageProcessor", id2label={0: "N/A"}, num_labels=2)
    assert segmentation_section(SOURCE, model, processor, graph("logits", "masks")).labels == ("N/A", "LABEL_1")


@pytest.mark.parametrize(
    ("processor", "subtasks", "outputs", "message"),
    [
        ("OneFormerImageProcessor", SUBTASKS, 2, "cannot find segments as OneFormerImageProcessor does; supported are"),
        ("ViTImageProcessor", (), 1, "its ViTImageProcessor has no post-processing for segmentation"),
    ],
)
def test_a_processor_that_finds_no_segments_is_refused(processor, subtasks, outputs, message):
    with pytest.raises(UnsupportedModel, match=f"acme/segmenter: {message}"):
        segmentation_section(SOURCE, *fake(processor, subtasks), graph(*"ab"[:outputs]))


@pytest.mark.parametrize(
    ("architecture", "auto_class", "outputs"),
    [
        ("SegformerForSemanticSegmentation", "AutoModelForSemanticSegmentation", ("logits",)),
        ("DetrForSegmentation", "AutoModelForImageSegmentation", ("logits", "pred_masks")),
        (
            "MaskFormerForInstanceSegmentation",
            "AutoModelForInstanceSegmentation",
            ("class_queries_logits", "masks_queries_logits"),
        ),
        (
            "Mask2FormerForUniversalSegmentation",
            "AutoModelForUniversalSegmentation",
            ("class_queries_logits", "masks_queries_logits"),
        ),
    ],
)
@pytest.mark.parametrize("task", [None, "image-segmentation"])
def test_the_architecture_tells_what_a_model_is_loaded_as_and_gives(tmp_path, task, architecture, auto_class, outputs):
    source = SourceModel(tmp_path, "acme/segmenter", None, {"architectures": [architecture]})
    recipe = choose_recipe(source, task)
    assert (recipe.task, recipe.auto_class, recipe.outputs) == ("image-segmentation", auto_class, outputs)


def test_agreement_is_the_share_of_pixels_with_the_same_label():
    def work(*segments):
        found = [Segment(label=label, mask=encode_mask(np.array([columns], bool))) for label, *columns in segments]
        return Work([], lambda outputs: found[outputs[0]["which"] :])

    works = [work(("cat", 1, 1, 0, 0), ("sky", 0, 0, 1, 0)), work()]
    both, second = [{"which": 0}] * 2, [{"which": 1}] * 2
    assert mask_figures(works, both, both) == {"agreement": 1.0}
    # of the first picture, two pixels are of the cat, which is not found again; in the second, there is nothing to find
    assert mask_figures(works, both, second) == {"agreement": 0.75}


@pytest.mark.parametrize(
    ("family", "head", "size"),
    [
        ("segformer", "ForSemanticSegmentation", (64, 96)),
        ("detr-panoptic", "ForImageSegmentation", ("height", "width")),
        ("maskformer-resnet", "ForInstanceSegmentation", (64, 64)),
        ("mask2former", "ForUniversalSegmentation", ("height", "width")),
    ],
)
def test_a_graph_takes_the_one_size_its_processor_makes_or_any(tiny_bundle, family, head, size):
    manifest = open_bundle(tiny_bundle(family, head)).manifest
    pixels = manifest.graphs["model"].inputs[0]
    assert (pixels.shape[2:], pixels.pad) == (size, None)
    assert manifest.variants["fp32"].measured["agreement"] >= 0.9999
    assert manifest.variants["fp32"].batch_invariant


def test_a_golden_request_has_masks_and_holds(tiny_bundle):
    model = load_model(tiny_bundle("segformer", "ForSemanticSegmentation"), threads=1)
    (golden,) = model.golden
    assert {tuple(item) for item in golden.expected} == {("label", "mask")}
    assert check_golden(model) == []
