import dataclasses

import pytest

import onnxpipe
from onnxpipe.errors import InvalidInput, UnsupportedModel
from onnxpipe.tasks import fill_mask
from onnxpipe.tasks.fill_mask import Fill, FillMask

# the tiny model gives a mask, wherever it stands, one with 8/16, two 4/16, three 2/16, four and "." 1/16 each
ONE, TWO, THREE, FOUR, STOP = range(5, 10)  # ids
SCORES = {ONE: 8 / 16, TWO: 4 / 16, THREE: 2 / 16, FOUR: 1 / 16, STOP: 1 / 16}


@pytest.fixture
def load(fill_mask_bundle):
    def make(**text):
        return onnxpipe.load(fill_mask_bundle(**text), threads=1)

    return make


@pytest.fixture
def fill(load):
    return load()


def tokens(fills):
    return [item.token for item in fills]


def test_a_mask_gives_the_five_likeliest_tokens_by_falling_probability(fill):
    fills = fill("two [MASK] three .")
    assert tokens(fills) == [ONE, TWO, THREE, FOUR, STOP]
    assert [item.score for item in fills] == pytest.approx(list(SCORES.values()))
    assert [item.token_str for item in fills] == ["one", "two", "three", "four", "."]
    assert [item.sequence for item in fills[:2]] == ["two one three.", "two two three."]
    assert type(fills[0].score) is float
    assert type(fills[0].token) is int


def test_spaces_before_punctuation_stay_where_the_models_tokenizer_leaves_them(load):
    assert load(clean_up_spaces=False)("[MASK] .", top_k=1)[0].sequence == "one ."


def test_several_masks_give_a_list_each_and_keep_the_others_and_the_special_tokens(fill):
    assert fill("[MASK] two [MASK]", top_k=1) == [
        [Fill("[CLS] one two [MASK] [SEP]", pytest.approx(0.5), ONE, "one")],
        [Fill("[CLS] [MASK] two one [SEP]", pytest.approx(0.5), ONE, "one")],
    ]


def test_a_padding_token_in_the_text_is_left_out_of_sequences(fill):
    assert fill("[PAD] [MASK] [MASK]", top_k=1)[0][0].sequence == "[CLS] one [MASK] [SEP]"


def test_a_special_token_in_the_text_is_left_out_of_the_sequence_of_one_mask(fill):
    assert fill("two [SEP] [MASK]", top_k=1)[0].sequence == "two one"


def test_a_list_gives_one_answer_per_text_in_their_order(fill):
    answers = fill(["[MASK]", "[MASK] [MASK]", "two [MASK]"], top_k=1)
    assert [item.sequence for item in (answers[0][0], answers[1][1][0], answers[2][0])] == [
        "one",
        "[CLS] [MASK] one [SEP]",
        "two one",
    ]


def test_a_list_of_one_gives_a_list_of_one(fill):
    assert fill(["two [MASK]"]) == [fill("two [MASK]")]
    assert fill(["[MASK] [MASK]"]) == [fill("[MASK] [MASK]")]


def test_an_empty_list_is_refused(fill):
    with pytest.raises(InvalidInput, match="`inputs`: expected at least one input, given an empty list"):
        fill([])


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (3, 3), (10, 10), (11, 10), (10**400, 10)])
def test_top_k_is_capped_at_the_vocabulary(fill, top_k, count):
    assert len(fill("[MASK]", top_k=top_k)) == count


@pytest.mark.parametrize("targets", ["three", ["three"], ("three", "three")])
def test_a_target_keeps_its_probability_among_all_tokens(fill, targets):
    assert fill("[MASK]", targets=targets) == [Fill("three", pytest.approx(2 / 16), THREE, "three")]


def test_targets_come_by_falling_probability_and_top_k_is_capped_at_them(fill):
    assert tokens(fill("[MASK]", targets=["four", "one", "three"], top_k=9)) == [ONE, THREE, FOUR]
    assert tokens(fill("[MASK]", targets=["four", "one", "three"], top_k=2)) == [ONE, THREE]


def test_targets_hold_for_every_mask(fill):
    assert [tokens(fills) for fills in fill("[MASK] [MASK]", targets=["four", "two"])] == [[TWO, FOUR]] * 2


def answer(pipeline, text, **parameters):
    return pipeline.run([text], fill_mask.Parameters(**parameters))


def test_a_target_that_is_no_token_is_replaced_by_its_first_with_a_warning(fill):
    answered = answer(fill, "[MASK]", targets=["four five", "two"])
    assert tokens(answered.results[0]) == [TWO, FOUR]
    assert answered.warnings == ["the target 'four five' is not a token of the model; 'four' is taken"]


def test_an_unknown_target_is_the_unknown_token_with_a_warning(fill):
    answered = answer(fill, "[MASK]", targets="six")
    assert answered.results[0][0].token_str == "[UNK]"
    assert answered.warnings == ["the target 'six' is not a token of the model; '[UNK]' is taken"]


def test_two_targets_of_one_token_are_one(fill):
    assert tokens(fill("[MASK]", targets=["four", "four five"])) == [FOUR]


def test_a_target_without_tokens_is_left_out_with_a_warning(fill):
    answered = answer(fill, "[MASK]", targets=[" ", "two"])
    assert tokens(answered.results[0]) == [TWO]
    assert answered.warnings == ["the target ' ' has no tokens and is left out"]


def test_warnings_are_few_enough_for_a_header(fill):
    answered = answer(fill, "[MASK]", targets=[f"six{number}" for number in range(1000)])
    assert len(answered.warnings) == fill_mask.MAX_WARNINGS


def test_known_targets_give_no_warning(fill):
    assert answer(fill, "[MASK]", targets="two").warnings == []


@pytest.mark.parametrize("targets", ["", " ", ["", " "], []])
def test_targets_none_of_which_can_be_used_are_refused(fill, targets):
    with pytest.raises(InvalidInput, match="`targets`: expected"):
        fill("[MASK]", targets=targets)


@pytest.mark.parametrize("text", ["", "two", "<mask>", "[mask]"])
def test_a_text_without_a_mask_is_refused_with_the_models_own_mask(fill, text):
    with pytest.raises(InvalidInput, match=r"expected \[MASK\] in the place to fill, given a text without it"):
        fill(text)


def test_one_text_without_a_mask_refuses_the_list(fill):
    with pytest.raises(InvalidInput, match="given a text without it: 'two'"):
        fill(["[MASK]", "two"])


def test_a_long_text_is_cut_and_says_so(load):
    answered = answer(load(max_tokens=4), "[MASK] two three four", top_k=1)
    assert answered.results[0][0].sequence == "one two"
    assert answered.truncated_tokens == 2


@pytest.mark.parametrize("text", ["two three [MASK]", "[MASK] two [MASK]", "[MASK] [MASK] [MASK]"])
def test_a_mask_that_is_cut_off_is_an_error(load, text):
    with pytest.raises(
        InvalidInput, match=r"the text has 5 tokens, and a \[MASK\] stands beyond the model's limit of 4"
    ):
        load(max_tokens=4)(text)


def test_the_side_that_is_cut_is_the_models_own(load):
    assert load(max_tokens=4, truncation_side="left")("two three [MASK]", top_k=1)[0].sequence == "three one"


def test_an_answer_of_too_many_tokens_is_refused(fill, monkeypatch):
    monkeypatch.setattr(fill_mask, "MAX_ANSWER_TOKENS", 2 * 4 * 10)
    assert len(fill("[MASK] [MASK]", top_k=10)) == 2
    with pytest.raises(InvalidInput, match="10 fills for each of 3 masks in 5 tokens are too many for one answer"):
        fill("[MASK] [MASK] [MASK]", top_k=10)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (3, "`inputs`: expected a string, given 3"),
        (None, "`inputs`: expected a string, given None"),
        (["[MASK]", None], r"`inputs\[1\]`: expected a string, given None"),
        ([["[MASK]"]], "`inputs`: expected a string, given"),
        ({"text": "[MASK]"}, "`inputs`: expected a string, given"),
        ("[MASK] \ud800", "not valid Unicode"),
    ],
)
def test_anything_but_a_text_is_refused_and_named(fill, inputs, message):
    with pytest.raises(InvalidInput, match=message):
        fill(inputs)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"top_k": 0}, "`top_k`: expected a number >= 1, given 0"),
        ({"top_k": None}, "`top_k`: expected an integer, given None"),
        ({"top_k": "5"}, "`top_k`: expected an integer, given '5'"),
        ({"top_k": 1.5}, "`top_k`: expected an integer, given 1.5"),
        ({"targets": 3}, "`targets`: expected a string or a list, each item a string or null, given 3"),
        ({"targets": ["one", 3]}, r"`targets\[1\]`: expected a string, given 3"),
        ({"target": "one"}, "`target`: unknown name; expected `top_k`, `targets`"),
    ],
)
def test_a_wrong_parameter_is_refused_and_named(fill, parameters, message):
    with pytest.raises(InvalidInput, match=message):
        fill("[MASK]", **parameters)


def test_texts_beside_longer_ones_get_the_same_answer(fill):
    texts = ["[MASK]", "[MASK] " + "two " * 40, "three [MASK] [MASK]"]
    assert fill(texts) == [fill(text) for text in texts]


def test_a_tokenizer_without_padding_token_serves_too(load):
    assert load(special_tokens={"mask_token": "[MASK]"})("[MASK]", top_k=1)[0].sequence == "one"


@pytest.mark.parametrize("special", [{}, {"mask_token": "<mask>"}])
def test_a_model_without_a_mask_token_is_unsupported(load, special):
    with pytest.raises(UnsupportedModel, match="tiny has no mask token; it serves: fill-mask"):
        load(special_tokens=special)


def test_outputs_are_reduced_to_fills_before_the_next_text_runs(fill):
    alive = []

    def preprocess(text, parameters):
        work = FillMask.preprocess(fill, text, parameters)

        def finish(outputs):
            alive.append(len(outputs))
            return work.finish(outputs)

        return dataclasses.replace(work, finish=finish)

    def infer(rows):
        for index, outputs in FillMask.infer(fill, rows):
            assert len(alive) == index
            yield index, outputs

    fill.preprocess, fill.infer = preprocess, infer
    assert len(fill(["[MASK]"] * 20)) == 20
