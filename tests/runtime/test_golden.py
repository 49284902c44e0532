import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpipe.bundle import Golden, open_bundle, write_manifest
from onnxpipe.golden import check_golden, distance
from onnxpipe.load import load_model
from onnxpipe.vision.mask_png import encode_mask

FAR = math.inf
NUMBERS = st.floats(-1e6, 1e6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | NUMBERS | st.text(max_size=3),
    lambda items: st.lists(items, max_size=3) | st.dictionaries(st.text(max_size=2), items, max_size=3),
    max_leaves=10,
)
SCORES = st.dictionaries(st.text(max_size=3), st.floats(0, 1), min_size=1, max_size=6)


def labels(scores):
    return [{"label": label, "score": score} for label, score in scores.items()]


@given(JSON)
def test_an_answer_is_no_distance_from_itself(answer):
    assert distance(answer, answer) == 0


@given(JSON, JSON)
def test_the_distance_is_the_same_from_both_ends_and_never_negative_or_nan(left, right):
    assert distance(left, right) == distance(right, left) >= 0


@given(st.lists(NUMBERS, min_size=1), st.data())
def test_the_largest_difference_counts_wherever_it_stands(numbers, data):
    place = data.draw(st.integers(0, len(numbers) - 1))
    other = [*numbers]
    other[place] = numbers[place] + 1000
    assert distance(numbers, other) == abs(numbers[place] + 1000 - numbers[place])
    assert distance({"a": [numbers]}, {"a": [other]}) == distance(numbers, other)


@given(SCORES, st.randoms(use_true_random=False))
def test_labels_may_change_places(scores, random):
    answer = labels(scores)
    shuffled = [*answer]
    random.shuffle(shuffled)
    assert distance(answer, shuffled) == 0


def test_labelled_scores_are_compared_label_by_label():
    expected = labels({"joy": 0.5, "love": 0.375, "fear": 0.125})
    assert distance(expected, labels({"love": 0.5, "joy": 0.375, "fear": 0.125})) == 0.125
    assert distance([expected], [labels({"love": 0.375, "fear": 0.125, "joy": 0.5})]) == 0


def test_masks_are_as_far_apart_as_the_share_of_pixels_that_differ():
    mask = np.arange(20).reshape(4, 5) % 3 == 0
    other = mask.copy()
    other[1, 2:] ^= True
    assert distance(encode_mask(mask), encode_mask(other)) == 0.15
    assert distance(encode_mask(mask), encode_mask(mask)) == 0
    assert distance(encode_mask(mask), encode_mask(mask.T)) == FAR
    assert distance(encode_mask(mask), "text") == FAR


@pytest.mark.parametrize(
    ("expected", "answer", "worst"),
    [
        (1, 1.5, 0.5),
        ([1.0, 2.0], [1.25, 2.75], 0.75),
        ({"a": 1.0, "b": [0.0]}, {"b": [-2.0], "a": 1.0}, 2.0),
        ([], [], 0.0),
        ({}, {}, 0.0),
        ("text", "text", 0.0),
        (None, None, 0.0),
    ],
)
def test_distances_worked_out_by_hand(expected, answer, worst):
    assert distance(expected, answer) == worst


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        ([1.0], [1.0, 1.0]),
        ([1.0], 1.0),
        ([[1.0]], [1.0]),
        ({"a": 1.0}, {"b": 1.0}),
        ({"a": 1.0}, {"a": 1.0, "b": 1.0}),
        ({"a": 1.0}, [1.0]),
        ("text", "texts"),
        ("1", 1),
        (None, 0),
        (0, None),
        (True, 1),
        (1, True),
        (False, 0.0),
        (True, False),
        (labels({"joy": 1.0}), labels({"fear": 1.0})),
        (labels({"joy": 1.0}), [1.0]),
    ],
)
def test_anything_else_that_differs_is_infinitely_far(expected, answer):
    assert distance(expected, answer) == FAR


@pytest.mark.parametrize("answer", [[math.nan, 1.0], [1.0, math.nan], [[1.0, 1.0], math.nan]])
def test_an_answer_that_is_not_a_number_is_infinitely_far_wherever_it_stands(answer):
    expected = [[1.0, 1.0], 1.0] if isinstance(answer[0], list) else [1.0, 1.0]
    assert distance(expected, answer) == FAR


@pytest.fixture
def model(embedding_bundle):
    """A model with golden requests, whose answers [2, 4] and 1 are known."""

    def load(*golden):
        folder = embedding_bundle()
        write_manifest(folder, dataclasses.replace(open_bundle(folder).manifest, golden=golden))
        return load_model(folder)

    return load


def test_answers_within_the_tolerance_are_no_problem(model):
    vector = Golden(task="feature-extraction", inputs="one", expected=[2.0, 4.125], tolerance={"fp32": 0.125})
    cosine = Golden(
        task="sentence-similarity",
        inputs={"source_sentence": "one", "sentences": ["one"]},
        expected=[1.0],
        tolerance={"fp32": 1e-6},
    )
    assert check_golden(model(vector, cosine)) == []


def test_a_bundle_without_golden_requests_has_no_problem(model):
    assert check_golden(model()) == []


def test_parameters_belong_to_the_request(model):
    shortened = Golden(
        task="feature-extraction", inputs="one", parameters={"dimensions": 1}, expected=[2.0], tolerance={"fp32": 0.0}
    )
    assert check_golden(model(shortened)) == []


def test_each_answer_that_is_off_is_a_line(model):
    requests = [
        Golden(task="feature-extraction", inputs=inputs, expected=expected, tolerance={"fp32": 0.25})
        for inputs, expected in [("one", [2.0, 4.5]), ("one", [2.0, 4.25]), ("one three", [2.25])]
    ]
    assert check_golden(model(*requests)) == [
        "feature-extraction: an answer differs from the reference by 0.5, allowed is 0.25",
        "feature-extraction: an answer differs from the reference by inf, allowed is 0.25",
    ]


def test_a_request_without_a_tolerance_for_the_precision_is_not_asked(model):
    golden = Golden(task="feature-extraction", inputs="one", expected=[9.0, 9.0], tolerance={"int8": 0.0})
    assert check_golden(model(golden)) == []
