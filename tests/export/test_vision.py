from pathlib import Path

import pytest

pytest.importorskip("optimum", reason="exporting needs the export extra")
import transformers

from onnxpipe.errors import UnsupportedModel
from onnxpipe.sections import Image, Pad, Resize, Size
from onnxpipe_export.source import SourceModel
from onnxpipe_export.vision import image_section

SOURCE = SourceModel(Path(), "org/model", None, {})
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def section(name: str, fixed_size: tuple[int, int] | None = None, **settings: object) -> Image:
    processor = getattr(transformers, f"{name}ImageProcessor")(**settings)
    return image_section(SOURCE, processor, fixed_size=fixed_size)


def square(edge: int) -> Size:
    return Size(height=edge, width=edge)


def test_a_section_says_all_that_is_done_and_nothing_else():
    assert section("ViT") == Image(
        resize=Resize(mode="exact", size=square(224), resample="bilinear"),
        factor=1 / 255,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )
    assert section("Detr") == Image(
        resize=Resize(mode="shortest_edge", shortest_edge=800, longest_edge=1333, resample="bilinear"),
        factor=1 / 255,
        **IMAGENET,
    )


def test_what_is_switched_off_is_absent():
    nothing = {"do_resize": False, "do_rescale": False, "do_normalize": False, "do_center_crop": False}
    assert section("CLIP", **nothing) == Image()


def test_settings_that_a_class_does_not_know_change_nothing():
    stray = {"do_center_crop": True, "crop_size": 20, "do_flip_channel_order": True, "do_pad": True, "size_divisor": 8}
    with_stray = section("ViT", **stray)
    assert with_stray == section("ViT")


def test_margins_around_a_crop_are_worked_out_at_export():
    assert section("ConvNext", size={"shortest_edge": 224}, crop_pct=0.875).resize.shortest_edge == 256
    assert section("ConvNext", size={"shortest_edge": 224}, crop_pct=0.875).crop == square(224)
    assert section("ConvNext", size={"shortest_edge": 384}).resize.size == square(384)
    assert section("Levit", size={"shortest_edge": 224}).resize.shortest_edge == 256
    assert section("PoolFormer", size={"shortest_edge": 224}, crop_pct=0.9).resize.shortest_edge == 248


def test_channels_offsets_and_double_divisions_are_told():
    assert section("MobileViT").channels == "bgr"
    efficient = section("EfficientNet", rescale_offset=True, image_mean=[0.25] * 3, image_std=[0.5] * 3)
    assert (efficient.offset, efficient.mean, efficient.std) == (-1.0, (0.25,) * 3, (0.25,) * 3)


def test_padding_of_single_pictures_is_told():
    assert section("Detr", pad_size={"height": 1333, "width": 1333}).pad == Pad(size=square(1333))
    assert section("DPT", do_pad=True, size_divisor=14).pad == Pad(multiple_of=14, centered=True)
    assert section("Detr").pad is None


def test_sizes_are_rounded_to_what_the_model_divides():
    resize = section("Mask2Former", size={"shortest_edge": 800, "longest_edge": 1333}).resize
    assert (resize.limit, resize.multiple_of, resize.multiple) == ("floor", 32, "ceil")
    assert section("MaskFormer", size={"height": 70, "width": 64}).resize.size == Size(height=96, width=64)
    assert section("Yolos").resize.multiple_of == 16


def test_a_graph_of_one_size_gets_pictures_of_that_size():
    fixed = section("Mask2Former", fixed_size=(384, 512), resample=3)
    assert fixed.resize == Resize(mode="exact", size=Size(height=384, width=512), resample="bicubic")
    fixed = section("Detr", fixed_size=(800, 800), pad_size={"height": 1333, "width": 1333})
    assert (fixed.resize.size, fixed.crop, fixed.pad) == (square(800), None, None)


@pytest.mark.parametrize(
    ("name", "size", "settings"),
    [
        ("ViT", (224, 224), {}),
        ("CLIP", (224, 224), {}),
        ("DeiT", (224, 224), {}),
        ("Detr", (1333, 1333), {"pad_size": {"height": 1333, "width": 1333}}),
    ],
)
def test_a_processor_that_makes_that_size_already_stays_as_it_is(name, size, settings):
    assert section(name, fixed_size=size, **settings) == section(name, **settings)


def test_an_unknown_processor_is_told_with_those_that_are_known():
    with pytest.raises(
        UnsupportedModel, match=r"ImageGPTImageProcessor is not supported; supported are: Beit, Bit, CLIP"
    ):
        section("ImageGPT")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ViT", {"size": {"shortest_edge": 224}}),
        ("Detr", {"size": {"longest_edge": 224}}),
        ("ViT", {"size": 0}),
        ("ViT", {"image_std": [0.0, 1.0, 1.0]}),
        ("ViT", {"image_mean": [0.5]}),
    ],
)
def test_settings_the_processor_could_not_use_itself_are_told(name, settings):
    with pytest.raises(UnsupportedModel, match=f"the settings of its {name}ImageProcessor are not supported"):
        section(name, **settings)
