import dataclasses

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpipe.errors import InvalidInput
from onnxpipe.pipeline import Answer, Pipeline, Work
from onnxpipe.records import Record, parameter
from onnxpipe_server import contract

SIMILARITY = {"source_sentence": "a", "sentences": ["a", "b"]}
JSON_TYPES = ["", "application/json", "application/json; charset=utf-8", "application/x-www-form-urlencoded"]


@pytest.mark.parametrize("content_type", [*JSON_TYPES, "application/octet-stream", "text/plain"])
def test_json_is_read_whatever_the_declared_type(content_type):
    envelope = contract.parse(b'{"inputs": "hi", "parameters": {"top_k": 2}}', content_type)

    assert envelope == contract.Envelope("hi", {"top_k": 2})


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        ('"hi"', "hi"),
        ('["a", "b"]', ["a", "b"]),
        ("42", "42"),
        (" -1.50 ", "-1.50"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("It is late.", "It is late."),
        ("  two words\n", "  two words\n"),
        ('"quoted" and more', '"quoted" and more'),
        ("\N{ZERO WIDTH NO-BREAK SPACE}[1]", [1]),
        ('{"inputs": "a", "inputs": "b"}', "b"),
    ],
)
def test_a_body_that_is_no_object_is_the_inputs(body, inputs):
    assert contract.parse(body.encode(), "").inputs == inputs


@pytest.mark.parametrize(
    "body",
    [
        SIMILARITY,
        {"inputs": None, **SIMILARITY},
        {**SIMILARITY, "parameters": {"truncate": True}, "options": {"use_cache": False}},
    ],
)
def test_without_inputs_the_other_fields_of_the_object_are_the_inputs(body):
    assert contract.parse(orjson.dumps(body), "").inputs == SIMILARITY


def test_parameters_at_the_top_level_win_and_null_counts_as_absent():
    body = {
        "inputs": "a",
        "parameters": {"top_k": 1, "mode": "loud", "seed": None},
        "top_k": 2,
        "mode": None,
        "seed": None,
    }

    assert contract.parse(orjson.dumps(body), "").parameters == {"top_k": 2, "mode": "loud"}


def test_null_parameters_are_no_parameters():
    assert contract.parse(b'{"inputs": "a", "parameters": null}', "").parameters == {}


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"", "", "empty"),
        (b" \n", "application/json", "empty"),
        (b"\xff\xfe", "", "utf-8"),
        (b"{inputs: 1}", "", "not valid JSON"),
        (b" [1, 2", "text/plain", "not valid JSON"),
        (b"hello", "application/json", "not valid JSON"),
        (b"hello", "Application/JSON ; charset=utf-8", "not valid JSON"),
        (b"hello", "application/vnd.api+json", "not valid JSON"),
        (b'{"inputs": NaN}', "", "not valid JSON"),
        (b'{"inputs": 1e999}', "", "not valid JSON"),
        (b'{"inputs": "\\ud800"}', "", "not valid JSON"),
        (b"[" * 100_000, "", "not valid JSON"),
        (b'{"inputs": "a", "parameters": [1]}', "", "`parameters`: expected an object"),
        (b"{}", "", "`inputs`: required"),
        (b'{"inputs": null, "parameters": {}}', "", "`inputs`: required"),
    ],
)
def test_a_body_that_says_nothing_or_nonsense_is_refused(body, content_type, reason):
    with pytest.raises(InvalidInput, match=reason):
        contract.parse(body, content_type)


@pytest.fixture
def pipelines(served):
    return {**served("a/labels", "labels").pipelines, **served("a/embedder", "embedder").pipelines}


def test_the_first_pipeline_whose_inputs_fit_is_called(pipelines):
    candidates = [pipelines["sentence-similarity"], pipelines["feature-extraction"]]

    assert contract.bind(contract.Envelope(SIMILARITY, {}), candidates).pipeline is candidates[0]
    assert contract.bind(contract.Envelope("text", {}), candidates).pipeline is candidates[1]
    assert contract.bind(contract.Envelope(["text", "more"], {}), candidates).pipeline is candidates[1]


def test_when_no_pipeline_fits_the_first_one_says_why(pipelines):
    candidates = [pipelines["sentence-similarity"], pipelines["feature-extraction"]]

    with pytest.raises(InvalidInput, match=r"`inputs\.sentences`: expected at least one sentence"):
        contract.bind(contract.Envelope({"source_sentence": "a", "sentences": []}, {}), candidates)


def test_fields_that_the_inputs_do_not_have_are_left_out(pipelines):
    call = contract.bind(contract.Envelope({**SIMILARITY, "model": "x"}, {}), [pipelines["sentence-similarity"]])

    assert call.inputs[0].sentences == ("a", "b")


def test_inputs_nested_without_end_are_refused(pipelines):
    deep = []
    for _ in range(5000):
        deep = [deep]

    with pytest.raises(InvalidInput, match=r"expected a string.*, given \[\[\[\.\.\.\]\]\]"):
        contract.bind(contract.Envelope(deep, {}), [pipelines["text-classification"]])


def test_a_wrong_parameter_is_named(pipelines):
    with pytest.raises(InvalidInput, match=r"`parameters\.top_k`: expected a number >= 1, given 0"):
        contract.bind(contract.Envelope("a", {"top_k": 0}), [pipelines["text-classification"]])


@pytest.mark.parametrize(
    ("task", "inputs", "expected"),
    [
        ("text-classification", "a", [[{"label": "a", "score": 0.5}]]),
        ("text-classification", ["a"], [[{"label": "a", "score": 0.5}]]),
        ("text-classification", ["a", "b"], [[{"label": "a", "score": 0.5}], [{"label": "b", "score": 0.5}]]),
        ("feature-extraction", "abc", [0.0, 0.5, 1.0]),
        ("feature-extraction", ["abc"], [[0.0, 0.5, 1.0]]),
        ("sentence-similarity", SIMILARITY, [1.0, 0.0]),
        ("sentence-similarity", [SIMILARITY], [[1.0, 0.0]]),
    ],
)
def test_one_input_gives_one_result_and_a_list_a_list(pipelines, task, inputs, expected):
    call = contract.bind(contract.Envelope(inputs, {}), [pipelines[task]])

    assert orjson.loads(contract.render(call, call.pipeline.run(call.inputs, call.parameters))) == expected


@pytest.mark.parametrize("task", ["text-classification", "feature-extraction"])
def test_an_answer_with_nan_is_an_error(pipelines, task):
    call = contract.bind(contract.Envelope("nan", {}), [pipelines[task]])

    with pytest.raises(ArithmeticError, match="NaN"):
        contract.render(call, call.pipeline.run(call.inputs, call.parameters))


def test_the_word_null_in_an_answer_is_no_error(pipelines):
    call = contract.bind(contract.Envelope("null", {}), [pipelines["text-classification"]])

    assert b'"null"' in contract.render(call, call.pipeline.run(call.inputs, call.parameters))


def test_a_vector_that_is_a_view_is_rendered_like_its_copy(pipelines):
    call = contract.bind(contract.Envelope("a", {}), [pipelines["feature-extraction"]])
    answer = call.pipeline.run(call.inputs, call.parameters)
    answer.results = [np.arange(6, dtype=np.float32).reshape(2, 3).T]

    assert orjson.loads(contract.render(call, answer)) == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]


def test_characters_are_counted_in_every_string_of_the_inputs():
    inputs = ["añ", {"source_sentence": "abc", "sentences": ["d", ""], "n": 7}]
    headers = contract.input_headers(contract.Envelope(inputs, {}), Answer(elements=9), None)
    assert headers == {"x-compute-characters": "6", "x-compute-tokens": "9"}


@pytest.mark.parametrize(("inputs", "count"), [(b"PNG", "1"), ([b"PNG", b"JPG"], "2")])
def test_files_are_counted(inputs, count):
    headers = contract.input_headers(contract.Envelope(inputs, {}), Answer(elements=9), "image")
    assert headers == {"x-compute-images": count}


@pytest.mark.parametrize("content_type", ["", "image/png", "application/octet-stream"])
@pytest.mark.parametrize("body", [b"\x89PNG\r\n", b"\xff\xd8\xff", b"RIFF....WEBP", b"plain text"])
def test_a_file_is_the_body_itself(body, content_type):
    assert contract.parse_media(body, content_type) == contract.Envelope(body, {})


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        ('{"inputs": "aGk="}', b"hi"),
        ('{"image": "aGk=", "inputs": "other"}', b"hi"),
        ('{"inputs": "data:image/png;base64,aGk="}', b"hi"),
        ('{"inputs": ["aGk=", "eW8="]}', [b"hi", b"yo"]),
        ('"aGk="', b"hi"),
        (' ["aGk="]', [b"hi"]),
    ],
)
def test_json_holds_files_as_base64(body, inputs):
    assert contract.parse_media(body.encode(), "").inputs == inputs


def test_the_parameters_beside_a_file_are_read():
    body = b'{"inputs": "aGk=", "parameters": {"top_k": 2, "threshold": null}, "options": {"use_cache": false}}'
    assert contract.parse_media(body, "application/json").parameters == {"top_k": 2}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is empty"),
        (b'{"inputs": ', "not valid JSON"),
        (b'{"parameters": {}}', "`inputs`: required, but missing"),
        (b'{"inputs": "/etc/passwd"}', "`inputs`: expected base64"),
        (b'{"inputs": "http://127.0.0.1/cat.png"}', "`inputs`: expected base64"),
        (b'{"inputs": {"path": "cat.png"}}', "`inputs`: expected base64, given"),
        (b"[7]", "`inputs`: expected base64, given 7"),
    ],
)
def test_what_is_no_file_is_refused(body, message):
    with pytest.raises(InvalidInput, match=message):
        contract.parse_media(body, "")


def test_json_that_is_declared_is_not_taken_for_a_file():
    with pytest.raises(InvalidInput, match="not valid JSON"):
        contract.parse_media(b"\x89PNG", "application/json")


@given(st.binary())
def test_any_bytes_are_a_file_or_refused(body):
    try:
        envelope = contract.parse_media(body, "")
    except InvalidInput:
        return
    assert isinstance(envelope.inputs, bytes | list)


@given(st.binary())
def test_any_bytes_are_read_or_refused(body):
    try:
        envelope = contract.parse(body, "")
    except InvalidInput:
        return
    assert envelope.inputs is not None or body.strip() == b"null"


@given(st.text().filter(lambda text: text.strip()))
def test_any_text_survives_as_json_inputs(text):
    assert contract.parse(orjson.dumps({"inputs": text}), "application/json").inputs == text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked(Record):
    query: str = parameter(description="The question.", aliases=("question",))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nothing(Record):
    pass


class Echo(Pipeline[Asked, Nothing, str]):
    def preprocess(self, inputs, parameters):
        return Work([], lambda _: inputs.query)


def test_a_field_of_an_input_is_known_by_its_other_names_and_leftovers_are_dropped():
    call = contract.bind(contract.Envelope({"question": "why", "model": "x"}, {}), [Echo(None)])

    assert call.inputs == [Asked(query="why")]
