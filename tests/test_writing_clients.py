"""Models that write through the official clients of OpenAI and Hugging Face, unmodified, over real connections.

The models are fakes (`fake_writer`): what is tested is that clients and server understand each other. The export
environment has huggingface_hub 0.36, the lean one 2.x: `make test` runs both.
"""

import json
import time
from collections.abc import Iterator

import httpx
import pytest

pytest.importorskip("fastapi", reason="needs the server extra")

from awaiting import client_of
from fake_writer import make_writing, writer_of
from onnxpipe_server.app import create_app
from onnxpipe_server.models import Models
from onnxpipe_server.settings import Settings
from serving import serving_app

huggingface_hub = pytest.importorskip("huggingface_hub", reason="its client asks the questions")

SCHEMA = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"], "additionalProperties": False}
FIND = {"type": "function", "function": {"name": "find", "description": "Finds.", "parameters": SCHEMA}}
CALL = '{"name": "find", "arguments": {"x": "y"}}'
HELLO = [{"role": "user", "content": "say hello;"}]
ASK = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    return make_writing(tmp_path_factory.mktemp("models"), "acme/letters", "text-generation", chat=True)


@pytest.fixture(scope="module")
def url(tmp_path_factory, letters) -> Iterator[str]:
    tasks = ("summarization", "translation", "text2text-generation")
    echo = make_writing(tmp_path_factory.mktemp("models"), "acme/echo", *tasks, encoder=True)
    with serving_app(create_app(Models([letters, echo]), Settings())) as address:
        yield address
    assert writer_of(letters).idle


@pytest.fixture(params=["sync", "async"])
def hub(request, url):
    """The client of the model, of either kind."""
    return client_of(request.param)(model=f"{url}/models/acme/letters")


@pytest.fixture
def openai(url):
    library = pytest.importorskip("openai", reason="its client asks the questions")
    pytest.importorskip("jinja2", reason="chat templates need the chat extra")
    with library.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def grammars():
    pytest.importorskip("llguidance", reason="grammars need the chat extra")


@pytest.fixture
def chat():
    pytest.importorskip("jinja2", reason="chat templates need the chat extra")


class TestHub:
    def test_text_generation(self, hub):
        assert hub.text_generation("w") == "wxyz"
        assert hub.text_generation("w", return_full_text=False, max_new_tokens=2) == "xy"

    def test_text_generation_with_details(self, hub):
        options = {"details": True, "decoder_input_details": True, "return_full_text": False, "top_n_tokens": 2}
        answer = hub.text_generation("w", **options)

        assert (answer.generated_text, answer.details.finish_reason) == ("xyz", "eos_token")
        assert [token.text for token in answer.details.tokens] == ["x", "y", "z", "</s>"]
        assert [token.text for token in answer.details.prefill] == ["<s>", "w"]
        # the client leaves these as they come
        assert [top[0]["text"] for top in answer.details.top_tokens] == ["x", "y", "z", "</s>"]

    def test_text_generation_best_of(self, hub):
        answer = hub.text_generation("w", best_of=2, do_sample=True, details=True, max_new_tokens=3)

        assert len(answer.details.best_of_sequences) == 1

    def test_text_generation_as_a_stream(self, hub):
        assert list(hub.text_generation("w", stream=True)) == ["x", "y", "z", "</s>"]
        *_, last = hub.text_generation("w", stream=True, details=True, return_full_text=False)
        assert (last.generated_text, last.details.generated_tokens, last.index) == ("xyz", 4, 4)

    def test_text_generation_with_a_grammar(self, hub, grammars):
        grammar = {"type": "regex", "value": "[0-9]{3}"}
        assert hub.text_generation("w", grammar=grammar, return_full_text=False) == "123"

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_wrong_parameter_is_a_validation_error(self, hub, stream):
        with pytest.raises(huggingface_hub.errors.ValidationError, match="Input validation error: `temperature` must"):
            list(hub.text_generation("w", temperature=-1.0, stream=stream))

    def test_chat_completion(self, hub, chat):
        answer = hub.chat_completion(HELLO, logprobs=True, top_logprobs=1)

        assert answer.choices[0].message.content == "hello"
        assert answer.choices[0].finish_reason == "stop"
        assert "".join(item.token for item in answer.choices[0].logprobs.content) == "hello"
        assert answer.usage.completion_tokens == 6

    def test_chat_completion_as_a_stream(self, hub, chat):
        chunks = list(hub.chat_completion(HELLO, stream=True, stream_options={"include_usage": True}))

        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "hello"
        assert chunks[-1].usage.completion_tokens == 6

    def test_chat_completion_through_the_openai_face(self, url, chat):
        client = huggingface_hub.InferenceClient(base_url=f"{url}/v1")

        assert client.chat.completions.create(messages=HELLO, model="letters").choices[0].message.content == "hello"

    @pytest.mark.parametrize("stream", [False, True])
    def test_chat_completion_with_tools(self, hub, chat, grammars, stream):
        answer = hub.chat_completion(ASK, tools=[FIND], tool_choice="required", stream=stream)
        if stream:
            parts = [chunk.choices[0].delta.tool_calls for chunk in answer]
            arguments = "".join(part[0].function.arguments for part in parts if part)
        else:
            arguments = answer.choices[0].message.tool_calls[0].function.arguments
            assert answer.choices[0].finish_reason == "tool_calls"
        assert json.loads(arguments) == {"x": ""}

    @pytest.mark.parametrize(
        "form",
        [{"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}, {"type": "json", "value": SCHEMA}],
    )
    def test_chat_completion_in_a_format(self, hub, chat, grammars, form):
        answer = hub.chat_completion(ASK, response_format=form)

        assert json.loads(answer.choices[0].message.content) == {"x": ""}

    def test_an_error_of_chat_is_told(self, hub, chat):
        # the asynchronous client of 0.36 lets aiohttp's own error through, which has the status alone
        with pytest.raises(Exception, match=r"`messages`|422, message='Unprocessable Entity'"):
            hub.chat_completion([])

    def test_summarization_and_translation(self, url):
        client = huggingface_hub.InferenceClient(model=f"{url}/models/acme/echo")
        assert client.summarization("hello").summary_text == "hello"
        translate = huggingface_hub.InferenceClient(model=f"{url}/models/acme/echo/pipeline/translation")
        assert translate.translation("hello").translation_text == "hello"


class TestOpenAI:
    def test_chat(self, openai):
        answer = openai.chat.completions.create(
            model="acme/letters", messages=HELLO, logprobs=True, top_logprobs=2, n=2, temperature=0.01, seed=-3
        )

        assert [choice.message.content for choice in answer.choices] == ["hello", "hello"]
        assert answer.choices[1].logprobs.content[0].top_logprobs[0].token == "h"
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12

    def test_chat_as_a_stream(self, openai):
        options = {"stream": True, "stream_options": {"include_usage": True}}
        chunks = list(openai.chat.completions.create(model="dummy", messages=HELLO, **options))

        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "hello"
        assert chunks[-2].choices[0].finish_reason == "stop"
        assert chunks[-1].usage.completion_tokens == 6

    def test_stop_is_left_out(self, openai):
        answer = openai.chat.completions.create(model="dummy", messages=HELLO, stop="l")

        assert answer.choices[0].message.content == "he"

    def test_a_tool_that_the_model_chose(self, openai):
        messages = [{"role": "user", "content": f"say {CALL};"}]
        answer = openai.chat.completions.create(model="dummy", messages=messages, tools=[FIND])

        (call,) = answer.choices[0].message.tool_calls
        assert (call.function.name, call.function.arguments) == ("find", '{"x": "y"}')
        messages += [answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "say so;"}]
        assert openai.chat.completions.create(model="dummy", messages=messages, tools=[FIND]).choices

    def test_a_tool_that_is_required_in_a_stream(self, openai, grammars):
        choice = {"type": "function", "function": {"name": "find"}}
        options = {"messages": ASK, "tools": [FIND], "tool_choice": choice}
        with openai.chat.completions.stream(model="dummy", **options) as stream:
            for _ in stream:
                pass
            answer = stream.get_final_completion()

        assert json.loads(answer.choices[0].message.tool_calls[0].function.arguments) == {"x": ""}

    def test_an_answer_of_a_type(self, openai, grammars):
        import pydantic

        class Found(pydantic.BaseModel):
            model_config = {"extra": "forbid"}
            x: str

        answer = openai.chat.completions.parse(model="dummy", messages=ASK, response_format=Found)

        assert answer.choices[0].message.parsed == Found(x="")

    def test_completions(self, openai):
        answer = openai.completions.create(model="acme/letters", prompt=["w", "x"], max_tokens=2, logprobs=1)
        chunks = openai.completions.create(model="acme/letters", prompt="w", stream=True)

        assert [choice.text for choice in answer.choices] == ["xy", "yz"]
        assert "".join(chunk.choices[0].text for chunk in chunks) == "xyz"

    def test_models(self, openai):
        assert [model.id for model in openai.models.list()] == ["acme/letters", "acme/echo"]
        assert openai.models.retrieve("acme/letters").owned_by == "acme"

    def test_errors_have_their_classes(self, openai):
        import openai as library

        with pytest.raises(library.NotFoundError) as unknown:
            openai.chat.completions.create(model="gpt-4", messages=HELLO)
        with pytest.raises(library.UnprocessableEntityError) as wrong:
            openai.chat.completions.create(model="dummy", messages=HELLO, max_tokens=0)

        assert unknown.value.code == "model_not_found"
        assert (wrong.value.code, wrong.value.param) == ("validation", "max_tokens")


@pytest.mark.parametrize("stream", [True, False])
def test_a_connection_that_closes_ends_the_work(url, letters, stream):
    writer = writer_of(letters)
    writer.gate = lambda step: time.sleep(0.005)
    body = {"prompt": "0", "max_tokens": 500, "stream": stream}
    try:
        begin = writer.steps
        if stream:
            with httpx.stream("POST", f"{url}/models/letters/v1/completions", json=body) as response:
                next(response.iter_lines())
        else:
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{url}/models/letters/v1/completions", json=body, timeout=0.2)
        deadline = time.monotonic() + 5
        while not writer.idle and time.monotonic() < deadline:
            time.sleep(0.01)
        steps = writer.steps
        time.sleep(0.05)
    finally:
        writer.gate = lambda step: None
    assert writer.idle
    assert writer.steps == steps
    assert steps - begin < 400
