import numpy as np
import pytest
from PIL import Image

from onnxpipe_bench.detection_quality import clip, count_same, mean_average_precision, write_pictures
from onnxpipe_bench.shapes import SHAPES, Scene, draw_scenes


def scene(*squares):
    boxes = np.array([corners for _, corners in squares], np.float32).reshape(-1, 4)
    return Scene(Image.new("RGB", (64, 64)), boxes, tuple(label for label, _ in squares))


def found(label, score, corners):
    return {"label": label, "score": score, "box": dict(zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))}


LEFT, RIGHT, ELSEWHERE = (0, 0, 10, 10), (40, 0, 50, 10), (0, 40, 10, 50)
SCENE = scene(("circle", LEFT), ("circle", RIGHT))


def test_all_found_and_nothing_else_is_one():
    answer = [found("circle", 0.9, LEFT), found("circle", 0.2, RIGHT)]
    assert mean_average_precision([SCENE], [answer], 0.5) == 1.0


def test_nothing_found_is_zero():
    assert mean_average_precision([SCENE], [[]], 0.5) == 0.0


def test_another_label_or_another_place_is_wrong():
    answer = [found("square", 0.9, LEFT), found("circle", 0.8, ELSEWHERE)]
    assert mean_average_precision([SCENE], [answer], 0.5) == 0.0


def test_a_wrong_answer_before_the_right_ones_costs_precision_at_every_recall():
    answer = [found("circle", 0.9, ELSEWHERE), found("circle", 0.8, LEFT), found("circle", 0.7, RIGHT)]
    # right after 2 and after 3 answers; the best precision at any recall is the second's, 2/3
    assert mean_average_precision([SCENE], [answer], 0.5) == pytest.approx(2 / 3)


def test_what_is_not_found_counts_with_a_precision_of_zero():
    # recall never gets beyond 1/2: 51 of 101 recalls are reached
    assert mean_average_precision([SCENE], [[found("circle", 0.9, LEFT)]], 0.5) == pytest.approx(51 / 101)


def test_the_same_shape_is_found_once():
    answer = [found("circle", 0.9, LEFT), found("circle", 0.8, LEFT), found("circle", 0.7, RIGHT)]
    # precisions 1, 1/2, 2/3 at recalls 1/2, 1/2, 1
    assert mean_average_precision([SCENE], [answer], 0.5) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_answers_are_ranked_over_all_pictures():
    other = scene(("circle", LEFT))
    surest_wrong = [[found("circle", 0.3, LEFT), found("circle", 0.2, RIGHT)], [found("circle", 0.9, ELSEWHERE)]]
    # wrong, right, right of three: precisions 0, 1/2, 2/3 at recalls 0, 1/3, 2/3
    assert mean_average_precision([SCENE, other], surest_wrong, 0.5) == pytest.approx(67 * 2 / 3 / 101)


def test_a_box_must_overlap_as_much_as_asked():
    near = [found("circle", 0.9, (0, 0, 10, 8)), found("circle", 0.8, RIGHT)]  # 0.8 of the area
    assert mean_average_precision([SCENE], [near], 0.75) == 1.0
    assert mean_average_precision([SCENE], [near], 0.85) < 1.0


def test_shapes_on_no_picture_do_not_count_and_others_count_alike():
    mixed = scene(("circle", LEFT), ("circle", RIGHT), ("triangle", ELSEWHERE))
    answer = [found("circle", 0.9, LEFT), found("circle", 0.8, RIGHT)]
    assert mean_average_precision([mixed], [answer], 0.5) == 0.5


def test_boxes_end_at_the_edges_of_a_picture_that_is_wider_than_high():
    wide = Scene(Image.new("RGB", (64, 32)), SCENE.boxes, SCENE.labels)
    assert clip([found("circle", 0.9, (-3, -1, 70, 40))], wide) == [found("circle", 0.9, (0, 0, 64, 32))]
    assert clip([found("circle", 0.9, LEFT)], wide) == [found("circle", 0.9, LEFT)]


def test_the_same_is_what_has_the_label_and_the_box_in_its_place():
    one, two = found("circle", 0.9, LEFT), found("square", 0.9, RIGHT)
    assert count_same([[one, two]], [[found("circle", 0.8, LEFT), two]]) == 2
    assert count_same([[one, two]], [[two, one]]) == 0
    assert count_same([[one], [two]], [[one], []]) == 1


def test_scenes_are_the_same_for_a_seed_and_hold_what_they_say(tmp_path):
    scenes, again, others = draw_scenes(3, 20), draw_scenes(3, 20), draw_scenes(4, 20)
    assert [one.picture.tobytes() for one in scenes] == [one.picture.tobytes() for one in again]
    assert [one.picture.tobytes() for one in scenes] != [one.picture.tobytes() for one in others]
    for one in scenes:
        width, height = one.picture.size
        assert 1 <= len(one.labels) == len(one.boxes) <= 3
        assert set(one.labels) <= set(SHAPES)
        assert (one.boxes[:, :2] >= 0).all()
        assert (one.boxes[:, 2:] <= (width, height)).all()
        assert mean_average_precision(
            [one], [[found(*item) for item in zip(one.labels, np.ones(3), one.boxes, strict=False)]], 0.95
        ) == pytest.approx(1.0)
    assert len(list(write_pictures(scenes, tmp_path / "pictures").iterdir())) == 20
