import base64
import io
import math

import numpy as np
import PIL.Image
import pytest

import onnxpipe
from onnxpipe.errors import InvalidInput, UnsupportedModel
from onnxpipe.tasks.image_classification import ImageClassification, Label

# the tiny classifier's logits are the means of a picture's red, green and blue, in units of 50

E = math.e


@pytest.fixture
def load(image_classification_bundle):
    def make(**bundle):
        return onnxpipe.load(image_classification_bundle(**bundle), threads=1)

    return make


def picture(*color, size=(7, 5)):
    return PIL.Image.new("RGB", size, color)


def content(image, kind="PNG"):
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def scores(labels):
    return {label.label: label.score for label in labels}


def test_a_picture_gives_labels_by_falling_score(load):
    labels = load()(picture(0, 100, 50))  # logits 0, 2, 1
    total = 1 + E**2 + E
    assert [label.label for label in labels] == ["GREEN", "BLUE", "RED"]
    assert [label.score for label in labels] == pytest.approx([E**2 / total, E / total, 1 / total])
    assert all(type(label.score) is float for label in labels)


def test_labels_with_one_score_come_in_the_models_order(load):
    assert [label.label for label in load()(picture(9, 9, 9))] == ["RED", "GREEN", "BLUE"]


def test_a_list_gives_one_answer_per_picture_in_their_order_whatever_their_shapes(load):
    colors = [(0, 0, 99), (99, 0, 0), (0, 99, 0), (0, 0, 98)]
    sizes = [(7, 5), (5, 7), (7, 5), (1, 1)]
    pictures = [picture(*color, size=size) for color, size in zip(colors, sizes, strict=True)]
    answers = load()(pictures, top_k=1)
    assert [answer[0].label for answer in answers] == ["BLUE", "RED", "GREEN", "BLUE"]


def test_a_list_of_one_gives_a_list_of_one(load):
    classify = load()
    assert classify([picture(1, 2, 3)]) == [classify(picture(1, 2, 3))]


def test_a_picture_beside_others_is_answered_as_alone(load):
    draws = np.random.default_rng(3)
    pictures = [draws.integers(0, 256, (4, 6, 3), dtype=np.uint8) for _ in range(20)]
    classify = load()
    for alone, together in zip(map(classify, pictures), classify(pictures), strict=True):
        assert scores(together) == pytest.approx(scores(alone), abs=1e-6)


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (2, 2), (3, 3), (99, 3), (None, 3)])
def test_top_k_is_how_many_labels_come_back_at_most(load, top_k, count):
    assert len(load()(picture(1, 2, 3), top_k=top_k)) == count


def test_five_labels_come_back_when_nothing_is_said():
    assert ImageClassification.types()[1]().top_k == 5


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("none", {"RED": 1, "GREEN": 2, "BLUE": 0}),
        ("sigmoid", {"RED": E / (1 + E), "GREEN": E**2 / (1 + E**2), "BLUE": 0.5}),
        ("softmax", {"RED": E / (1 + E + E**2), "GREEN": E**2 / (1 + E + E**2), "BLUE": 1 / (1 + E + E**2)}),
        ("SoftMax", {"RED": E / (1 + E + E**2), "GREEN": E**2 / (1 + E + E**2), "BLUE": 1 / (1 + E + E**2)}),
    ],
)
@pytest.mark.parametrize("activation", ["none", "sigmoid", "softmax"])
def test_function_to_apply_overrides_the_models_own(load, activation, function, expected):
    labels = load(activation=activation)(picture(50, 100, 0), function_to_apply=function)
    assert scores(labels) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("activation", "expected"), [("none", 2), ("sigmoid", E**2 / (1 + E**2))])
def test_the_models_own_activation_is_the_default(load, activation, expected):
    assert load(activation=activation)(picture(0, 100, 0), top_k=1) == [Label("GREEN", pytest.approx(expected))]


def test_a_regression_may_leave_zero_to_one(load):
    image = {"offset": -3.0}
    assert scores(load(activation="none", image=image)(picture(0, 100, 50))) == {"RED": -3, "GREEN": -1, "BLUE": -2}


def test_huge_logits_stay_finite(load):
    assert scores(load(image={"factor": 1e4})(picture(0, 255, 0))) == {"RED": 0, "GREEN": 1, "BLUE": 0}


def test_half_precision_logits_are_scored_in_single_precision(load):
    single, half = (scores(load(dtype=dtype)(picture(50, 100, 0))) for dtype in ("float32", "float16"))
    assert half == pytest.approx(single, abs=1e-6)


def test_pixels_are_made_as_the_manifest_says(load):
    image = {
        "resize": {"mode": "exact", "size": {"height": 1, "width": 3}, "resample": "nearest"},
        "crop": {"height": 1, "width": 1},
        "channels": "bgr",
    }
    columns = np.array([[[255, 0, 0], [0, 100, 50], [255, 0, 0]]], np.uint8)  # the middle one is left
    labels = load(activation="none", image=image)(columns)
    assert scores(labels) == pytest.approx({"RED": 1, "GREEN": 2, "BLUE": 0})


def test_a_picture_may_be_bytes_a_path_a_data_url_an_image_or_an_array(load, tmp_path):
    image = picture(30, 60, 90)
    file = tmp_path / "picture.png"
    file.write_bytes(content(image))
    url = f"data:image/png;base64,{base64.b64encode(content(image)).decode()}"
    classify = load()
    expected = classify(image)
    for given in (content(image), content(image, "BMP"), file, str(file), url, np.asarray(image)):
        assert classify(given) == expected


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (3, "`inputs`: expected an image as bytes, a path, a data: URL, a Pillow image or a numpy array, given int"),
        (b"", "`inputs`: "),
        (b"no picture", "`inputs`: "),
        ("no/such/file.png", "`inputs`: .*no/such/file.png"),
        ("data:image/png;base64,!", "`inputs`: expected base64"),
        ([content(picture(1, 2, 3)), None], r"`inputs\[1\]`: expected an image"),
        (content(picture(1, 2, 3, size=(64, 64)), "BMP")[:300], "truncated"),
    ],
)
def test_anything_but_a_picture_is_refused_and_named(load, inputs, message):
    with pytest.raises(InvalidInput, match=message):
        load()(inputs)


def test_an_empty_list_is_refused(load):
    with pytest.raises(InvalidInput, match="`inputs`: expected at least one input, given an empty list"):
        load()([])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"top_k": 0}, "`top_k`: expected a number >= 1, given 0"),
        ({"top_k": "1"}, "`top_k`: expected an integer or null"),
        ({"top_k": True}, "`top_k`: expected an integer or null"),
        ({"function_to_apply": "relu"}, "`function_to_apply`: expected one of 'sigmoid', 'softmax', 'none' or null"),
        ({"threshold": 0.5}, "`threshold`: unknown name; expected `top_k`, `function_to_apply`"),
    ],
)
def test_a_wrong_parameter_is_refused_and_named(load, parameters, message):
    with pytest.raises(InvalidInput, match=message):
        load()(picture(1, 2, 3), **parameters)


def test_the_http_answer_to_one_picture_is_a_plain_list():
    assert not ImageClassification.nested


def test_a_model_without_labels_is_unsupported(embedding_bundle):
    model = onnxpipe.load(embedding_bundle(), threads=1).model
    with pytest.raises(UnsupportedModel, match="tiny has no labels; it serves: sentence-similarity"):
        ImageClassification(model)


def test_a_model_of_texts_is_unsupported(classification_bundle):
    model = onnxpipe.load(classification_bundle(), threads=1).model
    with pytest.raises(UnsupportedModel, match="tiny takes no images; it serves: text-classification"):
        ImageClassification(model)
