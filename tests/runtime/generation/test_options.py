import pytest

from onnxpipe.errors import InvalidInput
from onnxpipe.generation.options import GenerationOptions, GenerationParameters, read_defaults, resolve
from onnxpipe.generation.processors import check_token_ids
from onnxpipe.generation.watermark import WatermarkOptions
from onnxpipe.records import FieldError, read


def test_without_anything_said_the_librarys_defaults_stand() -> None:
    options = resolve({})
    assert options == GenerationOptions()
    assert options.total_length(7) == 107
    assert options.rows == 1


def test_a_request_lies_over_the_models_defaults() -> None:
    model = read_defaults({"num_beams": 4, "length_penalty": 2.0, "eos_token_id": 2, "early_stopping": True})
    options = resolve({"num_beams": 1, "eos_token_id": [2, 3]}, model)
    assert (options.num_beams, options.length_penalty, options.eos_token_ids) == (1, 2.0, (2, 3))
    assert resolve({}, model).num_beams == 4
    assert resolve({}, model).eos_token_ids == (2,)


def test_task_parameters_lie_over_the_generation_config() -> None:
    config = {"max_length": 20, "num_beams": 1, "transformers_version": "4.57.6", "bos_token_id": None}
    model = read_defaults(config, {"max_length": 142, "min_length": 56, "num_beams": 4, "prefix": "summarize: "})
    options = resolve({}, model)
    assert (options.model_max_length, options.min_length, options.num_beams) == (142, 56, 4)


def test_values_of_a_config_that_mean_off_count_as_unsaid() -> None:
    said = {"top_k": 0, "top_p": 0.0, "suppress_tokens": [-1], "begin_suppress_tokens": [220, -1]}
    model = read_defaults(said)
    assert (model.top_k, model.top_p, model.suppress_tokens, model.begin_suppress_tokens) == (None, None, (), (220,))


@pytest.mark.parametrize(
    ("given", "model", "sampled"),
    [
        ({}, {}, False),
        ({"do_sample": True}, {}, True),
        ({"temperature": 0.5}, {}, True),
        ({"top_k": 5}, {}, True),
        ({"top_p": 0.5}, {}, True),
        ({"typical_p": 0.5}, {}, True),
        ({"seed": 3}, {}, False),
        ({}, {"do_sample": True, "temperature": 0.6}, True),
        ({}, {"temperature": 0.6}, False),
        ({"do_sample": False, "temperature": 0.5}, {}, False),
        ({"do_sample": False}, {"do_sample": True}, False),
        ({"temperature": 0}, {"do_sample": True}, False),
        ({"temperature": 0.0, "do_sample": True}, {}, False),
    ],
)
def test_sampling_is_on_where_it_is_asked_for(given: dict, model: dict, sampled: bool) -> None:
    options = resolve(given, read_defaults(model))
    assert options.do_sample is sampled
    if not sampled:
        assert (options.temperature, options.top_k, options.top_p) == (1.0, None, 1.0)


def test_a_maximum_in_the_request_replaces_both_of_the_models() -> None:
    model = read_defaults({"max_new_tokens": 64, "max_length": 50})
    assert resolve({}, model).total_length(10) == 74
    assert resolve({"max_length": 30}, model).total_length(10) == 30
    assert resolve({"max_new_tokens": 5}, model).total_length(10) == 15
    assert resolve({"max_new_tokens": 5, "max_length": 30}, model).total_length(10) == 15


def test_a_minimum_in_the_request_replaces_both_of_the_models() -> None:
    model = read_defaults({"min_new_tokens": 9, "min_length": 56})
    assert (resolve({}, model).min_length, resolve({}, model).min_new_tokens) == (0, 9)
    options = resolve({"min_length": 3}, model)
    assert (options.min_length, options.min_new_tokens) == (3, 0)


def test_a_prompt_longer_than_the_models_maximum_gets_the_default_length() -> None:
    options = resolve({}, read_defaults({"max_length": 50}), default_new_tokens=20)
    assert options.total_length(49) == 50
    assert options.total_length(50) == 70


def test_a_maximum_that_was_asked_for_must_leave_room() -> None:
    with pytest.raises(FieldError, match="`max_length`: expected more than the 12 tokens"):
        resolve({"max_length": 12}).total_length(12)


def test_the_models_capacity_ends_the_text() -> None:
    assert resolve({"max_new_tokens": 100}).total_length(10, capacity=64) == 64
    with pytest.raises(InvalidInput, match="has 64 tokens and the model holds 64"):
        resolve({}).total_length(64, capacity=64)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"min_length": 9, "max_length": 8}, "`min_length`: expected at most `max_length`, which is 8; given 9"),
        ({"min_new_tokens": 9, "max_new_tokens": 8}, "`min_new_tokens`: expected at most"),
        ({"num_beams": 2, "num_return_sequences": 3}, "`num_return_sequences`: expected at most `num_beams`"),
        ({"num_return_sequences": 3}, "without sampling or beams all 3 are the same"),
        ({"num_beams": 4, "num_beam_groups": 3, "diversity_penalty": 1.0}, "expected a divisor of `num_beams`"),
        ({"num_beams": 4, "num_beam_groups": 2}, "`diversity_penalty`: expected a number > 0"),
        ({"num_beams": 4, "diversity_penalty": 1.0}, "`diversity_penalty`: expected a number > 0"),
        (
            {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0, "do_sample": True},
            "groups of beams cannot sample",
        ),
        ({"best_of": 2}, "`best_of`: expected sampling without beams"),
        ({"best_of": 65, "do_sample": True}, "`best_of`: expected a number <= 64, given 65"),
        ({"num_beams": 10**9}, "`num_beams`: expected a number <= 64, given 1000000000"),
        ({"num_return_sequences": 11}, "`num_return_sequences`: expected a number <= 10, given 11"),
        ({"best_of": 2, "do_sample": True, "num_beams": 2}, "`best_of`: expected sampling without beams"),
        ({"best_of": 2, "do_sample": True, "n": 3}, "expected at least `num_return_sequences`, which is 3"),
        ({"top_p": 0}, "`top_p`: expected a number > 0"),
        ({"top_p": 1.1}, "`top_p`"),
        ({"top_k": 0}, "`top_k`"),
        ({"temperature": -1}, "`temperature`"),
        ({"temperature": "1"}, "`temperature`: expected a number or null"),
        ({"num_beams": True}, "`num_beams`: expected an integer"),
        ({"early_stopping": "always"}, "`early_stopping`: expected true or false or one of 'never'"),
        ({"frequency_penalty": 2.5}, "`frequency_penalty`"),
        ({"stop": ["x", ""]}, "`stop`: expected texts of at least one character"),
        ({"suppress_tokens": [-1]}, "`suppress_tokens`: expected token ids from 0, given -1"),
        ({"bad_words_ids": [[1], []]}, "`bad_words_ids`: expected sequences of at least one token"),
        ({"sequence_bias": [[[1], 2.0], [3, 4.0]]}, "`sequence_bias`: expected pairs"),
        ({"sequence_bias": [[[], 2.0]]}, "`sequence_bias`: expected pairs"),
        ({"logit_bias": {"a": 1}}, "`logit_bias`: expected token ids as names"),
        ({"logit_bias": {"1": 101}}, "`logit_bias`: expected numbers from -100 to 100"),
        ({"exponential_decay_length_penalty": [1.5, 2.0]}, "expected a count and a factor"),
        ({"nonsense": 1}, "`nonsense`: unknown name"),
    ],
)
def test_what_cannot_be_is_named(given: dict, message: str) -> None:
    with pytest.raises(FieldError, match=message):
        resolve(given)


def test_the_words_of_several_clients_are_known() -> None:
    for names in ({"max_tokens": 5}, {"max_completion_tokens": 5}, {"max_new_tokens": 5}):
        assert resolve(names).max_new_tokens == 5
    for names in ({"stop": "x"}, {"stop_strings": ["x"]}, {"stop_sequences": ["x"]}):
        assert resolve(names).stop == ("x",)
    assert resolve({"n": 2, "do_sample": True}).num_return_sequences == 2


def test_biases_are_keyed_by_tokens() -> None:
    options = resolve({"sequence_bias": [[[1, 2], 3], [[4], -1.5]], "logit_bias": {"50256": -100, "7": 2}})
    assert options.sequence_bias == {(1, 2): 3.0, (4,): -1.5}
    assert options.logit_bias == {50256: -100.0, 7: 2.0}


def test_the_watermark_is_a_switch_or_its_settings() -> None:
    assert resolve({"watermark": True}).watermark == WatermarkOptions()
    assert resolve({"watermark": False}).watermark is None
    mark = resolve({"watermarking_config": {"bias": 4.0, "seeding_scheme": "selfhash"}}).watermark
    assert mark == WatermarkOptions(bias=4.0, seeding_scheme="selfhash")


def test_a_request_for_beams_is_not_held_to_the_models_groups() -> None:
    model = read_defaults({"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.5})
    assert resolve({}, model).num_beam_groups == 3
    assert resolve({"num_beams": 4}, model).num_beam_groups == 1


def test_rows_are_what_a_request_takes_at_most() -> None:
    assert resolve({"num_beams": 4, "num_return_sequences": 2}).rows == 4
    assert resolve({"do_sample": True, "best_of": 3, "n": 2}).rows == 3


def test_tokens_beyond_the_vocabulary_are_named() -> None:
    parameters = read(GenerationParameters, {"bad_words_ids": [[1], [2, 99]], "eos_token_id": 3})
    check_token_ids(parameters, 100)
    with pytest.raises(FieldError, match="`bad_words_ids`: expected token ids below 99,"):
        check_token_ids(parameters, 99)
