import numpy as np
import pytest

from fake_encoder import make_encoder


def sigmoid(logit):
    return pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)


BODY = {"model": "acme/judge", "query": "q", "documents": ["a", "c", {"text": "b"}]}


@pytest.mark.parametrize("path", ["/v1/rerank", "/models/judge/v1/rerank"])
def test_jina_has_documents_beside_the_scores_and_usage(reranker, path):
    response = reranker.post(path, json=BODY | {"top_n": 2})

    assert response.json() == {
        "object": "list",
        "model": "acme/judge",
        "usage": {"total_tokens": 6, "prompt_tokens": 6},
        "results": [
            {"index": 1, "relevance_score": sigmoid(0.99), "document": {"text": "c"}},
            {"index": 2, "relevance_score": sigmoid(0.98), "document": {"text": "b"}},
        ],
    }
    assert response.headers["x-compute-characters"] == "4"


def test_jina_leaves_documents_out_where_told_so(reranker):
    first, *_ = reranker.post("/v1/rerank", json=BODY | {"return_documents": False}).json()["results"]

    assert first.keys() == {"index", "relevance_score"}


def test_cohere_has_places_and_scores_an_id_and_what_it_bills(reranker):
    answer = reranker.post("/v2/rerank", json=BODY).json()

    assert [result["index"] for result in answer["results"]] == [1, 2, 0]
    assert answer["results"][0] == {"index": 1, "relevance_score": sigmoid(0.99)}
    assert answer["meta"] == {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
    assert answer["id"]


def test_cohere_has_documents_where_they_are_asked_for(reranker):
    first, *_ = reranker.post("/v2/rerank", json=BODY | {"return_documents": True}).json()["results"]

    assert first["document"] == {"text": "c"}


def test_many_documents_are_split_by_the_server(reranker):
    answer = reranker.post("/v2/rerank", json={"query": "q", "documents": ["a"] * 500}).json()

    assert len(answer["results"]) == 500


@pytest.mark.parametrize(
    "wrong", [{"documents": []}, {"query": ""}, {"documents": ["a", ""]}, {"top_n": 0}, {"documents": ["a"] * 1001}]
)
def test_what_is_wrong_is_told_in_each_ones_way(reranker, wrong):
    jina, cohere = (reranker.post(path, json=BODY | wrong) for path in ("/v1/rerank", "/v2/rerank"))

    assert jina.status_code == cohere.status_code
    assert jina.status_code in (400, 422)
    assert jina.json()["error"]["type"] == "invalid_request_error"
    assert cohere.json()["message"] == cohere.json()["error"] == jina.json()["error"]["message"]


def test_a_wrong_model_kind_is_a_424_for_cohere_and_a_422_on_v1(make_client, tmp_path):
    client = make_client(make_encoder(tmp_path, "acme/vectors"))

    assert client.post("/v2/rerank", json=BODY | {"model": "acme/vectors"}).status_code == 424
    assert client.post("/v1/rerank", json=BODY | {"model": "acme/vectors"}).status_code == 422
