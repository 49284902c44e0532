"""Facts about masks recorded by the tests of transformers and transformers.js.

Of golden/tensor_ops.json the bilinear resizing; of golden/image_transforms.json how colours of a panoptic PNG are
numbers, and with that the annotated segments of the cats. The masks of golden/image_processors_coco.json are those
resized for training, which onnxpipe does not do.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxpipe.vision.mask_png import decode_mask, encode_mask
from onnxpipe.vision.masks import find_panoptic
from onnxpipe.vision.upsampling import resize


def recorded(test_data: Path, name: str) -> dict:
    return json.loads((test_data / "golden" / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", ["downscale", "upscale"])
def test_bilinear_resizing_gives_the_recorded_numbers(test_data: Path, kind: str) -> None:
    cases = recorded(test_data, "tensor_ops.json")["cases"]
    (case,) = (case for case in cases if case["name"].endswith(f"interpolate / {kind} / bilinear"))
    tensor, options = case["args"]
    planes = np.array(tensor["data"], np.float32).reshape(-1, *tensor["dims"][2:])
    given = resize(planes, tuple(options["size"][2:]))
    np.testing.assert_allclose(given.ravel(), case["expected"], atol=1e-5)


def color_numbers(rgb: np.ndarray) -> np.ndarray:
    return rgb.astype(np.int64) @ np.array([1, 256, 65536])


def test_the_annotated_segments_of_the_cats_are_found_in_the_masks_made_of_them(test_data: Path) -> None:
    for case in recorded(test_data, "image_transforms.json")["panoptic_ids"]["rgb_to_id"]:
        np.testing.assert_array_equal(color_numbers(np.array(case["rgb"])), case["id"])
    folder = test_data / "images/coco"
    annotations = json.loads((folder / "coco_panoptic_annotations.txt").read_text(encoding="utf-8"))
    with Image.open(folder / "panoptic_000000039769.png") as image:
        numbers = color_numbers(np.asarray(image.convert("RGB")))
    truth = [numbers == annotation["id"] for annotation in annotations]
    masks = np.where(truth, 8, -8).astype(np.float32)
    logits = np.full((len(truth), 201), -5, np.float32)
    labels = [annotation["category_id"] for annotation in annotations]
    logits[np.arange(len(truth)), labels] = 10
    settings = {"threshold": 0.9, "mask_threshold": 0.5, "overlap_mask_area_threshold": 0.5}
    found = find_panoptic(logits, masks, numbers.shape, **settings)
    assert [segment.label for segment in found.found] == labels
    for segment, mask, annotation in zip(found.found, truth, annotations, strict=True):
        # pixels that nobody annotated go to some segment too
        given = decode_mask(encode_mask(found.mask(segment))) & np.any(truth, axis=0)
        np.testing.assert_array_equal(given, mask)
        assert given.sum() == annotation["area"]
