"""image-classification beside transformers 4.57.6 and its slow (Pillow) image processors, on the same weights."""

import base64
import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import onnxpipe

pytest.importorskip("optimum", reason="parity needs the export extra")
from real_pictures import reference_pipeline
from vision_zoo import LABELS, vision_families

HEAD = "ForImageClassification"
CATS = "images/coco/000000039769.png"


def open_picture(file: Path) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(file.read_bytes()))  # not the file, which would stay open


@pytest.fixture(scope="module")
def pictures(test_data: Path) -> list[PIL.Image.Image]:
    """Every picture of the test data that Pillow opens, in its own mode, decoded once for all families."""
    files = [file for folder in ("photos", "coco", "modes") for file in (test_data / "images" / folder).rglob("*.*")]
    decoded = []
    for file in sorted(files):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image = open_picture(file)
                image.load()
        except Exception:  # noqa: BLE001 - whatever Pillow's plugins raise
            continue
        if image.format != "EPS":  # which takes another program
            decoded.append(image)
    assert len(decoded) > 250
    return decoded


@pytest.fixture(scope="module")
def photos(test_data: Path) -> list[PIL.Image.Image]:
    files = sorted((test_data / "images/photos").glob("skimage_c*.png"))
    return [open_picture(file) for file in [test_data / CATS, *files]]


def reference_classifier(source: Path) -> Callable:
    return reference_pipeline("image-classification", source)


def same_labels(given: Sequence[list], expected: Sequence[list[dict]], *, relative: float = 0.0) -> None:
    """Same labels in the same order, unless the reference's own scores tie; scores within 1e-4."""
    for place, (ours, theirs) in enumerate(zip(given, expected, strict=True)):
        scores = {item["label"]: item["score"] for item in theirs}
        assert [item.score for item in ours] == pytest.approx(
            [item["score"] for item in theirs], abs=1e-4, rel=relative
        ), place
        for left, right in zip(ours, theirs, strict=True):
            assert scores[left.label] == pytest.approx(right["score"], abs=1e-6), (place, ours, theirs)


@pytest.mark.parametrize("family", vision_families(HEAD))
def test_labels_order_and_scores_equal_the_reference_on_pictures_of_every_kind(
    family: str, tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], pictures: list[PIL.Image.Image]
) -> None:
    reference = reference_classifier(tiny_model(family, HEAD))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's about transparent palettes
        expected = [reference(picture, top_k=len(LABELS)) for picture in pictures]
    answers = onnxpipe.load(tiny_bundle(family, HEAD), threads=1)(pictures, top_k=None)
    same_labels(answers, expected)
    # and they are no constants
    assert np.std([{item.label: item.score for item in answer}[LABELS[0]] for answer in answers]) > 1e-3


@pytest.mark.parametrize("family", vision_families(HEAD))
def test_a_batch_of_pictures_is_answered_as_each_alone(
    family: str, tiny_bundle: Callable[..., Path], photos: list[PIL.Image.Image]
) -> None:
    classify = onnxpipe.load(tiny_bundle(family, HEAD), threads=1)
    together = classify(photos, top_k=None)
    for photo, answer in zip(photos, together, strict=True):
        alone = classify(photo, top_k=None)
        assert [item.label for item in answer] == [item.label for item in alone]
        assert [item.score for item in answer] == pytest.approx([item.score for item in alone], abs=1e-5)


@pytest.mark.parametrize("top_k", [1, 3, 5, 100])
def test_top_k_equals_the_reference(
    top_k: int, tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], photos: list[PIL.Image.Image]
) -> None:
    reference = reference_classifier(tiny_model("vit", HEAD))
    given = onnxpipe.load(tiny_bundle("vit", HEAD))(photos, top_k=top_k)
    same_labels(given, [reference(photo, top_k=top_k) for photo in photos])
    assert len(given[0]) == min(top_k, len(LABELS))


@pytest.mark.parametrize("function", ["sigmoid", "softmax", "none", "NONE"])
def test_function_to_apply_equals_the_reference(
    function: str, tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], photos: list[PIL.Image.Image]
) -> None:
    reference = reference_classifier(tiny_model("resnet", HEAD))
    given = onnxpipe.load(tiny_bundle("resnet", HEAD))(photos, function_to_apply=function)
    same_labels(given, [reference(photo, function_to_apply=function) for photo in photos], relative=1e-5)


@pytest.mark.parametrize(
    "config",
    [{}, {"num_labels": 1}, {"num_labels": 3, "problem_type": "multi_label_classification"}],
    ids=["one-of-several", "one-logit", "multi-label"],
)
def test_the_default_activation_is_that_of_the_reference(
    config: dict[str, object],
    tiny_model: Callable[..., Path],
    tiny_bundle: Callable[..., Path],
    photos: list[PIL.Image.Image],
) -> None:
    reference = reference_classifier(tiny_model("vit", HEAD, **config))
    given = onnxpipe.load(tiny_bundle("vit", HEAD, **config))(photos)
    same_labels(given, [reference(photo) for photo in photos])


def test_a_regression_gives_what_the_model_says_where_the_reference_would_squeeze_it_into_zero_to_one(
    tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], photos: list[PIL.Image.Image]
) -> None:
    config = {"num_labels": 2, "problem_type": "regression"}
    reference = reference_classifier(tiny_model("vit", HEAD, **config))
    given = onnxpipe.load(tiny_bundle("vit", HEAD, **config))(photos)
    same_labels(given, [reference(photo, function_to_apply="none") for photo in photos], relative=1e-5)
    squeezed = [reference(photo)[0]["score"] for photo in photos]
    assert [answer[0].score for answer in given] != pytest.approx(squeezed, abs=1e-2)


def test_a_picture_is_the_same_however_it_is_given(
    tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], test_data: Path
) -> None:
    file = test_data / CATS
    expected = reference_classifier(tiny_model("vit", HEAD))(str(file))
    image = open_picture(file)
    data_url = f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
    classify = onnxpipe.load(tiny_bundle("vit", HEAD))
    forms = [file.read_bytes(), file, str(file), image, np.asarray(image.convert("RGB")), data_url]
    same_labels(classify(forms), [expected] * len(forms))
