import pytest

from onnxpipe.errors import InvalidInput
from onnxpipe_server.openai.requests import check_tokens, prompts_of, read_chat, read_completion, read_format
from onnxpipe_server.settings import Settings

SETTINGS = Settings()
MESSAGES = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
ANY_OBJECT = {"type": "object"}


@pytest.mark.parametrize(
    ("given", "schema"),
    [
        ({"type": "json_object"}, ANY_OBJECT),
        ({"type": "json_object", "value": SCHEMA}, SCHEMA),
        ({"type": "json", "value": SCHEMA}, SCHEMA),
        ({"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}, SCHEMA),
        ({"type": "json_schema", "json_schema": {"name": "n"}}, ANY_OBJECT),
        ({"type": "json_schema", "value": {"name": "n", "schema": SCHEMA}}, SCHEMA),
    ],
)
def test_every_form_of_a_format_names_a_schema(given, schema):
    assert read_format(given).schema() == schema


def test_a_format_may_be_an_expression_or_any_text():
    assert read_format({"type": "regex", "value": "[ab]"}).value == "[ab]"
    assert read_format({"type": "text"}) is None


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"type": "xml"},
        {"type": "regex"},
        {"type": "json", "value": 7},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": 7},
    ],
)
def test_a_format_that_is_none_is_refused(given):
    with pytest.raises(InvalidInput, match="response_format"):
        read_format(given)


def test_every_parameter_of_text_generation_may_stand_beside_the_prompt():
    request = read_completion(
        {
            "prompt": "a",
            "do_sample": True,
            "top_k": 3,
            "typical_p": 0.5,
            "repetition_penalty": 2,
            "return_full_text": True,
            "details": True,
            "decoder_input_details": True,
            "truncate": 5,
            "stop": ["x"],
            "unknown": 1,
            "temperature": None,
        },
        SETTINGS,
    )

    assert (request.do_sample, request.top_k, request.typical_p, request.truncate) == (True, 3, 0.5, 5)
    # what a completion has no place for is not computed
    assert (request.details, request.decoder_input_details, request.return_full_text) == (False, False, None)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1, 2], [3]], [[1, 2], [3]]),
    ],
)
def test_a_prompt_is_a_text_or_tokens_or_several(given, expected):
    assert prompts_of(read_completion({"prompt": given}, SETTINGS)) == expected


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_new_tokens"])
def test_the_length_has_three_names(name):
    assert read_chat({"messages": MESSAGES, name: 7}, SETTINGS).max_new_tokens == 7


def test_stop_may_be_one_string_or_a_list():
    assert read_chat({"messages": MESSAGES, "stop": "a"}, SETTINGS).stop == "a"
    assert read_chat({"messages": MESSAGES, "stop": ["a", "b"]}, SETTINGS).stop == ("a", "b")


@pytest.mark.parametrize(
    ("given", "sampled"),
    [
        ({}, None),
        ({"n": 2}, True),
        ({"n": 2, "temperature": 0.5}, True),
        ({"n": 2, "temperature": 0}, None),
        ({"n": 2, "do_sample": False}, False),
        ({"n": 2, "num_beams": 4}, None),
    ],
)
def test_several_answers_are_drawn_where_they_would_all_be_the_same(given, sampled):
    assert read_chat({"messages": MESSAGES, **given}, SETTINGS).do_sample is sampled


def test_a_negative_seed_is_one_too():
    assert read_chat({"messages": MESSAGES, "seed": -1}, SETTINGS).seed == 2**64 - 1


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"n": 5}, "n"),
        ({"n": 0}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": "7"}, "max_completion_tokens"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": 2}, "logprobs"),
        ({"stop": [1]}, "stop"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"stream_options": {"include_usage": "yes"}}, "stream_options"),
        ({"tools": {}}, "tools"),
        ({"response_format": "json"}, "response_format"),
        ({"messages": "hi"}, "messages"),
    ],
)
def test_a_wrong_field_is_named_as_the_client_spelled_it(given, field):
    with pytest.raises(InvalidInput, match=f"`{field}"):
        read_chat({"messages": MESSAGES, **given}, SETTINGS)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "prompt"),
        ({"prompt": ["a"] * 33}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "echo": True}, "echo"),
        ({"prompt": "a", "logprobs": 6}, "logprobs"),
    ],
)
def test_what_a_completion_cannot_do_is_refused(given, field):
    with pytest.raises(InvalidInput, match=f"`{field}"):
        read_completion(given, SETTINGS)


@pytest.mark.parametrize("given", [[], [-1], [258]])
def test_a_prompt_has_tokens_of_the_model(given):
    with pytest.raises(InvalidInput, match="`prompt`"):
        check_tokens(given, 258)
