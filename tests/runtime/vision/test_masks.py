import tracemalloc

import numpy as np
import pytest

from onnxpipe.vision.masks import Segment, find_instances, find_panoptic, find_semantic, label_scores

INF = 100.0  # as a logit of a mask: surely inside
LEFT, RIGHT = [[INF, -INF]], [[-INF, INF]]
WHOLE, HALF_SURE = [[INF, INF]], [[0.0, 0.0]]


def logits(*probabilities):
    """Of queries whose labels have these probabilities, the null label last."""
    return np.log(np.maximum(np.array(probabilities, np.float32), 1e-30))


def masks(*planes):
    return np.array(planes, np.float32)


def panoptic(labels, planes, size=(1, 2), **options):
    settings = {"threshold": 0.5, "mask_threshold": 0.5, "overlap_mask_area_threshold": 0.5, **options}
    return find_panoptic(labels, planes, size, **settings)


def score(value):
    return pytest.approx(value, abs=1e-6)


def test_each_query_that_is_sure_of_a_label_becomes_a_segment_where_its_mask_is():
    found = panoptic(logits([0.9, 0.05, 0.05], [0.1, 0.8, 0.1]), masks(RIGHT, LEFT))
    assert found.found == [Segment((0,), 0, score(0.9)), Segment((1,), 1, score(0.8))]
    assert [found.mask(segment).tolist() for segment in found.found] == [[[False, True]], [[True, False]]]


@pytest.mark.parametrize(
    "probabilities",
    [[0.2, 0.1, 0.7], [0.5, 0.5, 0.0], [0.4, 0.35, 0.25]],
    ids=["null", "at-the-threshold", "below"],
)
def test_a_query_that_is_not_sure_of_a_label_is_none(probabilities):
    found = panoptic(logits(probabilities), masks(WHOLE), (3, 4))
    assert found.found == []
    assert found.numbers.shape == (3, 4)


def test_a_pixel_goes_to_the_query_with_the_largest_product():
    # 0.9 x 0.5 against 0.6 x 1
    labels = logits([0.9, 0.0, 0.1], [0.0, 0.6, 0.4])
    found = panoptic(labels, masks(HALF_SURE, LEFT), mask_threshold=0.4, overlap_mask_area_threshold=0.4)
    assert [found.mask(segment).tolist() for segment in found.found] == [[[False, True]], [[True, False]]]


def test_a_query_that_keeps_too_little_of_its_mask_is_no_segment_but_its_pixels_stay_taken():
    labels = logits([0.99, 0.0, 0.01], [0.0, 0.9, 0.1])
    # of two pixels it gets one: not more than half
    found = panoptic(labels, masks(LEFT, WHOLE), overlap_mask_area_threshold=0.5)
    assert [found.mask(segment).tolist() for segment in found.found] == [[[True, False]]]
    found = panoptic(labels, masks(LEFT, WHOLE), overlap_mask_area_threshold=0.4)
    assert [found.mask(segment).tolist() for segment in found.found] == [[[True, False]], [[False, True]]]


def test_the_share_of_a_mask_is_compared_in_single_precision():
    # 4/5 is 0.800000012 then, which is more than 0.8, as in the reference
    planes = masks([[INF] * 5], [[-INF] * 4 + [INF]])
    labels = logits([0.9, 0.0, 0.1], [0.0, 0.99, 0.01])
    found = panoptic(labels, planes, (1, 5), overlap_mask_area_threshold=0.8)
    assert [segment.label for segment in found.found] == [0, 1]
    found = panoptic(labels, planes, (1, 5), overlap_mask_area_threshold=0.81)
    assert [segment.label for segment in found.found] == [1]


def test_a_mask_that_is_nowhere_sure_enough_is_no_segment():
    assert panoptic(logits([0.9, 0.1, 0.0]), masks(HALF_SURE), mask_threshold=0.5).found == []
    assert len(panoptic(logits([0.9, 0.1, 0.0]), masks(HALF_SURE), mask_threshold=0.4).found) == 1


def test_segments_of_a_fused_label_become_one_and_others_keep_their_own():
    labels = logits([0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1])
    planes = masks(*(np.where(np.arange(4) == place, INF, -INF)[None] for place in range(4)))
    found = panoptic(labels, planes, (1, 4), fused={0})
    assert found.found == [
        Segment((0, 2), 0, score(0.9)),
        Segment((1,), 1, score(0.9)),
        Segment((3,), 1, score(0.8)),
    ]
    assert [np.flatnonzero(found.mask(segment)).tolist() for segment in found.found] == [[0, 2], [1], [3]]


def test_mask_logits_are_resized_to_the_size_between_before_they_become_probabilities():
    # -100, -50, 50, 100 become 0, 0, 1, 1; resized as probabilities, they would be 0, 1/4, 3/4, 1
    fifth = [[-np.log(4.0)] * 2]
    labels = logits([0.9, 0.1, 0.0], [0.9, 0.1, 0.0])
    settings = {"mask_threshold": 0.1, "overlap_mask_area_threshold": 0.0}
    found = panoptic(labels, masks(RIGHT, fifth), (1, 4), mask_size=(1, 4), **settings)
    assert found.numbers.tolist() == [[1, 1, 0, 0]]
    assert panoptic(labels, masks(RIGHT, fifth), (1, 4), **settings).numbers.tolist() == [[1, 0, 0, 0]]
    scores = label_scores(logits([1.0, 0.0]), masks(RIGHT), (1, 4))
    np.testing.assert_allclose(scores, [[[0, 0, 1, 1]]], atol=1e-6)


def test_instances_are_the_best_pairs_of_a_query_and_a_label():
    labels = logits([0.5, 0.4, 0.1], [0.3, 0.1, 0.6])
    found = find_instances(labels, masks(LEFT, RIGHT), (2, 4), threshold=0.2)
    # two queries, so two pairs: both of the first, the second on top of the first
    assert found.found == [Segment((1,), 0, score(0.5)), Segment((2,), 1, score(0.4))]
    assert [found.mask(segment).sum() for segment in found.found] == [0, 4]


def test_an_instance_s_score_is_that_of_its_label_times_the_mean_inside_of_its_mask():
    plane = [[np.log(3.0), np.log(7.0), -5.0]]  # 0.75 and 0.875 inside
    (found,) = find_instances(logits([0.8, 0.2]), masks(plane), (1, 3), threshold=0.6).found
    assert found.score == score(0.8 * 0.8125)
    assert not find_instances(logits([0.8, 0.2]), masks(plane), (1, 3), threshold=0.66).found


def test_an_instance_without_a_pixel_is_none():
    assert not find_instances(logits([0.8, 0.2]), masks([[-1.0, -2.0]]), (1, 2), threshold=0.0).found
    # the mask has a pixel, but the picture is too small for it
    assert not find_instances(logits([0.8, 0.2]), masks([[-1.0, -1.0, 1.0]]), (1, 1), threshold=0.0).found


def test_semantic_segments_are_the_labels_that_are_best_somewhere():
    scores = masks([[0.0, 0.0]], [[1.0, 0.0]], [[0.0, 2.0]])
    found = find_semantic(scores, (2, 4))
    assert found.found == [Segment((1,), 1, None), Segment((2,), 2, None)]
    assert found.mask(found.found[0]).tolist() == [[True, True, False, False]] * 2


def test_a_label_s_score_at_a_pixel_is_that_of_all_queries_together():
    scores = label_scores(logits([0.6, 0.4, 0.0], [0.2, 0.3, 0.5]), masks(WHOLE, LEFT))
    np.testing.assert_allclose(scores, [[[0.8, 0.6]], [[0.7, 0.4]]], atol=1e-6)


def test_many_masks_on_a_large_picture_take_little_memory():
    planes = np.full((100, 30, 40), -5, np.float32)
    planes[np.arange(100), np.arange(100) % 30] = INF
    labels = np.tile(logits([0.99, 0.01]), (100, 1))
    tracemalloc.start()
    found = panoptic(labels, planes, (1200, 1600), overlap_mask_area_threshold=0.1)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.found) == 30
    assert peak_bytes < 20e6  # all of them at once would be 768 MB
