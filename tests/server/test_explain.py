import json

import pytest

from onnxpipe_server.explain import Account, account_for, current_account

EXPLAIN = {"x-onnxpipe-explain": "1"}


def explained(response):
    return json.loads(response.headers["x-onnxpipe-explain"])


@pytest.fixture
def fresh(served, make_client):
    """A server of one model that nobody has asked yet."""
    return make_client(served("acme/labels", "labels"))


def test_a_request_is_told_what_it_was_answered_with(fresh):
    told = explained(fresh.post("/", json="so it is", headers=EXPLAIN))

    stages = told.pop("ms")
    assert told == {
        "model": "acme/labels",
        "task": "text-classification",
        "precision": "fp32",
        "device": "cpu",
        "tokens": 8,
        "cache": "miss",
    }
    assert list(stages) == ["queue", "preprocess", "inference", "postprocess", "total"]
    assert all(value >= 0 for value in stages.values())
    assert stages["total"] >= sum(stages.values()) - stages["total"] - 1


def test_a_hit_of_the_cache_is_told_as_one(fresh):
    fresh.post("/", json="so it is")

    assert explained(fresh.post("/", json="so it is", headers=EXPLAIN))["cache"] == "hit"


def test_nobody_is_told_who_did_not_ask(fresh):
    assert "x-onnxpipe-explain" not in fresh.post("/", json="so").headers


def test_a_refusal_is_explained_too(fresh):
    told = explained(fresh.post("/", json="overloaded", headers=EXPLAIN))

    assert told["error_type"] == "overloaded"
    assert told["model"] == "acme/labels"


@pytest.mark.parametrize("path", ["/generate_stream", "/generate", "/"])
def test_a_text_that_is_written_is_explained(letters, path):
    told = explained(letters.post(path, json={"inputs": "w"}, headers={**EXPLAIN, "x-use-cache": "0"}))

    assert told["model"] == "acme/letters"
    assert told["task"] == "text-generation"
    assert told["tokens"] >= 1


def test_the_header_is_ascii_whatever_the_models_name(served, make_client):
    client = make_client(served("größe/ラベル", "labels"))

    assert explained(client.post("/", json="so", headers=EXPLAIN))["model"] == "größe/ラベル"


def test_the_account_is_that_of_the_request_at_work():
    account = Account("id")

    with account_for(account):
        assert current_account() is account
    assert current_account() is not account
