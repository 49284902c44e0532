import json

import pytest

from fake_writer import choice_of, chunks_of

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
SCHEMA = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"], "additionalProperties": False}
FIND = {"type": "function", "function": {"name": "find", "parameters": SCHEMA}}


def test_an_answer_has_every_field_that_clients_read(chat, letters_model):
    answer = chat("say hello;").json()

    assert answer["id"].startswith("chatcmpl-")
    assert answer["system_fingerprint"].startswith("onnxpipe-")
    assert {name: answer[name] for name in ("object", "model")} == {
        "object": "chat.completion",
        "model": "acme/letters",
    }
    assert isinstance(answer["created"], int)
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "hello"},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    prompt = len("user: say hello;\nassistant: ")
    assert answer["usage"] == {"prompt_tokens": prompt, "completion_tokens": 6, "total_tokens": prompt + 6}


@pytest.mark.parametrize(
    "path", [CHAT, "/models/letters" + CHAT, "/models/acme/letters" + CHAT, "/models/acme%2Fletters" + CHAT]
)
def test_a_model_chats_under_each_of_its_routes(chat, path):
    assert choice_of(chat("say hi;", path=path, model="whatever" if "models" in path else None))["message"] == {
        "role": "assistant",
        "content": "hi",
    }


@pytest.mark.parametrize(
    "model", ["acme/letters", "letters", None, "", "tgi", "dummy", "http://localhost:8000/models/x"]
)
def test_the_default_model_has_many_names(chat, model):
    assert chat("say hi;", model=model).status_code == 200


def test_an_unknown_model_is_a_404(chat):
    response = chat("hi", model="gpt-4")

    assert response.status_code == 404
    error = response.json()["error"]
    assert (error["code"], error["message"]) == ("model_not_found", "Model gpt-4 does not exist")


def test_several_models_that_chat_want_a_name(writing, letters_model, make_client):
    client = make_client(letters_model, writing("acme/twin", "text-generation", chat=True))
    response = client.post(CHAT, json={"messages": [{"role": "user", "content": "say hi;"}]})

    assert response.status_code == 422
    assert response.json()["error"]["param"] == "model"


def test_of_several_models_the_one_that_chats_is_the_default(chat, writing, letters_model, make_client):
    client = make_client(writing("acme/plain", "text-generation"), letters_model)

    assert (
        client.post(CHAT, json={"messages": [{"role": "user", "content": "say hi;"}]}).json()["model"] == "acme/letters"
    )


def test_a_model_without_a_template_says_so(writing, make_client):
    client = make_client(writing("acme/mute", "text-generation"))
    for path in (CHAT, "/models/mute" + CHAT):
        response = client.post(path, json={"messages": [{"role": "user", "content": "hi"}]})
        assert response.status_code == 422
        assert response.json()["error"]["code"] == "template_error"
        assert "acme/mute" in response.json()["error"]["message"]


def test_messages_that_the_template_refuses_are_a_template_error(writing, make_client):
    pytest.importorskip("jinja2", reason="chat templates need the chat extra")
    template = "{{ raise_exception('roles must alternate') }}"
    client = make_client(writing("acme/strict", "text-generation", chat=template))
    response = client.post(CHAT, json={"messages": [{"role": "user", "content": "hi"}]})

    assert response.status_code == 422
    error = response.json()["error"]
    assert error["code"] == "template_error"
    assert "roles must alternate" in error["message"]


def test_content_may_be_parts_of_text(chat):
    parts = [{"type": "text", "text": "say "}, {"type": "text", "text": "hi;"}]

    assert choice_of(chat(parts))["message"]["content"] == "hi"
    refused = chat([{"type": "image_url", "image_url": {"url": "http://x/y.png"}}])
    assert refused.status_code == 422
    assert "text only" in refused.json()["error"]["message"]


@pytest.mark.parametrize("stop", ["ll", ["x", "llo"]])
def test_an_answer_ends_before_a_stop_string(chat, stop):
    choice = choice_of(chat("say hello;", stop=stop))

    assert (choice["message"]["content"], choice["finish_reason"]) == ("he", "stop")
    streamed = chunks_of(chat("say hello;", stop=stop, stream=True).text)
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in streamed) == "he"


def test_an_answer_that_is_cut_says_so(chat):
    choice = choice_of(chat("say hello;", max_tokens=2))

    assert (choice["message"]["content"], choice["finish_reason"]) == ("he", "length")


def test_log_probabilities_spell_the_answer(chat):
    told = choice_of(chat("say é!;", logprobs=True, top_logprobs=2))["logprobs"]["content"]

    assert bytes(byte for token in told for byte in token["bytes"]).decode() == "é!"
    assert told[2]["token"] == "!"
    assert all(len(token["top_logprobs"]) == 2 for token in told)
    assert told[2]["top_logprobs"][0] == {name: told[2][name] for name in ("token", "logprob", "bytes")}
    assert choice_of(chat("say é!;", logprobs=True))["logprobs"]["content"][0]["top_logprobs"] == []


def test_several_answers_have_numbers(chat):
    answer = chat("say hello;", n=3, temperature=0.1, seed=1).json()

    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert answer["usage"]["completion_tokens"] >= 18


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"logprobs": True, "top_logprobs": 20}, 200),
        ({"logprobs": True, "top_logprobs": 21}, 422),
        ({"n": 4, "seed": 1}, 200),
        ({"n": 5}, 422),
        ({"n": 0}, 422),
    ],
)
def test_there_are_up_to_20_likeliest_tokens_and_4_answers(chat, options, status):
    assert chat("say a;", **options).status_code == status


def test_a_stream_is_the_answer_in_pieces(chat):
    response = chat("say hello;", stream=True)
    chunks = chunks_of(response.text)

    assert response.headers["content-type"] == "text/event-stream"
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["system_fingerprint"]) for chunk in chunks}) == 1
    assert all(chunk["object"] == "chat.completion.chunk" and chunk["usage"] is None for chunk in chunks)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content", "") for delta in deltas) == "hello"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 6 + ["stop"]


def test_a_stream_tells_its_usage_where_that_is_asked_for(chat):
    whole = chat("say hello;").json()
    chunks = chunks_of(chat("say hello;", stream=True, stream_options={"include_usage": True}).text)

    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == whole["usage"]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


def test_a_stream_has_the_same_log_probabilities(chat):
    whole = choice_of(chat("say é!;", logprobs=True, top_logprobs=1))["logprobs"]["content"]
    chunks = chunks_of(chat("say é!;", logprobs=True, top_logprobs=1, stream=True).text)
    told = [chunk["choices"][0]["logprobs"] for chunk in chunks]

    assert [token for part in told if part for token in part["content"]] == whole


def test_a_stream_of_several_answers_tells_them_apart_by_number(chat):
    chunks = chunks_of(chat("say hello;", n=2, temperature=0.01, stream=True).text)
    texts = {0: "", 1: ""}
    for chunk in chunks:
        (choice,) = chunk["choices"]
        texts[choice["index"]] += choice["delta"].get("content", "")

    assert texts == {0: "hello", 1: "hello"}


@pytest.mark.parametrize(
    "form",
    [
        {"type": "json_object"},
        {"type": "json_object", "value": SCHEMA},
        {"type": "json", "value": SCHEMA},
        {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
        {"type": "json_schema", "value": {"name": "n", "schema": SCHEMA}},
    ],
)
def test_an_answer_follows_a_format(chat, grammars, form):
    content = choice_of(chat("hi", response_format=form))["message"]["content"]

    assert set(json.loads(content)) == ({"x"} if form != {"type": "json_object"} else set())


def test_an_answer_follows_an_expression_or_nothing(chat, grammars):
    assert choice_of(chat("hi", response_format={"type": "regex", "value": "yes|no"}))["message"]["content"] in (
        "yes",
        "no",
    )
    assert choice_of(chat("say hi;", response_format={"type": "text"}))["message"]["content"] == "hi"


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "nobody", "content": "a"}]}, "messages[0].role"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"tools": [FIND], "tool_choice": "search"}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"tools": [FIND], "response_format": {"type": "json_object"}}, None),
        ({"max_tokens": 5000}, None),
        ({"stream": True, "best_of": 2, "do_sample": True}, None),
        ({"logit_bias": {"9999": 1}}, "logit_bias"),
        ({"n": 2, "temperature": 0}, "num_return_sequences"),
    ],
)
def test_an_error_is_an_object_with_a_status(chat, options, param):
    response = chat("hi", **options)

    assert response.status_code == 422
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code", "http_status_code"}
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "validation", param)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_body_that_is_no_object_is_a_422(letters, content):
    response = letters.post(CHAT, content=content)

    assert response.status_code == 422
    assert response.json()["error"]["code"] == "validation"


def test_a_body_over_the_limit_is_a_413_in_the_same_form(letters_model, make_client):
    response = make_client(letters_model, max_body_bytes=100).post(COMPLETIONS, json={"prompt": "a" * 200})

    assert response.status_code == 413
    assert response.json()["error"]["code"] == "too_large"


def test_the_models_are_listed_and_shown(letters):
    listed = letters.get("/v1/models").json()

    assert listed["object"] == "list"
    (model,) = listed["data"]
    assert model == {"id": "acme/letters", "object": "model", "created": model["created"], "owned_by": "acme"}
    assert letters.get("/v1/models/acme/letters").json() == model
    assert letters.get("/v1/models/nobody").json()["error"]["code"] == "model_not_found"
