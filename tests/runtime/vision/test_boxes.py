import numpy as np
import pytest

from onnxpipe.sections import Detection
from onnxpipe.vision.boxes import best_pairs, center_to_corners, choose, likeliest_classes, pixel_boxes

SQUARE = (100, 100)


def logs(rows):
    """Logits whose softmax are these probabilities."""
    return np.log(np.array(rows, np.float32))


def logits(rows):
    """Logits whose sigmoid are these probabilities."""
    probabilities = np.array(rows, np.float32)
    return np.log(probabilities / (1 - probabilities))


def test_each_query_has_its_likeliest_class_but_never_the_last():
    queries, classes, scores = likeliest_classes(logs([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8]]))
    assert (queries.tolist(), classes.tolist()) == ([0, 1, 2], [1, 0, 0])
    assert scores == pytest.approx([0.3, 0.6, 0.1])


def test_a_model_of_one_class_has_that_or_nothing():
    _, classes, scores = likeliest_classes(logs([[0.3, 0.7], [0.9, 0.1]]))
    assert classes.tolist() == [0, 0]
    assert scores == pytest.approx([0.3, 0.9])


def test_best_pairs_of_query_and_class_come_best_first_and_a_query_may_come_again():
    queries, classes, scores = best_pairs(logits([[0.7, 0.8], [0.1, 0.9], [0.2, 0.3]]))
    assert (queries.tolist(), classes.tolist()) == ([1, 0, 0], [1, 1, 0])
    assert scores == pytest.approx([0.9, 0.8, 0.7])


@pytest.mark.parametrize(("count", "kept"), [(1, 1), (2, 2), (5, 5), (6, 6), (100, 6), (None, 3)])
def test_as_many_pairs_as_asked_for_or_as_there_are_queries(count, kept):
    found = best_pairs(logits([[0.7, 0.8], [0.1, 0.9], [0.2, 0.3]]), count)
    assert [len(part) for part in found] == [kept] * 3


def test_pairs_with_one_score_come_in_the_models_order():
    queries, classes, _ = best_pairs(np.zeros((3, 2), np.float32), 4)
    assert list(zip(queries.tolist(), classes.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_extreme_logits_give_scores_of_zero_and_one():
    _, _, scores = best_pairs(np.array([[1e4, -1e4]], np.float32), 2)
    assert scores.tolist() == [1.0, 0.0]
    _, _, scores = likeliest_classes(np.array([[1e4, 0, -1e4]], np.float32))
    assert scores.tolist() == [1.0]


@pytest.mark.parametrize(
    ("detection", "found"),
    [
        ({"scores": "softmax_without_last"}, 2),
        ({"scores": "sigmoid_top_k", "count": 5}, 5),
        ({"scores": "sigmoid_top_k"}, 2),
    ],
)
def test_the_manifest_says_how_to_choose(detection, found):
    scores = choose(np.zeros((2, 3), np.float32), Detection(labels=("ONE", "TWO", "THREE"), **detection))[2]
    assert len(scores) == found


def test_a_center_and_a_size_become_corners():
    boxes = np.array([[0.5, 0.5, 0.2, 0.4], [0.1, 0.2, 0.4, 0.0]], np.float32)
    np.testing.assert_allclose(center_to_corners(boxes), [[0.4, 0.3, 0.6, 0.7], [-0.1, 0.2, 0.3, 0.2]], atol=1e-7)


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((0.5, 0.5, 0.25, 0.5), [37, 25, 62, 75]),  # 37.5 and 62.5: fractions are cut off
        ((0.5, 0.5, 1.0, 1.0), [0, 0, 100, 100]),
        ((0.0, 0.0, 0.5, 0.5), [0, 0, 25, 25]),  # what reaches over an edge is cut off
        ((1.0, 1.0, 0.5, 0.5), [75, 75, 100, 100]),
        ((-1.0, 2.0, 0.5, 0.5), [0, 100, 0, 100]),  # as is what lies outside
        ((0.5, 0.5, 0.0, 0.0), [50, 50, 50, 50]),
    ],
)
def test_boxes_are_whole_pixels_inside_of_the_picture(box, pixels):
    assert pixel_boxes(np.array([box], np.float32), "cxcywh", SQUARE).tolist() == [pixels]


def test_widths_and_heights_have_scales_of_their_own():
    boxes = np.array([[0.5, 0.5, 0.5, 0.5]], np.float32)
    assert pixel_boxes(boxes, "cxcywh", (640, 8)).tolist() == [[160, 2, 480, 6]]


def test_no_boxes_are_no_pixels():
    assert pixel_boxes(np.zeros((0, 4), np.float32), "cxcywh", SQUARE).shape == (0, 4)
