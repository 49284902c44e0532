import numpy as np
import pytest

import onnxpipe
from onnxpipe.errors import InvalidInput, UnprocessableInput, UnsupportedModel
from onnxpipe.tasks.feature_extraction import FeatureExtraction

# in the tiny bundle: [CLS] (5, 12), [SEP] (0, 0), one (1, 0), two (0, 2), three (3, 0), four (0, 4), query (8, 6)


@pytest.fixture
def load(embedding_bundle):
    def make(**bundle):
        return onnxpipe.load(embedding_bundle(**bundle), task="feature-extraction", threads=1)

    return make


def test_a_text_gives_one_float32_vector(load):
    vector = load()("one two")
    assert vector.tolist() == [1.5, 3.5]  # (5 + 1 + 0 + 0, 12 + 0 + 2 + 0) over 4 tokens
    assert vector.dtype == np.float32


def test_a_list_gives_one_vector_per_text_in_their_order(load):
    vectors = load()(["one two three four", "", "one"])
    assert np.stack(vectors) == pytest.approx(np.array([[9 / 6, 18 / 6], [5 / 2, 12 / 2], [6 / 3, 12 / 3]]))


def test_a_list_of_one_gives_a_list_of_one(load):
    assert [vector.tolist() for vector in load()(["one two"])] == [[1.5, 3.5]]


def test_an_empty_list_is_refused(load):
    with pytest.raises(InvalidInput, match="`inputs`: expected at least one input, given an empty list"):
        load()([])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (3, "`inputs`: expected a string, given 3"),
        (None, "`inputs`: expected a string, given None"),
        (b"one", "`inputs`: expected a string, given b'one'"),
        (("one", "two"), "`inputs`: expected a string"),
        ({"text": "one"}, "`inputs`: expected a string"),
        ([["one"]], "`inputs`: expected a string"),
        (["one", 3], r"`inputs\[1\]`: expected a string, given 3"),
    ],
)
def test_anything_but_text_is_refused_and_named(load, inputs, message):
    with pytest.raises(InvalidInput, match=message):
        load()(inputs)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"normalize": "yes"}, "`normalize`: expected true or false or null"),
        ({"truncate": 1}, "`truncate`: expected true or false or null"),
        ({"truncation_direction": "up"}, "`truncation_direction`: expected one of 'left', 'right' or null"),
        ({"prompt_name": 1}, "`prompt_name`: expected a string or null"),
        ({"dimensions": 0}, "`dimensions`: expected a number >= 1, given 0"),
        ({"dimensions": 1.5}, "`dimensions`: expected an integer or null"),
        ({"dimensions": True}, "`dimensions`: expected an integer or null"),
        ({"top_k": 1}, "`top_k`: unknown name; expected `normalize`"),
    ],
)
def test_a_wrong_parameter_is_refused_and_named(load, parameters, message):
    with pytest.raises(InvalidInput, match=message):
        load()("one", **parameters)


@pytest.mark.parametrize(
    ("model", "asked", "expected"),
    [
        (False, None, [5, 12]),
        (False, True, [5 / 13, 12 / 13]),
        (True, None, [5 / 13, 12 / 13]),
        (True, False, [5, 12]),
    ],
)
def test_normalize_overrides_the_models_own_setting(load, model, asked, expected):
    assert load(pooling=["cls"], normalize=model)("one", normalize=asked) == pytest.approx(expected)


def test_dimensions_are_cut_before_the_vector_is_scaled(load):
    extract = load(pooling=["cls", "max"])
    assert extract("one").tolist() == [5, 12, 5, 12]
    assert extract("one", dimensions=3).tolist() == [5, 12, 5]
    assert extract("one", dimensions=1, normalize=True).tolist() == [1]


def test_more_dimensions_than_the_model_has_cannot_be_honoured(load):
    with pytest.raises(UnprocessableInput, match="`dimensions`: expected at most 2, given 3"):
        load()("one", dimensions=3)


def test_several_poolings_stand_one_after_the_other(load):
    # the last token is [SEP]; the weighted mean of [CLS] one [SEP] is (5 + 2, 12) over 1 + 2 + 3
    vector = load(pooling=["last_token", "weighted_mean", "max"])("one")
    assert vector == pytest.approx([0, 0, 7 / 6, 12 / 6, 5, 12])


LONG = "one two three four"  # 6 tokens


@pytest.mark.parametrize("parameters", [{}, {"truncate": True}, {"truncate": None}])
def test_a_long_text_is_cut_on_the_right(load, parameters):
    extract = load(text={"max_tokens": 4})
    assert extract(LONG, **parameters).tolist() == extract("one two").tolist()


@pytest.mark.parametrize("direction", ["left", "LEFT"])
def test_a_long_text_is_cut_on_the_left_when_asked(load, direction):
    extract = load(text={"max_tokens": 4})
    assert extract(LONG, truncation_direction=direction).tolist() == extract("three four").tolist()
    assert extract(LONG, truncation_direction="right").tolist() == extract("one two").tolist()


def test_a_long_text_is_refused_when_it_may_not_be_cut(load):
    extract = load(text={"max_tokens": 4})
    assert extract("one two", truncate=False).tolist() == [1.5, 3.5]
    with pytest.raises(InvalidInput, match="the text has 6 tokens, the model's limit is 4"):
        extract(LONG, truncate=False)


PROMPTS = {"prompts": {"search": "query ", "empty": ""}}


def test_a_prompt_stands_before_the_text(load):
    extract = load(text=PROMPTS)
    assert extract("one", prompt_name="search").tolist() == extract("query one").tolist() == [3.5, 4.5]
    assert extract("one", prompt_name="empty").tolist() == extract("one").tolist()


def test_the_default_prompt_is_used_unless_another_is_named(load):
    extract = load(text=PROMPTS | {"default_prompt": "search"})
    assert extract("one").tolist() == [3.5, 4.5]
    assert extract("one", prompt_name="empty").tolist() == [2, 4]


@pytest.mark.parametrize(("text", "choices"), [(PROMPTS, "empty, search"), ({}, "none")])
def test_a_prompt_the_model_does_not_have_cannot_be_honoured(load, text, choices):
    with pytest.raises(UnprocessableInput, match=f"this model has no prompt 'other'; it has: {choices}"):
        load(text=text)("one", prompt_name="other")


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("cls", [1, 0]),  # the first token behind [CLS] query
        ("last_token", [0, 0]),
        ("max", [1, 0]),
        ("mean", [0.5, 0]),
        ("mean_sqrt_len", [2**-0.5, 0]),
        ("weighted_mean", [3 / 7, 0]),  # positions 3 and 4
    ],
)
def test_a_prompt_that_is_left_out_of_pooling_still_is_read(load, pooling, expected):
    extract = load(pooling=[pooling], include_prompt=False, text=PROMPTS)
    assert extract("one", prompt_name="search") == pytest.approx(expected)


def test_a_tokenizer_without_a_closing_token_leaves_out_the_whole_prompt(load, make_tokenizer):
    extract = load(include_prompt=False, text=PROMPTS, tokenizer=make_tokenizer(template=False))
    assert extract("one four", prompt_name="search").tolist() == [0.5, 2]


def test_without_a_prompt_include_prompt_changes_nothing(load):
    assert load(include_prompt=False)("one two").tolist() == [1.5, 3.5]


def test_a_model_without_pooling_gives_every_token(load):
    extract = load(keep_tokens=True)
    hidden = extract("one two")
    assert hidden.tolist() == [[[5, 12], [1, 0], [0, 2], [0, 0]]]
    assert hidden.dtype == np.float32
    assert [item.shape for item in extract(["one", "one two three"])] == [(1, 3, 2), (1, 5, 2)]


def test_normalize_and_dimensions_work_on_each_token(load):
    hidden = load(keep_tokens=True)("one two", normalize=True)
    assert hidden == pytest.approx(np.array([[[5 / 13, 12 / 13], [1, 0], [0, 1], [0, 0]]]))
    assert load(keep_tokens=True, normalize=True)("two", dimensions=1).tolist() == [[[1], [0], [0]]]


def test_a_model_without_embeddings_is_unsupported(classification_bundle):
    model = onnxpipe.load(classification_bundle(), threads=1).model
    with pytest.raises(UnsupportedModel, match="tiny gives no embeddings; it serves: text-classification"):
        FeatureExtraction(model)
