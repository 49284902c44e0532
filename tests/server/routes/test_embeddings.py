import base64

import numpy as np
import pytest

from fake_encoder import make_encoder
from onnxpipe_server.app import create_app
from onnxpipe_server.models import Models
from onnxpipe_server.settings import Settings
from serving import serving_app

A, B, S = 97, 98, 256  # "a", "b", and what begins a text


def ask(client, given, path="/v1/embeddings", **options):
    return client.post(path, json={"input": given, **options})


def unit(first):
    return pytest.approx(np.array([first, 1]) / np.hypot(first, 1), abs=1e-6)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embeddings", "/models/acme/vectors/v1/embeddings"])
def test_the_answer_is_a_list_object_with_usage(vector_client, path):
    response = ask(vector_client, ["a", "bb"], path)

    assert response.json() == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": unit((A + S) / 2)},
            {"object": "embedding", "index": 1, "embedding": unit((B + B + S) / 3)},
        ],
        "model": "acme/vectors",
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }
    assert response.headers["x-compute-tokens"] == "5"


@pytest.mark.parametrize(("given", "count"), [("a", 1), (["a", "b"], 2), ([A, B], 1), ([[A], [B]], 2), (["a", [B]], 2)])
def test_input_is_a_text_or_tokens_or_a_list_of_such(vector_client, given, count):
    assert len(ask(vector_client, given).json()["data"]) == count


def test_base64_is_little_endian_float32(vector_client):
    (item,) = ask(vector_client, "a", encoding_format="base64").json()["data"]
    (plain,) = ask(vector_client, "a", encoding_format="float").json()["data"]

    assert np.frombuffer(base64.b64decode(item["embedding"]), "<f4") == pytest.approx(plain["embedding"])


def test_dimensions_cut_the_vector_before_it_is_scaled(vector_client):
    assert ask(vector_client, "a", dimensions=1).json()["data"][0]["embedding"] == [1.0]


@pytest.mark.parametrize("model", ["vectors", "acme/vectors", "tgi", "dummy", "", None, "https://host/endpoint"])
def test_the_models_id_none_or_any_word_for_it_means_the_default_model(vector_client, model):
    assert ask(vector_client, "a", model=model).status_code == 200


def test_any_other_name_is_a_404_model_not_found(vector_client):
    response = ask(vector_client, "a", model="text-embedding-3-small")

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


def test_the_field_is_ignored_where_the_path_names_the_model(vector_client):
    assert ask(vector_client, "a", "/models/vectors/v1/embeddings", model="http://host").status_code == 200


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ("", {}),
        ([], {}),
        (["a", ""], {}),
        (7, {}),
        ("a", {"dimensions": 0}),
        ("a", {"encoding_format": "hex"}),
        ([999], {}),
    ],
)
def test_what_is_wrong_is_told_as_openai_does(vector_client, given, options):
    response = ask(vector_client, given, **options)
    error = response.json()["error"]

    assert response.status_code == 422
    assert error.keys() >= {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"


def test_more_inputs_than_other_routes_take_are_split_by_the_server(vector_client):
    assert len(ask(vector_client, ["a"] * 100).json()["data"]) == 100
    assert ask(vector_client, ["a"] * 2049).status_code == 422


def test_a_model_that_does_not_embed_is_a_422(make_client, tmp_path):
    moods = make_encoder(tmp_path, "acme/moods", labels=("calm", "loud"))
    response = ask(make_client(moods), "a", model="acme/moods")

    assert response.status_code == 422
    assert "acme/moods is not a model that embeds texts" in response.json()["error"]["message"]


def test_openais_client_reads_embeddings_and_models(vectors):
    library = pytest.importorskip("openai", reason="its client asks the questions")
    with serving_app(create_app(Models([vectors]), Settings())) as url:
        for base in (f"{url}/v1", f"{url}/models/acme/vectors/v1"):
            with library.OpenAI(base_url=base, api_key="none", max_retries=0) as client:
                answer = client.embeddings.create(model="acme/vectors", input=["a", "b"])  # base64 by default
                assert [item.embedding for item in answer.data] == [unit((A + S) / 2), unit((B + S) / 2)]
                assert answer.usage.prompt_tokens == 4
                plain = client.embeddings.create(model="acme/vectors", input=[[A], [B]], encoding_format="float")
                assert [item.embedding for item in plain.data] == [unit(A), unit(B)]
        with library.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            assert [model.id for model in client.models.list()] == ["acme/vectors"]
            assert client.models.retrieve("acme/vectors").id == "acme/vectors"
            with pytest.raises(library.NotFoundError):
                client.embeddings.create(model="nobody", input="a")
            with pytest.raises(library.UnprocessableEntityError, match="cannot be empty"):
                client.embeddings.create(model="acme/vectors", input="")
