"""OpenAI's completions."""

import pytest

from fake_writer import chunks_of, events_of

COMPLETIONS = "/v1/completions"


def test_a_completion_does_not_repeat_its_prompt(letters):
    answer = letters.post(COMPLETIONS, json={"prompt": "w", "return_full_text": True}).json()

    assert answer["id"].startswith("cmpl-")
    assert answer["object"] == "text_completion"
    assert answer["choices"] == [{"index": 0, "text": "xyz", "logprobs": None, "finish_reason": "stop"}]
    assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}


def test_several_prompts_have_their_texts_in_their_order(letters):
    answer = letters.post("/models/letters/v1/completions", json={"prompt": ["w", "x", "0"], "max_tokens": 3}).json()

    assert [(item["index"], item["text"], item["finish_reason"]) for item in answer["choices"]] == [
        (0, "xyz", "length"),
        (1, "yz", "stop"),
        (2, "123", "length"),
    ]


def test_several_texts_to_each_prompt_are_counted_on(letters):
    body = {"prompt": ["w", "x"], "max_tokens": 2, "n": 2, "num_beams": 2}
    answer = letters.post(COMPLETIONS, json=body).json()

    assert [item["index"] for item in answer["choices"]] == [0, 1, 2, 3]
    assert [item["text"] for item in answer["choices"]][::2] == ["xy", "yz"]


def test_a_prompt_may_be_tokens(letters):
    assert letters.post(COMPLETIONS, json={"prompt": [256, 119]}).json()["choices"][0]["text"] == "xyz"
    assert letters.post(COMPLETIONS, json={"prompt": [256, 300]}).status_code == 422


def test_a_stream_of_completions_interleaves_by_number(letters):
    body = {"prompt": ["w", "0"], "max_tokens": 3, "stream": True, "stream_options": {"include_usage": True}}
    *chunks, last = chunks_of(letters.post(COMPLETIONS, json=body).text)

    assert [chunk["choices"][0]["index"] for chunk in chunks] == [0, 1, 0, 1, 0, 1]
    texts = ["".join(c["choices"][0]["text"] for c in chunks if c["choices"][0]["index"] == index) for index in (0, 1)]
    assert texts == ["xyz", "123"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 4 + ["length", "length"]
    assert last["usage"] == {"prompt_tokens": 4, "completion_tokens": 6, "total_tokens": 10}


def test_log_probabilities_of_a_completion_say_where_each_token_begins(letters):
    body = {"prompt": "w", "logprobs": 1}
    told = letters.post(COMPLETIONS, json=body).json()["choices"][0]["logprobs"]

    assert (told["tokens"], told["text_offset"]) == (["x", "y", "z"], [0, 1, 2])
    assert [list(top) for top in told["top_logprobs"]] == [["x"], ["y"], ["z"]]
    chunks = chunks_of(letters.post(COMPLETIONS, json={**body, "stream": True}).text)
    assert [chunk["choices"][0]["logprobs"]["text_offset"] for chunk in chunks] == [[0], [1], [2], []]


def test_a_failure_in_a_stream_is_an_event_of_this_form(letters_model, make_client, monkeypatch):
    from fake_writer import FakeDecoder
    from onnxpipe.errors import BundleError

    run = FakeDecoder.run

    def fail(self, first, tokens, lengths, *rest):
        if lengths.max() > 5:
            raise BundleError("damaged")
        return run(self, first, tokens, lengths, *rest)

    monkeypatch.setattr(FakeDecoder, "run", fail)
    response = make_client(letters_model).post(COMPLETIONS, json={"prompt": "0", "stream": True})

    assert response.status_code == 200
    assert events_of(response.text)[-1] == {
        "error": {
            "message": "damaged",
            "type": "server_error",
            "param": None,
            "code": "backend",
            "http_status_code": 500,
        }
    }


@pytest.mark.parametrize(
    "path", [COMPLETIONS, "/models/letters/v1/completions", "/models/acme%2Fletters/v1/completions"]
)
def test_a_model_completes_under_each_of_its_routes(letters, path):
    assert letters.post(path, json={"prompt": "w"}).json()["choices"][0]["text"] == "xyz"
