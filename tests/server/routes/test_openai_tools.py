"""Tools in OpenAI's chat completions."""

import json

import pytest

from fake_writer import choice_of, chunks_of

CHAT = "/v1/chat/completions"
SCHEMA = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"], "additionalProperties": False}
FIND = {"type": "function", "function": {"name": "find", "parameters": SCHEMA}}
STOP = {"type": "function", "function": {"name": "stop"}}
CALL = '{"name": "find", "arguments": {"x": "y"}}'


@pytest.mark.parametrize("stream", [False, True])
def test_with_tools_an_answer_may_be_plain_text(chat, stream):
    response = chat("say hello;", tools=[FIND], stream=stream)
    if stream:
        assert "".join(item["choices"][0]["delta"].get("content", "") for item in chunks_of(response.text)) == "hello"
    else:
        assert choice_of(response)["message"] == {"role": "assistant", "content": "hello"}
        assert choice_of(response)["finish_reason"] == "stop"


@pytest.mark.parametrize("said", [CALL, f"<tool_call>\n{CALL}\n</tool_call>"])
def test_a_call_that_the_model_chose_is_one(chat, said):
    choice = choice_of(chat(f"say {said};", tools=[FIND, STOP]))

    (call,) = choice["message"]["tool_calls"]
    assert choice["message"]["content"] is None
    assert choice["finish_reason"] == "tool_calls"
    assert (call["type"], call["function"]) == ("function", {"name": "find", "arguments": '{"x": "y"}'})
    (chunk,) = [
        item["choices"][0]
        for item in chunks_of(chat(f"say {said};", tools=[FIND], stream=True).text)
        if item["choices"][0]["delta"].get("tool_calls")
    ]
    assert chunk["delta"]["tool_calls"][0]["function"] == call["function"]


@pytest.mark.parametrize("choice", ["required", "find", {"type": "function", "function": {"name": "find"}}])
def test_a_call_that_is_required_is_made(chat, grammars, choice):
    answer = choice_of(chat("hi", tools=[FIND, STOP] if choice != "required" else [FIND], tool_choice=choice))

    (call,) = answer["message"]["tool_calls"]
    assert answer["finish_reason"] == "tool_calls"
    assert call["function"]["name"] == "find"
    assert json.loads(call["function"]["arguments"]) == {"x": ""}


def test_a_required_call_may_be_of_any_function(chat, grammars):
    (call,) = choice_of(chat("hi", tools=[STOP, FIND], tool_choice="required"))["message"]["tool_calls"]

    assert call["function"]["name"] in ("find", "stop")


def test_the_arguments_of_a_required_call_come_as_they_are_written(chat, grammars):
    chunks = chunks_of(chat("hi", tools=[FIND], tool_choice="required", stream=True).text)
    parts = [part for chunk in chunks for part in chunk["choices"][0]["delta"].get("tool_calls", ())]

    assert parts[0]["function"] == {"name": "find", "arguments": ""}
    assert parts[0]["id"].startswith("call_")
    assert len(parts) > 3
    assert json.loads("".join(part["function"]["arguments"] for part in parts)) == {"x": ""}
    assert all("id" not in part for part in parts[1:])
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_required_call_that_is_cut_says_so(chat, grammars):
    whole = chat("hi", tools=[FIND], tool_choice="required").json()["usage"]["completion_tokens"]
    answer = choice_of(chat("hi", tools=[FIND], tool_choice="required", max_tokens=whole - 4))

    assert answer["finish_reason"] == "length"
    assert answer["message"]["tool_calls"][0]["function"]["arguments"].startswith("{")


def test_tools_that_are_not_to_be_used_are_not_told_of(chat):
    without = chat("say hi;").json()["usage"]["prompt_tokens"]

    assert chat("say hi;", tools=[FIND], tool_choice="none").json()["usage"]["prompt_tokens"] == without
    assert chat("say hi;", tools=[FIND]).json()["usage"]["prompt_tokens"] > without


def test_a_template_that_knows_no_tools_has_them_in_the_words_of_the_user(writing, make_client):
    pytest.importorskip("jinja2", reason="chat templates need the chat extra")
    template = "{% for message in messages %}{{ message.content }}{% endfor %}assistant: "
    client = make_client(writing("acme/simple", "text-generation", chat=template))
    body = {"messages": [{"role": "user", "content": f"say {CALL};"}], "tools": [FIND]}
    answer = client.post(CHAT, json=body).json()

    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert answer["usage"]["prompt_tokens"] > len(json.dumps(FIND))


def test_a_conversation_with_calls_goes_on(chat, letters):
    call = {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": '{"x": "y"}'}}
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "say found;"},
    ]

    assert letters.post(CHAT, json={"messages": messages}).json()["choices"][0]["message"]["content"] == "found"
