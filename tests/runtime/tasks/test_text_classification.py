import math

import numpy as np
import pytest

import onnxpipe
from onnxpipe.errors import InvalidInput, UnsupportedModel
from onnxpipe.tasks.text_classification import Label, TextClassification

# the tiny classifier adds up its tokens' logits for ONE, TWO, THREE: one (1, 0, 0), two (0, 1, 0), three (0, 0, 1),
# four (-2, 0, 0); tokens of the second text count ten times

E = math.e


@pytest.fixture
def load(classification_bundle):
    def make(**bundle):
        return onnxpipe.load(classification_bundle(**bundle), threads=1)

    return make


def scores(labels):
    return {label.label: label.score for label in labels}


def test_a_text_gives_all_labels_by_falling_score(load):
    labels = load()("two two three")  # logits 0, 2, 1
    total = 1 + E**2 + E
    assert [label.label for label in labels] == ["TWO", "THREE", "ONE"]
    assert [label.score for label in labels] == pytest.approx([E**2 / total, E / total, 1 / total])
    assert all(type(label.score) is float for label in labels)


def test_labels_with_one_score_come_in_the_models_order(load):
    assert [label.label for label in load()("")] == ["ONE", "TWO", "THREE"]


def test_a_list_gives_one_answer_per_text_in_their_order(load):
    answers = load()(["three one three", "two", ""], top_k=1)
    assert [answer[0].label for answer in answers] == ["THREE", "TWO", "ONE"]


def test_a_list_of_one_gives_a_list_of_one(load):
    classify = load()
    assert classify(["two"]) == [classify("two")]


def test_an_empty_list_is_refused(load):
    with pytest.raises(InvalidInput, match="`inputs`: expected at least one input, given an empty list"):
        load()([])


@pytest.mark.parametrize("top_k", [1, 2, 3, 99, 10**400])
def test_top_k_is_how_many_labels_come_back_at_most(load, top_k):
    assert len(load()("one", top_k=top_k)) == min(top_k, 3)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("none", {"ONE": -2, "TWO": 1, "THREE": 0}),
        ("SIGMOID", {"ONE": 1 / (1 + E**2), "TWO": E / (1 + E), "THREE": 0.5}),
        ("softmax", {"ONE": E**-2 / (E**-2 + E + 1), "TWO": E / (E**-2 + E + 1), "THREE": 1 / (E**-2 + E + 1)}),
    ],
)
@pytest.mark.parametrize("activation", ["none", "sigmoid", "softmax"])
def test_function_to_apply_overrides_the_models_own(load, activation, function, expected):
    assert scores(load(activation=activation)("four two", function_to_apply=function)) == pytest.approx(expected)


@pytest.mark.parametrize(("activation", "expected"), [("none", 2), ("sigmoid", E**2 / (1 + E**2)), ("softmax", 1)])
def test_a_model_with_one_label_uses_its_own_activation(load, activation, expected):
    classify = load(labels=["SCORE"], activation=activation)
    assert classify("one one") == [Label("SCORE", pytest.approx(expected))]


def test_a_regression_may_leave_zero_to_one(load):
    assert load(labels=["SCORE"], activation="none")("four four") == [Label("SCORE", -4.0)]


def test_huge_logits_stay_finite(load):
    labels = scores(load()("two " * 400))
    assert labels == {"ONE": 0, "TWO": 1, "THREE": 0}


def test_half_precision_logits_are_scored_in_single_precision(load):
    # softmax in float16 would be off by 1e-4
    single, half = (scores(load(dtype=dtype)("one two two")) for dtype in ("float32", "float16"))
    assert half == pytest.approx(single, abs=1e-7)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"text": "one", "text_pair": "two three three"}, [1, 10, 20]),
        ({"text": "one", "text_pair": None}, [1, 0, 0]),
        ({"text": "one"}, [1, 0, 0]),
        ({"text": "one", "text_pair": ""}, [1, 0, 0]),
        ({"text": "", "text_pair": "one"}, [10, 0, 0]),
    ],
)
def test_a_pair_of_texts_is_classified_together(load, inputs, expected):
    labels = scores(load(activation="none")(inputs))
    assert [labels[name] for name in ("ONE", "TWO", "THREE")] == expected


def test_texts_and_pairs_may_stand_in_one_list(load):
    answers = load(activation="none")(["one", {"text": "one", "text_pair": "one"}], top_k=1)
    assert answers == [[Label("ONE", 1.0)], [Label("ONE", 11.0)]]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (3, "`inputs`: expected a string or an object with `text`, `text_pair`, given 3"),
        (["one", None], r"`inputs\[1\]`: expected a string or an object"),
        ({"text": 1}, "`inputs.text`: expected a string, given 1"),
        ({"text_pair": "one"}, "`inputs.text`: required, but missing"),
        ({"text": "one", "text_pair": 2}, "`inputs.text_pair`: expected a string or null, given 2"),
        (["one", {"text": "one", "pair": "x"}], r"`inputs\[1\].pair`: unknown name; expected `text`, `text_pair`"),
        ([["one", "two"]], "`inputs`: expected a string or an object"),
        ("a\ud800", "not valid Unicode"),
    ],
)
def test_anything_but_a_text_or_a_pair_is_refused_and_named(load, inputs, message):
    with pytest.raises(InvalidInput, match=message):
        load()(inputs)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"top_k": 0}, "`top_k`: expected a number >= 1, given 0"),
        ({"top_k": "1"}, "`top_k`: expected an integer or null"),
        ({"top_k": True}, "`top_k`: expected an integer or null"),
        ({"function_to_apply": "relu"}, "`function_to_apply`: expected one of 'sigmoid', 'softmax', 'none' or null"),
        ({"truncation": "middle"}, "`truncation`: expected true or false or one of 'longest_first'"),
        ({"truncation": None}, "`truncation`: expected true or false or one of"),
        ({"truncate": True}, "`truncate`: unknown name; expected `top_k`, `function_to_apply`, `truncation`"),
    ],
)
def test_a_wrong_parameter_is_refused_and_named(load, parameters, message):
    with pytest.raises(InvalidInput, match=message):
        load()("one", **parameters)


PAIR = {"text": "one one one", "text_pair": "two two two"}  # 9 tokens


@pytest.mark.parametrize(
    ("truncation", "one", "two"),
    [
        (True, 2, 20),
        ("longest_first", 2, 20),
        ("only_first", 1, 30),
        ("ONLY_SECOND", 3, 10),
    ],
)
def test_a_long_pair_is_cut_as_asked(load, truncation, one, two):
    labels = scores(load(activation="none", text={"max_tokens": 7})(PAIR, truncation=truncation))
    assert labels == {"ONE": one, "TWO": two, "THREE": 0}


@pytest.mark.parametrize("truncation", [False, "do_not_truncate"])
def test_a_long_text_is_refused_when_it_may_not_be_cut(load, truncation):
    classify = load(text={"max_tokens": 7})
    assert len(classify({"text": "one one", "text_pair": "two two"}, truncation=truncation)) == 3
    with pytest.raises(InvalidInput, match="the text has 9 tokens, the model's limit is 7"):
        classify(PAIR, truncation=truncation)


def test_a_pair_that_cannot_be_cut_to_fit_is_refused(load):
    with pytest.raises(InvalidInput, match="truncation 'only_first' cannot make the pair fit"):
        load(text={"max_tokens": 6})(PAIR, truncation="only_first")


@pytest.mark.parametrize(("side", "label"), [("right", "ONE"), ("left", "TWO")])
def test_a_long_text_is_cut_on_the_models_own_side(load, side, label):
    classify = load(text={"max_tokens": 3, "truncation_side": side})
    assert classify("one two", top_k=1)[0].label == label


def test_padding_beside_a_longer_text_changes_nothing(load):
    classify = load()
    texts = ["one", "two " * 40, "", "three one"]
    for text, together in zip(texts, classify(texts), strict=True):
        assert scores(together) == pytest.approx(scores(classify(text)))


def test_the_http_answer_to_one_text_is_nested():
    assert TextClassification.nested


def test_a_model_without_labels_is_unsupported(embedding_bundle):
    model = onnxpipe.load(embedding_bundle(), threads=1).model
    with pytest.raises(UnsupportedModel, match="tiny has no labels; it serves: sentence-similarity"):
        TextClassification(model)


def test_scores_of_a_random_batch_are_those_of_each_text_alone(load):
    rng = np.random.default_rng(5)
    texts = [" ".join(rng.choice(["one", "two", "three", "four", "?"], size=size)) for size in rng.integers(0, 30, 40)]
    classify = load(activation="sigmoid")
    assert [scores(answer) for answer in classify(texts)] == [
        pytest.approx(scores(classify(text)), abs=1e-6) for text in texts
    ]
