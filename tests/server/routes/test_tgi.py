import json

import pytest

from fake_writer import EOS, events_of

SAMPLED = {"do_sample": True, "max_new_tokens": 5}


def generate(client, parameters=None, inputs="w", path="/generate"):
    return client.post(path, json={"inputs": inputs, "parameters": parameters})


def test_an_answer_is_one_object_without_its_beginning(letters):
    response = generate(letters)

    assert response.json() == {"generated_text": "xyz"}
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-compute-type"] == "cpu"
    assert response.headers["x-compute-characters"] == "1"
    assert response.headers["x-prompt-tokens"] == "2"
    assert response.headers["x-generated-tokens"] == "4"
    assert response.headers["x-sha"] == "abc123"
    for name in ("x-total-time", "x-validation-time", "x-queue-time", "x-inference-time", "x-time-per-token"):
        assert response.headers[name].isdecimal(), name
    assert len(response.headers["x-compute-time"].partition(".")[2]) == 3


def test_the_beginning_comes_where_it_is_asked_for(letters):
    assert generate(letters, {"return_full_text": True}).json() == {"generated_text": "wxyz"}


def test_details_tell_of_every_token(letters):
    details = generate(letters, {"details": True}).json()["details"]

    assert (details["finish_reason"], details["generated_tokens"], details["seed"]) == ("eos_token", 4, None)
    assert details["prefill"] == []
    assert [(token["id"], token["text"], token["special"]) for token in details["tokens"]] == [
        (120, "x", False),
        (121, "y", False),
        (122, "z", False),
        (EOS, "</s>", True),
    ]
    assert all(token["logprob"] < 0 for token in details["tokens"])
    assert "top_tokens" not in details
    assert "best_of_sequences" not in details


def test_details_of_the_input_begin_without_a_log_probability(letters):
    prefill = generate(letters, {"decoder_input_details": True}, "ab").json()["details"]["prefill"]

    assert [(token["id"], token["text"]) for token in prefill] == [(256, "<s>"), (97, "a"), (98, "b")]
    assert prefill[0]["logprob"] is None
    assert all(token["logprob"] < 0 for token in prefill[1:])


def test_the_likeliest_tokens_are_told_at_each_place(letters):
    details = generate(letters, {"details": True, "top_n_tokens": 2}).json()["details"]

    assert [[token["text"] for token in top] for top in details["top_tokens"]][:2] == [["x", "}"], ["y", "}"]]


def test_the_best_of_several_comes_with_those_that_lost(letters):
    details = generate(letters, {**SAMPLED, "details": True, "best_of": 2}).json()["details"]

    (loser,) = details["best_of_sequences"]
    assert set(loser) == {"generated_text", "finish_reason", "generated_tokens", "seed", "prefill", "tokens"}


@pytest.mark.parametrize(
    ("parameters", "text", "reason"),
    [
        ({"max_new_tokens": 2}, "xy", "length"),
        ({"stop": ["y"]}, "xy", "stop_sequence"),
        ({"stop": ["yz", "q"]}, "xyz", "stop_sequence"),
        ({}, "xyz", "eos_token"),
    ],
)
def test_a_text_ends_for_a_reason(letters, parameters, text, reason):
    answer = generate(letters, {**parameters, "details": True}).json()

    assert (answer["generated_text"], answer["details"]["finish_reason"]) == (text, reason)


def test_the_same_seed_draws_the_same_text_alone_and_in_a_stream(letters):
    parameters = {**SAMPLED, "seed": 7, "temperature": 5.0, "details": True}
    first, second = (generate(letters, parameters).json() for _ in range(2))
    stream = events_of(generate(letters, parameters, path="/generate_stream").text)

    assert first == second
    assert first["details"]["seed"] == 7
    assert stream[-1]["generated_text"] == first["generated_text"]
    assert [item["token"]["id"] for item in stream] == [token["id"] for token in first["details"]["tokens"]]


def test_a_stream_has_an_event_for_each_token_and_ends_with_the_text(letters):
    response = generate(letters, {"details": True, "top_n_tokens": 1}, path="/generate_stream")

    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["x-prompt-tokens"] == "2"
    *others, last = events_of(response.text)
    assert [list(item) for item in others] == [["index", "token", "top_tokens", "generated_text", "details"]] * 3
    assert [item["index"] for item in others] == [1, 2, 3]
    assert all(item["generated_text"] is None and item["details"] is None for item in others)
    assert last["token"] == {"id": EOS, "text": "</s>", "logprob": last["token"]["logprob"], "special": True}
    assert last["generated_text"] == "xyz"
    assert last["details"] == {"finish_reason": "eos_token", "generated_tokens": 4, "seed": None, "input_length": 2}


def test_a_stream_without_details_has_log_probabilities_all_the_same(letters):
    events = events_of(generate(letters, path="/generate_stream").text)

    assert all(item["token"]["logprob"] < 0 and "top_tokens" not in item for item in events)
    assert events[-1]["details"] is None


def test_half_a_character_waits_for_its_other_half(letters):
    events = events_of(generate(letters, inputs="say é!;", path="/generate_stream").text)

    assert [item["token"]["text"] for item in events] == ["", "é", "!", "</s>"]
    assert events[-1]["generated_text"] == "é!"


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"best_of": 3, **SAMPLED}, "`best_of` must be > 0 and <= 2. Given: 3"),
        ({"best_of": 0}, "`best_of` must be > 0 and <= 2. Given: 0"),
        ({"best_of": 2}, "you must use sampling when `best_of` is > 1"),
        ({"best_of": 2, "do_sample": False, "top_k": 5}, "you must use sampling when `best_of` is > 1"),
        ({"best_of": 2, "seed": 1, **SAMPLED}, "`seed` must not be set when `best_of` > 1"),
        ({"top_n_tokens": 6}, "`top_n_tokens` must be >= 0 and <= 5. Given: 6"),
        ({"top_n_tokens": -1}, "`top_n_tokens` must be >= 0 and <= 5. Given: -1"),
        ({"temperature": -0.5}, "`temperature` must be strictly positive"),
        ({"repetition_penalty": 0}, "`repetition_penalty` must be strictly positive"),
        ({"frequency_penalty": 2.5}, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
        ({"top_k": 0}, "`top_k` must be strictly positive"),
        ({"top_p": 0}, "`top_p` must be > 0.0 and <= 1.0"),
        ({"typical_p": 1.5}, "`typical_p` must be > 0.0 and <= 1.0"),
        ({"max_new_tokens": 0}, "`max_new_tokens` must be strictly positive"),
        ({"truncate": 0}, "`truncate` must be strictly positive. Given: 0"),
        ({"truncate": 512}, "`truncate` must be strictly positive and less than 512. Given: 512"),
        ({"stop": ["a"] * 5}, "`stop` supports up to 4 stop sequences. Given: 5"),
        ({"num_beams": 17}, "`num_beams` must be > 0 and <= 16. Given: 17"),
        (
            {"max_new_tokens": 511},
            "`inputs` tokens + `max_new_tokens` must be <= 512. Given: 2 `inputs` tokens and 511 `max_new_tokens`",
        ),
        ({"grammar": {"type": "xml"}}, "grammar is not valid: `grammar.type`: expected one of"),
        ({"grammar": {"type": "json", "value": "{"}}, "grammar is not valid: `grammar.value`: expected a JSON Schema"),
        ({"adapter_id": "x"}, "`parameters.adapter_id`: no adapters are served here"),
        ({"temperature": 101}, "`parameters.temperature`: expected a number <= 100, given 101"),
        ({"seed": "7"}, "`parameters.seed`: expected an integer or null, given '7'"),
    ],
)
def test_what_is_wrong_is_said_in_the_words_that_clients_know(letters, parameters, error):
    # /models/letters cuts what is too long
    fits = not ({"truncate": 512}.items() <= parameters.items() or parameters.get("max_new_tokens") == 511)
    for path in ("/generate", "/generate_stream", *(["/models/letters"] if fits else [])):
        response = generate(letters, parameters, path=path)
        assert response.status_code == 422, path
        assert response.json()["error"].startswith(f"Input validation error: {error}")
        assert response.json()["error_type"] == "validation"


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"best_of": 2, **SAMPLED}, "`best_of` != 1 is not supported when streaming tokens"),
        ({"decoder_input_details": True}, "`decoder_input_details` == true is not supported when streaming tokens"),
    ],
)
def test_what_a_stream_cannot_have_is_said_before_it_begins(letters, parameters, error):
    response = generate(letters, parameters, path="/generate_stream")

    assert response.status_code == 422
    assert response.json() == {"error": f"Input validation error: {error}", "error_type": "validation"}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"inputs": ""}, "`inputs` cannot be empty"),
        ({"inputs": 7}, "`inputs`: expected one text"),
        ({"inputs": ["a"]}, "`inputs`: expected one text"),
        ({"parameters": {}}, "`inputs`: required"),
        ({"inputs": "a" * 600}, "`inputs` must have less than 512 tokens. Given: 601"),
        ({"inputs": "a", "parameters": 7}, "`parameters`: expected an object"),
    ],
)
def test_wrong_inputs_are_a_422(letters, body, error):
    response = letters.post("/generate", content=json.dumps(body))

    assert response.status_code == 422
    assert response.json()["error"].startswith(f"Input validation error: {error}")


def test_a_body_that_is_not_json_is_taken_as_the_text(letters):
    assert letters.post("/generate", content="w").json() == {"generated_text": "xyz"}


def test_truncate_keeps_the_end_and_says_how_much_was_cut(letters):
    response = generate(letters, {"truncate": 1}, "abcw")

    assert response.json() == {"generated_text": "xyz"}
    assert response.headers["x-truncated"] == "4"
    assert response.headers["x-prompt-tokens"] == "1"


def test_null_counts_as_absent(letters):
    names = ("best_of", "temperature", "stop", "seed", "grammar", "max_new_tokens", "details", "return_full_text")

    assert generate(letters, dict.fromkeys(names)).json() == {"generated_text": "xyz"}


def test_without_a_length_the_text_fills_the_model_or_what_the_server_allows(letters, letters_model, make_client):
    small = make_client(letters_model, max_new_tokens=20)

    assert len(generate(letters, inputs="0").json()["generated_text"]) == 510
    assert len(generate(small, inputs="0").json()["generated_text"]) == 20
    assert len(generate(small, {"max_new_tokens": 30}, inputs="0").json()["generated_text"]) == 30


@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        ({"type": "json", "value": {"properties": {"a": {"type": "string"}}, "required": ["a"]}}, '{"a":""}'),
        ({"type": "json", "value": '{"const": "there"}'}, '"there"'),
        ({"type": "json_schema", "value": {"name": "it", "schema": {"const": "it"}}}, '"it"'),
        ({"type": "regex", "value": "[0-9]{3}"}, "123"),
    ],
)
def test_a_grammar_is_followed(letters, grammar, text):
    pytest.importorskip("llguidance", reason="grammars need the chat extra")

    assert generate(letters, {"grammar": grammar, "max_new_tokens": 40}).json() == {"generated_text": text}


def test_a_grammar_that_cannot_be_followed_is_a_422(letters):
    pytest.importorskip("llguidance", reason="grammars need the chat extra")
    response = generate(letters, {"grammar": {"type": "regex", "value": "("}})

    assert response.status_code == 422
    assert response.json()["error"].startswith("Input validation error: the grammar cannot be used")


def test_of_several_models_the_body_names_one(letters_model, writing, served, make_client):
    other = writing("acme/others", "text-generation")
    one = make_client(letters_model, served("acme/labels", "labels"))
    two = make_client(letters_model, other)
    body = {"inputs": "w"}

    assert one.post("/generate", json=body).status_code == 200
    assert one.post("/generate", json={**body, "model": "tgi"}).status_code == 200
    refused = two.post("/generate", json=body)
    assert refused.status_code == 422
    assert "acme/letters, acme/others" in refused.json()["error"]
    assert two.post("/generate", json={**body, "model": "others"}).status_code == 200
    assert two.post("/generate", json={**body, "model": "nobody"}).status_code == 404
    wrong = one.post("/generate", json={**body, "model": "acme/labels"})
    assert wrong.status_code == 422
    assert "acme/labels does not continue texts" in wrong.json()["error"]


def test_without_a_model_that_writes_the_answer_says_so(labels):
    response = labels.post("/generate", json={"inputs": "a"})

    assert response.status_code == 422
    assert "no model that writes texts" in response.json()["error"]


def test_a_model_that_fails_is_a_424(letters_model, make_client, monkeypatch):
    from onnxpipe.errors import BundleError

    def fail(*_, **__):
        raise BundleError("damaged")

    monkeypatch.setattr(type(letters_model.generator), "compose", fail)
    response = make_client(letters_model).post("/generate", json={"inputs": "a"})

    assert response.status_code == 424
    assert response.json() == {"error": "Request failed during generation: damaged", "error_type": "generation"}


def test_info_describes_the_model_and_its_limits(letters, letters_model, served, make_client):
    info = letters.get("/info").json()

    assert (
        info.items()
        >= {
            "model_id": "acme/letters",
            "model_sha": "abc123",
            "model_pipeline_tag": "text-generation",
            "models": ["acme/letters"],
            "max_concurrent_requests": 32,
            "max_best_of": 2,
            "max_stop_sequences": 4,
            "max_input_tokens": 511,
            "max_total_tokens": 512,
            "max_client_batch_size": 1,
            "router": "onnxpipe",
            "sha": None,
            "docker_label": None,
        }.items()
    )
    assert {"validation_workers", "version"} < info.keys()
    assert letters.get("/models/acme/letters/info").json() == info
    several = make_client(letters_model, served("acme/labels", "labels"))
    assert several.get("/info").json()["models"] == ["acme/letters", "acme/labels"]


class TestEncoders:
    def test_the_answer_is_about_the_text_and_never_repeats_it(self, echo):
        response = generate(echo, {"return_full_text": True}, "hello")

        assert response.json() == {"generated_text": "hello"}
        assert response.headers["x-prompt-tokens"] == "6"
        assert response.headers["x-generated-tokens"] == "6"

    def test_the_input_in_details_is_what_the_decoder_begins_with(self, echo):
        parameters = {"decoder_input_details": True, "top_n_tokens": 2}
        details = generate(echo, parameters, "hi").json()["details"]

        assert [(token["id"], token["logprob"]) for token in details["prefill"]] == [(256, None)]
        assert [token["text"] for token in details["tokens"]] == ["h", "i", "</s>"]
        assert [len(top) for top in details["top_tokens"]] == [2, 2, 2]

    def test_a_stream_tells_the_length_of_the_text_that_was_read(self, echo):
        response = generate(echo, {"details": True, "return_full_text": True}, "hello", "/generate_stream")

        *tokens, last = events_of(response.text)
        assert [token["token"]["text"] for token in tokens] == list("hello")
        assert (last["generated_text"], last["details"]["input_length"]) == ("hello", 6)

    def test_the_last_tokens_of_the_text_stay_behind_those_that_begin_it(self, echo):
        response = generate(echo, {"truncate": 3}, "hello")

        assert response.json() == {"generated_text": "lo"}
        assert response.headers["x-truncated"] == "3"

    def test_the_models_own_beams_are_left_out_so_that_tokens_can_be_told(self, writing, make_client):
        client = make_client(writing("acme/beams", "summarization", encoder=True, num_beams=3))

        assert len(events_of(generate(client, None, "hi", "/generate_stream").text)) == 3
        drawn = generate(client, {**SAMPLED, "best_of": 2, "details": True}, "hi").json()
        assert len(drawn["details"]["best_of_sequences"]) == 1

    def test_an_answer_ends_where_the_decoder_does(self, writing, make_client):
        client = make_client(writing("acme/short", "summarization", encoder=True, max_length=4))

        assert generate(client, None, "hello").json() == {"generated_text": "hel"}

    def test_models_that_continue_texts_come_first(self, letters_model, writing, make_client):
        client = make_client(writing("acme/echo-too", "summarization", encoder=True), letters_model)

        assert generate(client).json() == {"generated_text": "xyz"}
        named = client.post("/generate", json={"inputs": "w", "model": "echo-too"})
        assert named.json() == {"generated_text": "w"}

    def test_completions_are_about_their_prompts(self, echo):
        body = {"prompt": ["hi", "ho"], "max_tokens": 8}
        response = echo.post("/v1/completions", json=body).json()

        assert [choice["text"] for choice in response["choices"]] == ["hi", "ho"]
        assert response["usage"] == {"prompt_tokens": 6, "completion_tokens": 6, "total_tokens": 12}

    def test_messages_have_no_template(self, echo):
        pytest.importorskip("jinja2", reason="chat templates need the chat extra")
        response = echo.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "a"}]})

        assert response.status_code == 422
        assert "no chat template" in response.json()["error"]["message"]

    def test_info_tells_what_fits(self, echo):
        info = echo.get("/info").json()

        assert (info["max_input_tokens"], info["max_total_tokens"]) == (None, None)
