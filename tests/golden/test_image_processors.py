"""Facts recorded by transformers' own tests of image processors and of image transforms.

golden/image_processors_coco.json also tells of boxes, areas and masks, golden/image_transforms.json of boxes, panoptic
ids and of paddings that no supported processor uses: these are not about pixels. Grounding DINO is not supported.
"""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from onnxpipe.bundle import Graph, Tensor
from onnxpipe.sections import Image, Resize, Size
from onnxpipe.vision.image import Picture
from onnxpipe.vision.pixels import PixelReader, center_crop, channel_levels, map_levels, target_size

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
EDGES = {"mode": "shortest_edge", "shortest_edge": 800, "longest_edge": 1333, "resample": "bilinear"}
DETR = Image(resize=Resize(**EDGES), factor=1 / 255, **IMAGENET)
SECTIONS = {
    "detr": DETR,
    "conditional_detr": DETR,
    "deformable_detr": DETR,
    "yolos": Image(resize=Resize(**EDGES, limit="round_tall", multiple_of=16), factor=1 / 255, **IMAGENET),
    "rt_detr": Image(
        resize=Resize(mode="exact", size=Size(height=640, width=640), resample="bilinear"), factor=1 / 255
    ),
}
GRAPH = Graph(
    inputs=(Tensor(name="pixel_values", dtype="float32", shape=("batch", 3, "height", "width")),),
    outputs=(Tensor(name="logits", dtype="float32", shape=("batch", 2)),),
)


def read_facts(test_data: Path, name: str) -> dict:
    return json.loads((test_data / "golden" / name).read_text(encoding="utf-8"))


def as_picture(pixels: list) -> PIL.Image.Image:
    return Picture.read(np.array(pixels, dtype=np.uint8)).rgb()


@pytest.fixture(scope="module")
def transforms(test_data: Path) -> dict:
    return read_facts(test_data, "image_transforms.json")


@pytest.mark.parametrize("family", SECTIONS)
def test_the_cats_have_the_recorded_shape_and_first_pixels(family, test_data):
    pixels = PixelReader(SECTIONS[family], GRAPH).row(Picture.read(test_data / "images/coco/000000039769.png"))
    cases = 0
    for test in read_facts(test_data, "image_processors_coco.json")["tests"]:
        expected = {fact["name"]: fact["value"] for fact in test["expected"]}
        if test["file"].split("/")[-2] == family and "expected_slice" in expected:
            cases += 1
            assert [1, *pixels["pixel_values"].shape] == expected["expected_shape"]
            np.testing.assert_allclose(pixels["pixel_values"][0, 0, :3], expected["expected_slice"], atol=1e-4)
    assert cases == 2


def test_sizes_are_those_recorded(transforms):
    for case in transforms["resize_output_size"]:
        size = case["size"]
        if case.get("default_to_square", True):
            height, width = size if isinstance(size, list) else (size, size)
            resize = Resize(mode="exact", size=Size(height=height, width=width), resample="bilinear")
        else:
            resize = Resize(
                mode="shortest_edge",
                shortest_edge=size,
                longest_edge=case.get("max_size"),
                limit="floor",
                resample="bilinear",
            )
        assert list(target_size((case["h"], case["w"]), resize)) == case["out"], case


def test_crops_are_those_recorded(transforms):
    draws = np.random.default_rng(0)
    for case in transforms["center_crop"]:
        pixels = draws.integers(1, 256, (case["h"], case["w"], 3), dtype=np.uint8)
        height, width = case["crop"]
        given = np.asarray(center_crop(PIL.Image.fromarray(pixels), Size(height=height, width=width)))
        assert given.shape == (height, width, 3)
        if "rows" in case:
            np.testing.assert_array_equal(given, pixels[slice(*case["rows"]), slice(*case["cols"])])
        if "content_rows" in case:
            inside = np.zeros_like(given)
            inside[slice(*case["content_rows"]), slice(*case["content_cols"])] = pixels
            np.testing.assert_array_equal(given, inside)


def test_colours_are_those_recorded(transforms):
    for case in transforms["convert_to_rgb"]:
        np.testing.assert_array_equal(np.asarray(as_picture(case["pixels"])), case["rgb"])


def test_normalising_subtracts_the_mean_and_divides_by_the_deviation(transforms):
    assert transforms["normalize"]["rule"].startswith("(x-mean)/std per channel")
    image = Image(mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0))
    given = map_levels(as_picture([[[5, 6, 7]]]), channel_levels(image))
    assert given[:, 0, 0].tolist() == [2.0, 1.0, 0.5]


def test_flipping_reverses_the_channels(transforms):
    assert transforms["flip_channel_order"]["rule"].startswith("reverses the channel axis")
    row = PixelReader(Image(channels="bgr"), GRAPH).row(Picture.read(np.array([[[5, 6, 7]]], dtype=np.uint8)))
    assert row["pixel_values"][:, 0, 0].tolist() == [7, 6, 5]
