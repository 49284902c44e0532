import dataclasses
import math

import numpy as np
import pytest
from PIL import Image

import onnxpipe
from onnxpipe.errors import InvalidInput, UnsupportedModel
from onnxpipe.records import plain
from onnxpipe.tasks.object_detection import Box, DetectedObject, ObjectDetection

# the tiny detector always finds the same: its logits, here those of a red picture, times the brightness
PROBABILITIES = np.array([[0.1, 0.8, 0.1], [0.5, 0.1, 0.4], [0.05, 0.05, 0.9]])
BOXES = np.array([[0.5, 0.5, 0.5, 0.5], [0.0, 0.5, 0.5, 1.0], [0.9, 0.9, 0.4, 0.4]])


@pytest.fixture
def load(detection_bundle):
    def make(logits=None, **options):
        logits = np.log(PROBABILITIES) if logits is None else np.array(logits)
        return onnxpipe.load(detection_bundle(logits, BOXES, **options), threads=1)

    return make


def red(width, height):
    return Image.new("RGB", (width, height), (255, 0, 0))


def score(value):
    return pytest.approx(value, abs=1e-6)


def test_objects_come_in_the_models_order_with_boxes_in_pixels(load):
    assert load()(red(40, 20), threshold=0.0) == [
        DetectedObject(score(0.8), "TWO", Box(10, 5, 30, 15)),
        DetectedObject(score(0.5), "ONE", Box(0, 0, 10, 20)),
        DetectedObject(score(0.05), "ONE", Box(28, 14, 40, 20)),
    ]


def test_numbers_are_python_s(load):
    (found, *_) = load()(red(40, 20))
    assert type(found.score) is float
    assert {type(edge) for edge in vars(found.box).values()} == {int}
    assert plain(found) == {
        "score": score(0.8),
        "label": "TWO",
        "box": {"xmin": 10, "ymin": 5, "xmax": 30, "ymax": 15},
    }


@pytest.mark.parametrize(
    ("threshold", "labels"), [(0.0, 3), (0.04, 3), (0.06, 2), (0.6, 1), (0.81, 0), (1.0, 0), (1, 0)]
)
def test_objects_with_a_higher_score_than_the_threshold_come_back(load, threshold, labels):
    assert len(load()(red(8, 8), threshold=threshold)) == labels


def test_a_score_at_the_threshold_is_not_above_it(load):
    detect = load([[0.0, 0.0]], scores="sigmoid_top_k")
    assert detect(red(8, 8)) == []
    assert len(detect(red(8, 8), threshold=0.49)) == 1


def test_nothing_found_is_an_empty_list(load):
    assert load()(red(8, 8), threshold=0.9) == []


def test_with_a_score_for_each_class_the_best_come_first_and_a_box_may_come_again(load):
    logits = np.log([[3.0, 1.0], [1.0, 9.0], [1.0, 1.0]])  # odds
    found = load(logits, scores="sigmoid_top_k")(red(40, 20), threshold=0.0)
    assert [(item.label, item.score, item.box.xmin) for item in found] == [
        ("TWO", score(0.9), 0),
        ("ONE", score(0.75), 10),
        ("TWO", score(0.5), 10),
    ]


def test_the_manifest_may_limit_how_many_there_are(load):
    assert len(load(np.zeros((3, 2)), scores="sigmoid_top_k", count=5)(red(8, 8), threshold=0.0)) == 5


def test_pictures_of_different_sizes_in_one_call_give_what_each_gives_alone(load):
    detect = load()
    pictures = [red(40, 20), red(20, 40), Image.new("RGB", (40, 20)), red(7, 3)]
    together = detect(pictures, threshold=0.0)
    assert together == [detect(picture, threshold=0.0) for picture in pictures]
    assert together[0][0].box == Box(10, 5, 30, 15)
    assert together[1][0].box == Box(5, 10, 15, 30)
    assert together[2][0].score == score(1 / 3)  # a black picture: all logits are 0


def test_boxes_are_in_pixels_of_the_picture_that_was_given_not_of_the_one_the_model_saw(load):
    resize = {"mode": "exact", "size": {"height": 4, "width": 4}, "resample": "bilinear"}
    assert load(image={"resize": resize})(red(400, 200))[0].box == Box(100, 50, 300, 150)


def test_boxes_are_in_pixels_of_the_upright_picture(load, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    red(40, 20).save(tmp_path / "turned.jpg", exif=exif)
    assert load()(tmp_path / "turned.jpg")[0].box == Box(5, 10, 15, 30)


def test_labels_with_gaps_are_kept(load):
    logits = np.log([[0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    assert [item.label for item in load(logits, labels=("N/A", "cat"))(red(8, 8))] == ["cat", "N/A"]


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        (-0.1, "`threshold`: expected a number >= 0, given -0.1"),
        (1.5, "`threshold`: expected a number <= 1, given 1.5"),
        ("0.5", "`threshold`: expected a number"),
        (None, "`threshold`: expected a number, given null|`threshold`: expected a number"),
        (math.nan, "`threshold`: expected a number"),
        (True, "`threshold`: expected a number"),
    ],
)
def test_a_wrong_threshold_is_refused(load, threshold, message):
    with pytest.raises(InvalidInput, match=message):
        load()(red(8, 8), threshold=threshold)


def test_an_unknown_parameter_is_refused(load):
    with pytest.raises(InvalidInput, match="`top_k`: unknown name; expected `threshold`"):
        load()(red(8, 8), top_k=3)


@pytest.mark.parametrize("inputs", [b"not a picture", b"", 7, "data:image/png;base64,AAAA"])
def test_anything_but_a_picture_is_refused(load, inputs):
    with pytest.raises(InvalidInput, match="`inputs`: "):
        load()(inputs)


def test_a_broken_picture_in_a_list_is_named(load):
    with pytest.raises(InvalidInput, match=r"`inputs\[1\]`: not an image"):
        load()([red(8, 8), b"not a picture"])


def test_a_model_that_finds_no_objects_is_unsupported(load):
    model = load().model
    manifest = dataclasses.replace(model.bundle.manifest, detection=None)
    other = dataclasses.replace(model, bundle=dataclasses.replace(model.bundle, manifest=manifest))
    with pytest.raises(UnsupportedModel, match="tiny finds no objects; it serves: object-detection"):
        ObjectDetection(other)
