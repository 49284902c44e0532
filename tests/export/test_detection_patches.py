"""Graphs with a mask, for whoever pads pictures: the runtime does not (see `convert.describe_graph`)."""

import numpy as np
import pytest
import torch
import transformers

from onnxpipe.session import Session
from onnxpipe_export.detection_patches import detection_options
from onnxpipe_export.quiet import quiet

HEAD = "ForObjectDetection"
MASKED = ("conditional-detr", "dab-detr", "detr", "table-transformer")


@pytest.fixture(params=MASKED)
def family(request):
    return request.param


def test_a_padded_batch_gives_what_the_reference_gives_it(family, tiny_model, tiny_bundle):
    with quiet():
        model = transformers.AutoModelForObjectDetection.from_pretrained(tiny_model(family, HEAD)).eval()
    torch.manual_seed(0)
    mask = torch.ones(3, 107, 96, dtype=torch.long)
    mask[0, :, 50:] = 0
    mask[1, 60:] = 0
    pixels = torch.randn(3, 3, 107, 96) * mask[:, None]
    with torch.inference_mode():
        expected, unmasked = model(pixels, pixel_mask=mask), model(pixels)
    session = Session(tiny_bundle(family, HEAD) / "onnx" / "model.onnx")
    given = session.run({"pixel_values": pixels.numpy(), "pixel_mask": mask.numpy()})
    np.testing.assert_allclose(given["pred_boxes"], expected.pred_boxes, atol=1e-4)
    np.testing.assert_allclose(given["logits"], expected.logits, atol=1e-3)
    # the mask does make a difference
    assert (expected.pred_boxes - unmasked.pred_boxes)[:2].abs().max() > 1e-3


@pytest.mark.parametrize("family", ["yolos", "rt-detr", "rt-detr-v2", "d-fine"])
def test_models_without_a_use_for_a_mask_are_exported_as_the_exporter_knows_them(family, tiny_model):
    with quiet():
        model = transformers.AutoModelForObjectDetection.from_pretrained(tiny_model(family, HEAD))
    assert detection_options(model) == {}
