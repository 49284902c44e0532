import pytest

import onnxpipe
from onnxpipe.errors import InvalidInput, UnprocessableInput

# without a template the vectors are the words': one (1, 0), two (0, 2), three (3, 0), [UNK] (-1, -1)


@pytest.fixture
def load(embedding_bundle, make_tokenizer):
    def make(*, template=False, pooling=("mean",), **bundle):
        folder = embedding_bundle(pooling=pooling, tokenizer=make_tokenizer(template=template), **bundle)
        return onnxpipe.load(folder, threads=1)

    return make


def inputs(source, *sentences):
    return {"source_sentence": source, "sentences": list(sentences)}


def test_cosines_come_in_the_order_of_the_sentences(load):
    # (1, 0) with (3, 0), (0, 2), (-1, -1) and the mean of (3, 0) and (0, 4)
    cosines = load()(inputs("one", "three", "two", "what?", "three four"))
    assert cosines == pytest.approx([1, 0, -(0.5**0.5), 0.6])
    assert all(type(cosine) is float for cosine in cosines)


def test_a_cosine_never_leaves_its_range(load):
    cosines = load()(inputs("one two three four", *["one two three four " * count for count in range(1, 60)]))
    assert cosines == pytest.approx([1] * 59)
    assert max(cosines) <= 1


def test_every_pooling_of_the_model_counts(load):
    # [CLS] and the mean: (5, 12, 6/3, 12/3) and (5, 12, 5/3, 14/3)
    expected = (169 + 10 / 3 + 56 / 3) / ((169 + 4 + 16) * (169 + 25 / 9 + 196 / 9)) ** 0.5
    assert load(template=True, pooling=("cls", "mean"))(inputs("one", "two")) == pytest.approx([expected])


def test_a_list_of_inputs_gives_a_list_of_answers(load):
    similarity = load()
    assert similarity([inputs("one", "two"), inputs("two", "two", "one")]) == [[0], [1, 0]]
    assert similarity([inputs("one", "three")]) == [[1]]


def test_an_empty_list_is_refused(load):
    with pytest.raises(InvalidInput, match="`inputs`: expected at least one input"):
        load()([])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("one", "`inputs`: expected an object with `source_sentence`, `sentences`, given 'one'"),
        ({"source_sentence": "one"}, "`inputs.sentences`: required, but missing"),
        ({"sentences": ["one"]}, "`inputs.source_sentence`: required, but missing"),
        (inputs("one"), "`inputs.sentences`: expected at least one sentence, given an empty list"),
        (inputs("one", 2), r"`inputs.sentences\[0\]`: expected a string, given 2"),
        (inputs(None, "two"), "`inputs.source_sentence`: expected a string, given None"),
        ({"source_sentence": "one", "sentences": "two"}, "`inputs.sentences`: expected a list, each item a string"),
        (inputs("one", "two") | {"x": 1}, "`inputs.x`: unknown name"),
        ([inputs("one", "two"), inputs("one")], r"`inputs\[1\].sentences`: expected at least one sentence"),
    ],
)
def test_wrong_inputs_are_refused_and_named(load, given, message):
    with pytest.raises(InvalidInput, match=message):
        load()(given)


@pytest.mark.parametrize("name", ["normalize", "dimensions", "top_k"])
def test_a_parameter_of_another_task_is_refused(load, name):
    with pytest.raises(InvalidInput, match=f"`{name}`: unknown name; expected `truncate`, `truncation_direction`"):
        load()(inputs("one", "two"), **{name: None})


def test_every_text_is_cut_to_the_limit_on_the_side_asked_for(load):
    similarity = load(text={"max_tokens": 1})
    pair = inputs("one two", "three four")
    assert similarity(pair) == pytest.approx([1])  # one and three
    assert similarity(pair, truncate=True, truncation_direction="left") == pytest.approx([1])  # two and four
    assert similarity(inputs("one two", "three")) == pytest.approx([1])
    assert similarity(inputs("one two", "three"), truncation_direction="left") == pytest.approx([0])


def test_a_long_text_is_refused_when_it_may_not_be_cut(load):
    similarity = load(text={"max_tokens": 1})
    assert similarity(inputs("one", "two"), truncate=False) == pytest.approx([0])
    for given in (inputs("one two", "one"), inputs("one", "one two")):
        with pytest.raises(InvalidInput, match="the text has 2 tokens, the model's limit is 1"):
            similarity(given, truncate=False)


def test_a_prompt_stands_before_every_text(load):
    similarity = load(text={"prompts": {"search": "query "}})
    # the means of (8, 6) with (1, 0) and with (0, 2): (4.5, 3) and (4, 4)
    expected = (4.5 * 4 + 3 * 4) / ((4.5**2 + 3**2) ** 0.5 * 32**0.5)
    assert similarity(inputs("one", "two"), prompt_name="search") == pytest.approx([expected])
    assert similarity(inputs("one", "two")) == pytest.approx([0])


def test_a_prompt_can_be_left_out_of_pooling(load):
    similarity = load(text={"prompts": {"search": "query "}}, include_prompt=False)
    assert similarity(inputs("one", "two"), prompt_name="search") == pytest.approx([0])


def test_a_prompt_the_model_does_not_have_cannot_be_honoured(load):
    with pytest.raises(UnprocessableInput, match="this model has no prompt 'other'"):
        load()(inputs("one", "two"), prompt_name="other")


def test_an_un_pooled_model_compares_by_its_pooling(load):
    assert load(keep_tokens=True)(inputs("one", "three", "two")) == pytest.approx([1, 0])


def test_texts_count_as_truncated_one_by_one(load):
    similarity = load(text={"max_tokens": 1})
    inputs_type, parameters_type, _ = type(similarity).types()
    answer = similarity.run([inputs_type(**inputs("one two", "one two three", "one"))], parameters_type())
    assert answer.truncated_tokens == 3
