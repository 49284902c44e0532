"""object-detection beside transformers 4.57.6 on the same weights, with slow image processors.

The reference does not clip boxes to the picture; its boxes are clipped here before they are compared.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image

import onnxpipe
from onnxpipe.tasks.object_detection import DetectedObject

pytest.importorskip("optimum", reason="parity needs the export extra")
import transformers
from transformers.image_utils import load_image

from onnxpipe_export.export import export
from onnxpipe_export.quiet import quiet
from timm_names import rename_backbone
from vision_zoo import vision_families

HEAD = "ForObjectDetection"
# scores this near may change places: the reference's own order is that of noise there
TIE = 1e-4

Load = Callable[[Path], Callable]


@pytest.fixture(scope="module")
def files(test_data: Path) -> list[Path]:
    """Every file that is a picture for Pillow, each decoded picture once.

    Not those of one or three rows, whose channels the reference looks for in the wrong place.
    """
    found: dict[bytes, Path] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd files, of which Pillow complains
        for folder in ("photos", "coco", "modes", "modes_skimage"):
            for file in sorted((test_data / "images" / folder).rglob("*")):
                try:
                    picture = load_image(str(file))
                except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
                    continue
                if picture.height not in (1, 3):
                    found.setdefault(repr(picture.size).encode() + picture.tobytes(), file)
    return list(found.values())


@pytest.fixture(scope="module")
def pictures(files: list[Path]) -> list[Image.Image]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [load_image(str(file)) for file in files]


@pytest.fixture(scope="module")
def reference() -> Load:
    def load(source: Path) -> Callable:
        with quiet():
            processor = transformers.AutoImageProcessor.from_pretrained(source, use_fast=False)
            return transformers.pipeline("object-detection", str(source), image_processor=processor, device="cpu")

    return load


def clipped(objects: Sequence[dict], picture: Image.Image) -> Iterator[dict]:
    for item in objects:
        edges = {name: picture.width if name[0] == "x" else picture.height for name in item["box"]}
        yield {**item, "box": {name: min(max(edge, 0), edges[name]) for name, edge in item["box"].items()}}


def named(found: dict, ask: Callable) -> list[dict]:
    """What the reference's pipeline makes of the tensors that its processor makes of a picture's outputs."""
    return [
        {"score": score, "label": ask.model.config.id2label[label], "box": ask._get_bounding_box(box)}
        for score, label, box in zip(found["scores"].tolist(), found["labels"].tolist(), found["boxes"], strict=True)
    ]


def plain(objects: Sequence[DetectedObject]) -> list[dict]:
    return [{"score": item.score, "label": item.label, "box": vars(item.box)} for item in objects]


def too_thin(picture: Image.Image, ask: Callable) -> bool:
    """Whether the reference's own processor fails: nothing would be left of an edge."""
    if max(picture.size) < 8 * min(picture.size):
        return False
    try:
        ask.image_processor([picture])
    except ValueError as error:
        assert "height and width must be > 0" in str(error)  # noqa: PT017 - this one only
        return True
    return False


def same(left: dict, right: dict) -> bool:
    """The same label, scores within 1e-4, and every edge within a pixel."""
    return (
        left["label"] == right["label"]
        and left["score"] == pytest.approx(right["score"], abs=1e-4)
        and all(abs(edge - right["box"][name]) <= 1 for name, edge in left["box"].items())
    )


def same_objects(given: Sequence[dict], expected: Sequence[dict]) -> None:
    """The same objects in the same order, unless the scores of neighbours tie."""
    assert len(given) == len(expected)
    rest = list(expected)
    for item in given:
        ties = [other for other in rest if abs(other["score"] - rest[0]["score"]) <= TIE]
        match = next((other for other in ties if same(item, other)), None)
        assert match is not None, (item, rest[0])
        rest.remove(match)


@pytest.mark.parametrize("family", vision_families(HEAD))
def test_objects_equal_the_reference_on_every_picture(
    family: str,
    tiny_model: Callable[..., Path],
    tiny_bundle: Callable[..., Path],
    reference: Load,
    pictures: list[Image.Image],
) -> None:
    detect, ask = onnxpipe.load(tiny_bundle(family, HEAD), threads=1), reference(tiny_model(family, HEAD))
    seen = set()
    for picture in pictures:
        if too_thin(picture, ask):
            with pytest.raises(onnxpipe.InvalidInput, match="too thin for this model"):
                detect(picture)
            continue
        # the reference makes scores above 0 of every query or pair that it keeps
        given, expected = detect(picture, threshold=0.0), ask(picture, threshold=0.0)
        same_objects(plain(given), list(clipped(expected, picture)))
        seen.update((item.label, item.box.xmin) for item in given if item.score > 0.5)
    assert len(seen) > len(pictures) / 2  # the answers are not all one


def test_pictures_are_read_from_files_as_the_reference_reads_them(
    tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], reference: Load, files: list[Path]
) -> None:
    detect, ask = (
        onnxpipe.load(tiny_bundle("conditional-detr", HEAD), threads=1),
        reference(tiny_model("conditional-detr", HEAD)),
    )
    for file in files[::4]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected, picture = ask(str(file), threshold=0.1), load_image(str(file))
        same_objects(plain(detect(file, threshold=0.1)), list(clipped(expected, picture)))


@pytest.mark.parametrize("family", ["detr", "conditional-detr", "rt-detr-v2"])
def test_thresholds_keep_what_the_reference_keeps(
    family: str,
    tiny_model: Callable[..., Path],
    tiny_bundle: Callable[..., Path],
    reference: Load,
    pictures: list[Image.Image],
) -> None:
    detect, ask = onnxpipe.load(tiny_bundle(family, HEAD), threads=1), reference(tiny_model(family, HEAD))
    counts = set()
    for picture in pictures[::40]:
        for threshold in [index / 10 for index in range(10)]:
            expected = list(clipped(ask(picture, threshold=threshold), picture))
            # a score at the threshold may fall on either side of it
            if all(abs(item["score"] - threshold) > TIE for item in ask(picture, threshold=0.0)):
                same_objects(plain(detect(picture, threshold=threshold)), expected)
                counts.add(len(expected))
        same_objects(plain(detect(picture)), list(clipped(ask(picture), picture)))  # the default
    assert len(counts) > 4


@pytest.mark.parametrize("family", vision_families(HEAD))
def test_pictures_of_different_sizes_in_one_call_give_what_each_gives_alone(
    family: str,
    tiny_model: Callable[..., Path],
    tiny_bundle: Callable[..., Path],
    reference: Load,
    pictures: list[Image.Image],
) -> None:
    detect, ask = onnxpipe.load(tiny_bundle(family, HEAD), threads=1), reference(tiny_model(family, HEAD))
    some = [picture for picture in (*pictures[::12], *pictures[::24]) if not too_thin(picture, ask)]
    for picture, together in zip(some, detect(some, threshold=0.2), strict=True):
        same_objects(plain(together), plain(detect(picture, threshold=0.2)))
        same_objects(plain(together), list(clipped(ask(picture, threshold=0.2), picture)))


def test_batches_of_one_size_equal_the_reference_s_own(
    tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], reference: Load, pictures: list[Image.Image]
) -> None:
    detect, ask = onnxpipe.load(tiny_bundle("rt-detr", HEAD), threads=1), reference(tiny_model("rt-detr", HEAD))
    some = pictures[::12]
    # not through the pipeline, which cannot take the outputs of this model apart again
    outputs = ask.model(**ask.image_processor(some, return_tensors="pt"))
    sizes = [(picture.height, picture.width) for picture in some]
    expected = ask.image_processor.post_process_object_detection(outputs, 0.5, sizes)
    for picture, given, found in zip(some, detect(some), expected, strict=True):
        same_objects(plain(given), list(clipped(named(found, ask), picture)))


def test_padding_moves_the_reference_s_boxes_which_is_why_we_do_not_pad(
    tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], reference: Load
) -> None:
    ask = reference(tiny_model("detr", HEAD))
    wide, tall = Image.effect_noise((96, 64), 80).convert("RGB"), Image.effect_noise((64, 96), 80).convert("RGB")
    processor, model = ask.image_processor, ask.model
    with_mask = processor([wide, tall], return_tensors="pt")
    assert with_mask["pixel_mask"].float().mean() < 1
    boxes = model(**with_mask).pred_boxes[0], model(**processor([wide], return_tensors="pt")).pred_boxes[0]
    assert (boxes[0] - boxes[1]).abs().max() > 0.005  # in units of the picture
    detect = onnxpipe.load(tiny_bundle("detr", HEAD), threads=1)
    together = detect([wide, tall], threshold=0.0)
    for picture, given in zip((wide, tall), together, strict=True):
        same_objects(plain(given), list(clipped(ask(picture, threshold=0.0), picture)))


def test_a_model_with_a_timm_backbone_is_exported_without_timm(
    tiny_model: Callable[..., Path], tmp_path: Path, reference: Load, pictures: list[Image.Image]
) -> None:
    source = tiny_model("detr", HEAD)
    export(rename_backbone(source, tmp_path / "timm"), tmp_path / "bundle", precisions=["fp32"])
    # transformers needs timm for the renamed one; the weights are those of the original
    detect, ask = onnxpipe.load(tmp_path / "bundle", threads=1), reference(source)
    for picture in pictures[::25]:
        same_objects(plain(detect(picture, threshold=0.1)), list(clipped(ask(picture, threshold=0.1), picture)))


def test_without_focal_loss_the_last_class_means_no_object(
    tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], reference: Load, pictures: list[Image.Image]
) -> None:
    config = {"use_focal_loss": False}
    ask = reference(tiny_model("rt-detr", HEAD, **config))
    detect = onnxpipe.load(tiny_bundle("rt-detr", HEAD, **config), threads=1)
    # The pipeline overlooks the setting, and RT-DETR's own function for it takes the softmax over the batch: with one
    # picture, every score is 1. DETR's function does what it is meant to.
    softmax = transformers.DetrImageProcessor()
    for picture in pictures[::25]:
        outputs = ask.model(**ask.image_processor([picture], return_tensors="pt"))
        with pytest.warns(UserWarning, match="Implicit dimension choice for softmax"):
            (wrong,) = ask.image_processor.post_process_object_detection(outputs, use_focal_loss=False)
        assert set(wrong["scores"].tolist()) == {1.0}
        (found,) = softmax.post_process_object_detection(outputs, 0.2, [(picture.height, picture.width)])
        same_objects(plain(detect(picture, threshold=0.2)), list(clipped(named(found, ask), picture)))
