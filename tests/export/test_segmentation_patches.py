import pytest
import torch
import transformers

from onnxpipe.load import load_model
from onnxpipe_export.loaded import Loaded
from onnxpipe_export.quiet import quiet
from onnxpipe_export.segmentation_patches import segmentation_options

# height and width: a level of one row, of one column, square, and larger than what is traced
SIZES = [(32, 96), (96, 32), (64, 64), (192, 384)]
HEADS = {"maskformer": "ForInstanceSegmentation", "mask2former": "ForUniversalSegmentation"}


def load(folder, head):
    with quiet():
        model = getattr(transformers, f"AutoModel{head}").from_pretrained(folder).eval()
        processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)
    return Loaded(None, model, image_processor=processor)


def answer(model, size):
    torch.manual_seed(sum(size))
    with torch.inference_mode():
        outputs = model(torch.randn(2, 3, *size))
    return outputs.class_queries_logits, outputs.masks_queries_logits


def test_the_points_of_mask2former_s_attention_are_where_they_were_and_its_own_again_afterwards(tiny_model):
    from transformers.models.mask2former.modeling_mask2former import Mask2FormerPixelDecoderEncoderOnly as Encoder

    loaded = load(tiny_model("mask2former", HEADS["mask2former"]), HEADS["mask2former"])
    own = vars(Encoder)["get_reference_points"]
    expected = [answer(loaded.model, size) for size in SIZES]
    with segmentation_options(loaded) as options:
        assert options.keys() == {"custom_onnx_configs"}
        assert vars(Encoder)["get_reference_points"] is not own
        for size, tensors in zip(SIZES, expected, strict=True):
            for given, before in zip(answer(loaded.model, size), tensors, strict=True):
                torch.testing.assert_close(given, before, atol=1e-3, rtol=1e-3)
    assert vars(Encoder)["get_reference_points"] is own


@pytest.mark.parametrize("family", HEADS)
def test_a_graph_traced_at_one_size_is_right_at_others(tiny_model, tiny_bundle, family):
    loaded = load(tiny_model(family, HEADS[family]), HEADS[family])
    session = load_model(tiny_bundle(family, HEADS[family]), threads=1).sessions["model"]
    for size in SIZES:
        torch.manual_seed(sum(size))
        outputs = session.run({"pixel_values": torch.randn(2, 3, *size).numpy()})
        for given, expected in zip(outputs.values(), answer(loaded.model, size), strict=True):
            # a pixel that its attention takes for a part of the mask or not, by a hair, moves numbers a little
            assert abs(given - expected.numpy()).mean() < 1e-4 * expected.abs().mean()


def test_other_models_need_nothing(tiny_model):
    folder = tiny_model("vit", "ForImageClassification")
    with segmentation_options(load(folder, "ForImageClassification")) as options:
        assert options == {}
