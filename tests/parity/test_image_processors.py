"""Pixels beside the slow image processors of transformers 4.57.6: their usual settings on the hub, and odd ones.

Each reads preprocessor_config.json as it lies on the hub, old spellings included. The tolerance of 1e-5 is for
processors that divide twice; most pixels are equal to the bit.
"""

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

pytest.importorskip("optimum", reason="parity needs the export extra")
from transformers import AutoImageProcessor
from transformers.image_utils import load_image

from onnxpipe.bundle import Graph, Tensor
from onnxpipe.errors import InvalidInput
from onnxpipe.vision.image import Picture
from onnxpipe.vision.pixels import PixelReader
from onnxpipe_export.source import SourceModel
from onnxpipe_export.vision import image_section

HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
CLIP = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
EFFICIENT = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.47853944, 0.4732864, 0.47434163]}


def old(name: str, **settings: object) -> dict[str, object]:
    return {"feature_extractor_type": f"{name}FeatureExtractor", "do_normalize": True, "do_resize": True, **settings}


def new(name: str, **settings: object) -> dict[str, object]:
    return {"image_processor_type": f"{name}ImageProcessor", **settings}


USUAL = {
    "vit": old("ViT", size=224, **HALF),
    "swin": old("ViT", size=224, resample=3, **IMAGENET),
    "deit": old("DeiT", size=256, crop_size=224, do_center_crop=True, resample=3, **IMAGENET),
    "beit": old("Beit", size=224, crop_size=224, do_center_crop=False, resample=2, **HALF),
    "convnext": old("ConvNext", size=224, crop_pct=0.875, resample=3, **IMAGENET),
    "convnext-384": old("ConvNext", size=384, crop_pct=1.0, resample=3, **IMAGENET),
    "resnet": old("ConvNext", size=224, crop_pct=0.875, resample=3, **IMAGENET),
    "mobilenet-v1": new("MobileNetV1", size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}, **HALF),
    "mobilenet-v2": new("MobileNetV2", size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}, **HALF),
    "mobilevit": old("MobileViT", size=288, crop_size=256, do_center_crop=True, do_flip_channel_order=True, resample=2),
    "efficientnet": new("EfficientNet", size={"height": 224, "width": 224}, resample=0, include_top=True, **EFFICIENT),
    "levit": old("Levit", size=224, do_center_crop=True, resample=3, **IMAGENET),
    "poolformer": old("PoolFormer", size=224, crop_pct=0.9, do_center_crop=True, resample=3, **IMAGENET),
    "clip": old("CLIP", size=224, crop_size=224, do_center_crop=True, resample=3, **CLIP),
    "bit": new("Bit", size={"shortest_edge": 448}, crop_size={"height": 448, "width": 448}, resample=2, **HALF),
    "pvt": new("Pvt", size={"height": 224, "width": 224}, **IMAGENET),
    "siglip": new("Siglip", size={"height": 224, "width": 224}, resample=3, **HALF),
    "segformer": old("Segformer", size=512, resample=2, reduce_labels=True, **IMAGENET),
    "detr": old("Detr", size=800, max_size=1333, format="coco_detection", **IMAGENET),
    "conditional-detr": old("ConditionalDetr", size=800, max_size=1333, format="coco_detection", **IMAGENET),
    "deformable-detr": old("DeformableDetr", size=800, max_size=1333, format="coco_detection", **IMAGENET),
    "yolos": old("Yolos", size=512, max_size=1333, format="coco_detection", **IMAGENET),
    "rt-detr": new("RTDetr", size={"height": 640, "width": 640}, do_normalize=False, do_pad=False, **IMAGENET),
    "maskformer": old("MaskFormer", size=512, max_size=2048, size_divisibility=32, **IMAGENET),
    "mask2former": new(
        "Mask2Former", size={"shortest_edge": 800, "longest_edge": 1333}, size_divisor=32, ignore_index=255, **IMAGENET
    ),
    "mask2former-384": new("Mask2Former", size={"height": 384, "width": 384}, size_divisor=32, **IMAGENET),
    "dpt": new("DPT", size={"height": 384, "width": 384}, keep_aspect_ratio=False, resample=3, **HALF),
    "depth-anything": new(
        "DPT", size={"height": 518, "width": 518}, keep_aspect_ratio=True, ensure_multiple_of=14, resample=3, **IMAGENET
    ),
}
ODD = {
    "a rectangle by lanczos": new("ViT", size={"height": 37, "width": 53}, resample=1, **IMAGENET),
    "box filter, one number for all channels": new("ViT", size=31, resample=4, image_mean=0.4, image_std=0.3),
    "hamming filter": new("ViT", size=49, resample=5),
    "settings of other processors": new(
        "ViT", size=33, do_center_crop=True, crop_size=20, do_flip_channel_order=True, include_top=True, do_pad=True
    ),
    "no resizing": new("ViT", do_resize=False),
    "no rescaling": new("ViT", size=32, do_rescale=False, **HALF),
    "no normalisation": new("ViT", size=32, do_normalize=False),
    "values as they are": new("ViT", size=32, do_normalize=False, do_rescale=False),
    "a factor of its own": new("ViT", size=32, rescale_factor=1 / 127.5),
    "a crop larger than the picture": new("DeiT", do_resize=False, crop_size={"height": 301, "width": 650}, **IMAGENET),
    "a crop without scaling": new("CLIP", do_resize=False, crop_size={"height": 63, "width": 64}),
    "an exact size, then a crop": new("CLIP", size={"height": 90, "width": 61}, crop_size=45),
    "no crop": new("CLIP", size={"shortest_edge": 50}, do_center_crop=False),
    "convnext, odd": new("ConvNext", size={"shortest_edge": 83}, crop_pct=0.9),
    "convnext, not scaled": new("ConvNext", do_resize=False),
    "levit, exact": new("Levit", size={"height": 64, "width": 80}, crop_size=60),
    "poolformer, rectangle": new("PoolFormer", size={"height": 64, "width": 80}, crop_pct=0.9, crop_size=60),
    "poolformer, square": new("PoolFormer", size={"height": 64, "width": 64}, crop_pct=0.8, crop_size=60),
    "rescale offset": new("EfficientNet", size=64, rescale_factor=1 / 127.5, rescale_offset=True, do_normalize=False),
    "include_top alone": new("EfficientNet", size=64, do_normalize=False, **EFFICIENT),
    "offset, crop and both divisions": new(
        "EfficientNet", size=64, do_center_crop=True, crop_size=70, rescale_offset=True, rescale_factor=1 / 127.5
    ),
    "mobilevit in RGB": new("MobileViT", size={"height": 66, "width": 70}, do_flip_channel_order=False, crop_size=64),
    "detr, exact": new("Detr", size={"height": 70, "width": 91}),
    "detr, within": new("Detr", size={"max_height": 100, "max_width": 150}),
    "detr, small": new("Detr", size={"shortest_edge": 96, "longest_edge": 160}),
    "detr, no pixel mask": new("Detr", size={"shortest_edge": 96, "longest_edge": 160}, do_pad=False),
    "detr, fixed padding": new(
        "Detr", size={"shortest_edge": 96, "longest_edge": 160}, pad_size={"height": 170, "width": 161}, **IMAGENET
    ),
    "yolos, small": new("Yolos", size={"shortest_edge": 96, "longest_edge": 160}),
    "yolos, within": new("Yolos", size={"max_height": 100, "max_width": 150}),
    "rt-detr, by its edges": new("RTDetr", size={"shortest_edge": 96, "longest_edge": 160}, do_normalize=True),
    "rt-detr, padded": new(
        "RTDetr", size={"height": 64, "width": 60}, do_pad=True, pad_size={"height": 70, "width": 64}
    ),
    "maskformer, small": new("MaskFormer", size={"shortest_edge": 96, "longest_edge": 130}, size_divisor=32),
    "maskformer, exact": new("MaskFormer", size={"height": 70, "width": 91}, size_divisor=32),
    "maskformer, no divisor": new("MaskFormer", size={"shortest_edge": 96, "longest_edge": 130}, size_divisor=0),
    "maskformer, padded": new(
        "MaskFormer", size={"height": 64, "width": 96}, size_divisor=32, pad_size={"height": 96, "width": 97}
    ),
    "dpt, padded": new("DPT", size={"height": 65, "width": 90}, do_pad=True, size_divisor=32, **IMAGENET),
    "dpt, closest edge": new("DPT", size={"height": 96, "width": 64}, keep_aspect_ratio=True, ensure_multiple_of=8),
    "dpt, multiples": new("DPT", size={"height": 65, "width": 90}, ensure_multiple_of=16),
}
# for every picture of the test data: the cheap ones, one for each way to find a size
EVERYWHERE = ("vit", "clip", "detr, small", "yolos, small", "maskformer, small", "detr, within", "dpt, closest edge")
SETTINGS = USUAL | ODD

GRAPH = Graph(
    inputs=(
        Tensor(name="pixel_values", dtype="float32", shape=("batch", 3, "height", "width")),
        Tensor(name="pixel_mask", dtype="int64", shape=("batch", "height", "width")),
    ),
    outputs=(Tensor(name="logits", dtype="float32", shape=("batch", 2)),),
)


@pytest.fixture(scope="module")
def files(test_data: Path) -> list[Path]:
    found = [
        path
        for folder in ("photos", "coco", "modes", "modes_skimage")
        for path in (test_data / "images" / folder).rglob("*")
    ]
    return sorted(path for path in found if path.is_file())


@pytest.fixture(scope="module")
def pictures(files: list[Path]) -> dict[Path, PIL.Image.Image]:
    """What the reference reads of the files that it can read."""
    return {path: image for path in files if (image := read_by_reference(path)) is not None}


@pytest.fixture
def processors(tmp_path: Path) -> Callable[[str], tuple[Callable, PixelReader]]:
    """The reference and ours of a name in SETTINGS."""

    def load(name: str) -> tuple[Callable, PixelReader]:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(SETTINGS[name]), encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old spellings
            processor = AutoImageProcessor.from_pretrained(tmp_path, use_fast=False)
        section = image_section(SourceModel(tmp_path, name, None, {}), processor)
        return processor, PixelReader(section, GRAPH)

    return load


def read_by_reference(path: Path) -> PIL.Image.Image | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with PIL.Image.open(path) as image:
                return load_image(image)
        except Exception:  # noqa: BLE001 - whatever Pillow raises
            return None


def compare(processor: Callable, reader: PixelReader, path: Path, image: PIL.Image.Image) -> str | None:
    """What differs, if anything."""
    try:
        # stated, for it would take the rows of a picture with one or three of them for channels
        expected = processor(image, input_data_format="channels_last")
    except ValueError as error:
        with pytest.raises(InvalidInput) as ours:
            reader.row(Picture.read(path))
        refused = ("too thin" in str(ours.value)) == ("must be > 0" in str(error))
        return None if refused else f"{path.name} {image.size}: {error}, but {ours.value}"
    row = reader.row(Picture.read(path))
    values = np.asarray(expected["pixel_values"][0], dtype=np.float32)
    mask = np.asarray(expected["pixel_mask"][0]) if "pixel_mask" in expected else row["pixel_mask"]
    if values.shape != row["pixel_values"].shape:
        return f"{path.name} {image.size}: expected {values.shape}, given {row['pixel_values'].shape}"
    if not np.array_equal(mask, row["pixel_mask"]):
        return f"{path.name} {image.size}: another mask"
    difference = np.abs(values - row["pixel_values"]).max()
    return None if difference <= 1e-5 else f"{path.name} {image.mode} {image.size}: {difference}"


def choose(pictures: Mapping[Path, PIL.Image.Image]) -> list[Path]:
    """Pictures of many sizes and shapes: large, small, tall, wide, square, thin."""
    by_shape = sorted(pictures, key=lambda path: (pictures[path].width / pictures[path].height, path))
    by_size = sorted(pictures, key=lambda path: (pictures[path].width * pictures[path].height, path))
    places = np.linspace(0, len(pictures) - 1, 12).round().astype(int)
    cats = next(path for path in pictures if path.name == "000000039769.png")
    return list(dict.fromkeys([cats, *(by_shape[place] for place in places), *(by_size[place] for place in places)]))


def test_the_reference_reads_most_pictures_of_the_test_data(files, pictures):
    assert len(pictures) > 300
    assert len(choose(pictures)) > 20


@pytest.mark.parametrize("name", SETTINGS)
def test_pixels_equal_the_reference_on_pictures_of_many_sizes(name, processors, pictures):
    processor, reader = processors(name)
    assert [found for path in choose(pictures) if (found := compare(processor, reader, path, pictures[path]))] == []


@pytest.mark.parametrize("name", EVERYWHERE)
def test_pixels_equal_the_reference_on_every_picture(name, processors, pictures):
    processor, reader = processors(name)
    assert [found for path, image in pictures.items() if (found := compare(processor, reader, path, image))] == []


def test_exactly_the_files_that_the_reference_cannot_read_are_refused(files, pictures):
    def is_readable(path: Path) -> bool:
        try:
            Picture.read(path).rgb()
        except InvalidInput:
            return False
        return True

    assert [path for path in files if is_readable(path)] == list(pictures)


def test_every_picture_is_the_same_in_bytes_and_upright_in_the_reference_s_colours(pictures):
    for path, image in pictures.items():
        picture = Picture.read(path.read_bytes())
        assert picture.size == image.size, path
        assert picture.rgb().mode == "RGB", path
        assert picture.rgb().tobytes() == image.tobytes(), path
