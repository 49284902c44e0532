"""The classic routes of models that write: text-generation, summarization, translation, text2text-generation."""

import pytest

from fake_writer import events_of

NUMBERS = {"inputs": "0", "parameters": {"max_new_tokens": 3}}


def test_a_text_comes_back_with_its_beginning_unless_told_otherwise(letters):
    whole = letters.post("/models/acme/letters", json={"inputs": "w"})
    new = letters.post("/models/acme/letters", json={"inputs": "w", "parameters": {"return_full_text": False}})

    assert whole.json() == [{"generated_text": "wxyz"}]
    assert new.json() == [{"generated_text": "xyz"}]
    assert whole.headers["x-compute-characters"] == "1"
    assert whole.headers["x-compute-tokens"] == "6"


@pytest.mark.parametrize("path", ["/", "/predict", "/models/letters/pipeline/text-generation"])
def test_every_classic_route_continues_texts(letters, path):
    assert letters.post(path, json={"inputs": "w"}).json() == [{"generated_text": "wxyz"}]


def test_several_texts_are_a_flat_list(letters):
    response = letters.post("/", json={"inputs": ["w", "x"]})

    assert response.json() == [{"generated_text": "wxyz"}, {"generated_text": "xyz"}]


def test_several_answers_to_one_text_are_a_list_and_to_several_texts_lists(letters):
    parameters = {"num_return_sequences": 2, "num_beams": 2, "max_new_tokens": 2}
    one = letters.post("/", json={"inputs": "w", "parameters": parameters}).json()
    two = letters.post("/", json={"inputs": ["w", "x"], "parameters": parameters}).json()

    assert [list(item) for item in one] == [["generated_text"]] * 2
    assert [len(texts) for texts in two] == [2, 2]


def test_more_inputs_than_are_written_together_are_answered_in_their_order(letters):
    response = letters.post("/", json={"inputs": ["y", "z"] * 50})

    assert response.json() == [{"generated_text": "yz"}, {"generated_text": "z"}] * 50


def test_a_text_has_a_hundred_new_tokens_when_nobody_says_how_many(letters):
    (answer,) = letters.post("/", json={"inputs": "0"}).json()

    assert len(answer["generated_text"]) == 101


@pytest.mark.parametrize(
    "body", [{**NUMBERS, "stream": True}, {**NUMBERS["parameters"], "inputs": "0", "stream": True}]
)
def test_a_stream_has_an_event_for_each_token(letters, body):
    response = letters.post("/models/letters", json=body)

    assert response.headers["content-type"] == "text/event-stream"
    assert [(item["index"], item["token"]["text"]) for item in events_of(response.text)] == [
        (1, "1"),
        (2, "2"),
        (3, "3"),
    ]
    assert [item["generated_text"] for item in events_of(response.text)] == [None, None, "0123"]
    assert all(item["details"] is None for item in events_of(response.text))


def test_a_stream_of_beams_comes_when_they_are_settled(letters):
    body = {"inputs": "w", "parameters": {"num_beams": 2}, "stream": True}
    whole = letters.post("/", json={**body, "stream": False}).json()

    assert events_of(letters.post("/", json=body).text)[-1]["generated_text"] == whole[0]["generated_text"]


def test_a_stream_takes_one_text(letters):
    response = letters.post("/", json={"inputs": ["a", "b"], "stream": True})

    assert response.status_code == 422
    assert response.json()["error"] == "Input validation error: `inputs`: expected one text as a string"


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"max_new_tokens": 0}, "`max_new_tokens` must be strictly positive"),
        ({"max_length": 501}, "`parameters.max_length`: expected an integer from 1 to 500, given 501"),
        ({"min_length": 0}, "`parameters.min_length`: expected an integer from 1 to 500, given 0"),
        ({"temperature": -1}, "`temperature` must be strictly positive"),
        ({"temperature": 101}, "`parameters.temperature`: expected a number <= 100, given 101"),
        ({"temperature": "1"}, "`parameters.temperature`: expected a number or null, given '1'"),
        ({"logit_bias": {"9999": 1}}, "`logit_bias`: expected token ids below 258"),
    ],
)
def test_wrong_parameters_of_text_generation_are_a_422(letters, parameters, error):
    response = letters.post("/", json={"inputs": "a", "parameters": parameters})

    assert response.status_code == 422
    assert response.json()["error"].startswith(f"Input validation error: {error}")
    assert response.json()["error_type"] == "validation"


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "empty"), (b"{", "not valid JSON"), (b'{"inputs": 7}', "expected a string")]
)
def test_a_wrong_body_is_a_400_as_of_other_tasks(letters, content, words):
    response = letters.post("/", content=content)

    assert response.status_code == 400
    assert words in response.json()["error"]


@pytest.mark.parametrize(
    ("task", "field"),
    [
        ("summarization", "summary_text"),
        ("translation", "translation_text"),
        ("text2text-generation", "generated_text"),
    ],
)
def test_each_task_with_an_encoder_names_its_text(echo, task, field):
    path = f"/models/acme/echo/pipeline/{task}"

    assert echo.post(path, json={"inputs": "hello"}).json() == [{field: "hello"}]
    assert echo.post(path, json={"inputs": ["one", "two"]}).json() == [{field: "one"}, {field: "two"}]


def test_each_answer_of_several_is_one_element(echo):
    parameters = {"num_beams": 2, "num_return_sequences": 2}
    answers = echo.post("/", json={"inputs": "hi", "parameters": parameters}).json()

    assert [list(answer) for answer in answers] == [["summary_text"]] * 2


@pytest.mark.parametrize("name", ["generate_parameters", "generation_parameters", "generate_kwargs"])
def test_parameters_of_generation_may_be_in_an_object_of_their_own(echo, name):
    body = {"inputs": "hello", "parameters": {"max_new_tokens": 9, name: {"max_new_tokens": 2}}}

    assert echo.post("/", json=body).json() == [{"summary_text": "he"}]


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_length": 501},
        {"max_length": 0},
        {"min_length": 0},
        {"min_length": 5, "max_length": 4},
        {"top_k": 0},
        {"top_p": 1.5},
        {"temperature": 101},
        {"repetition_penalty": 101},
        {"max_time": 121},
        {"num_return_sequences": 11},
        {"top_k": "5"},
        {"do_sample": "yes"},
        {"num_beams": 17},
        {"generate_parameters": {"num_beams": 17}},
        {"generate_parameters": {"max_length": 501}},
    ],
)
def test_the_classic_ranges_bind_the_other_tasks_with_a_400(echo, parameters):
    response = echo.post("/", json={"inputs": "hello", "parameters": parameters})

    assert response.status_code == 400
    assert response.json()["error"].startswith("`parameters.")


def test_only_text_generation_streams(echo):
    response = echo.post("/", json={"inputs": "hello", "stream": True})

    assert response.status_code == 400
    assert "only text-generation" in response.json()["error"]


def test_messages_are_answered_as_messages(writing, make_client):
    pytest.importorskip("jinja2", reason="chat templates need the chat extra")
    client = make_client(writing("acme/talk", "text-generation", "conversational", chat=True))
    message = {"role": "user", "content": "say hi;"}

    assert client.post("/", json={"inputs": [message]}).json() == [
        {"generated_text": [message, {"role": "assistant", "content": "hi"}]}
    ]


@pytest.mark.parametrize("path", ["/models/letters", "/", "/generate", "/v1/completions"])
@pytest.mark.parametrize("parameters", [{"temperature": 0}, {"top_p": 1.0, "seed": 1}])
def test_temperature_0_is_greedy_and_top_p_1_cuts_nothing_on_every_route(letters, path, parameters):
    length = {"max_tokens": 8} if path.startswith("/v1/") else {"max_new_tokens": 8}
    body = {"prompt": "0", **length, **parameters}
    if not path.startswith("/v1/"):
        body = {"inputs": "0", "parameters": {"return_full_text": False, **length, **parameters}}
    answer = letters.post(path, json=body)

    assert answer.status_code == 200
    if parameters == {"temperature": 0}:
        assert "12345678" in answer.text


@pytest.mark.parametrize("path", ["/models/letters", "/generate", "/v1/completions"])
@pytest.mark.parametrize("parameters", [{"temperature": -1}, {"top_p": 0}, {"top_p": 1.1}])
def test_a_temperature_below_0_and_a_top_p_beyond_0_to_1_are_refused_on_every_route(letters, path, parameters):
    body = {"prompt": "0", **parameters} if path.startswith("/v1/") else {"inputs": "0", "parameters": parameters}

    assert letters.post(path, json=body).status_code == 422


def test_more_new_tokens_than_250_are_written_where_the_model_holds_them(letters):
    parameters = {"max_new_tokens": 300, "return_full_text": False}
    (answer,) = letters.post("/", json={"inputs": "0", "parameters": parameters}).json()

    assert len(answer["generated_text"]) == 300
