"""Facts about boxes recorded by transformers' own tests.

Of golden/image_processors_coco.json, what is about annotations: relative boxes beside the pixels they were made from,
and a real model's boxes, one of which reaches over the edge. golden/tensor_ops.json says nothing of boxes.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from onnxpipe.vision.boxes import center_to_corners, pixel_boxes

CATS = (640, 480)


def recorded(test_data: Path, name: str) -> dict:
    return json.loads((test_data / "golden" / name).read_text(encoding="utf-8"))


def test_centers_become_the_recorded_corners(test_data: Path) -> None:
    for case in recorded(test_data, "image_transforms.json")["boxes"]["center_to_corners"]:
        given = center_to_corners(np.array(case["center"], np.float32))
        np.testing.assert_array_equal(given, np.array(case["corners"], np.float32))


def test_recorded_relative_boxes_are_the_annotated_pixels(test_data: Path) -> None:
    text = (test_data / "images/coco/coco_annotations.txt").read_text(encoding="utf-8")
    left, top, width, height = json.loads(text)[0]["bbox"]
    boxes = [
        expected["value"]
        for test in recorded(test_data, "image_processors_coco.json")["tests"]
        if test["test"] == "test_call_pytorch_with_coco_detection_annotations"
        for expected in test["expected"]
        if expected["name"] == "expected_boxes_slice"
    ]
    assert len(boxes) >= 5
    # recorded to four digits: a twentieth of a pixel
    pixels = pixel_boxes(np.array(boxes, np.float32), "cxcywh", CATS)
    np.testing.assert_allclose(pixels, [[left, top, left + width, top + height]] * len(boxes), atol=1.1)


def test_a_recorded_box_over_the_edge_ends_at_the_edge(test_data: Path) -> None:
    (corners,) = [
        expected["value"]
        for test in recorded(test_data, "image_processors_coco.json")["tests"]
        if test["test"] == "test_image_processor_integration_test_resize"
        for expected in test["expected"]
        if expected["name"] == "expected_boxes"
    ]
    edges = np.array(corners) / [*CATS, *CATS]
    boxes = np.concatenate([(edges[:, :2] + edges[:, 2:]) / 2, edges[:, 2:] - edges[:, :2]], axis=-1)
    assert max(corners[0]) == pytest.approx(642.32, abs=0.01)
    given = pixel_boxes(boxes.astype(np.float32), "cxcywh", CATS)
    assert given.tolist() == [[341, 23, 640, 371], [6, 51, 326, 473]]
