import pytest


class TestSeveralModels:
    def test_the_only_model_of_a_kind_needs_no_name(self, several):
        assert several.post("/embed", json={"inputs": "a"}).status_code == 200
        assert several.post("/rerank", json={"query": "q", "texts": ["a"]}).status_code == 200

    def test_of_several_that_fit_one_must_be_named_and_the_message_names_them(self, several):
        response = several.post("/predict", json={"inputs": "a"})

        assert response.status_code == 400
        problem = "several models fit, for each classifies texts; name one of them: acme/moods, acme/judge"
        assert response.json()["error"].endswith(problem)

    def test_the_body_names_the_model(self, several):
        assert several.post("/predict", json={"inputs": "a", "model": "acme/moods"}).json()[0]["label"] == "loud"
        assert several.post("/predict", json={"inputs": "a", "model": "judge"}).json()[0]["label"] == "relevance"

    def test_an_unknown_name_is_a_404_and_one_of_another_type_a_422(self, several):
        assert several.post("/embed", json={"inputs": "a", "model": "nobody"}).status_code == 404
        assert several.post("/embed", json={"inputs": "a", "model": 7}).status_code == 422

    def test_the_first_default_model_of_the_kind_answers_where_none_is_named(self, make_client, vectors, moods, judge):
        client = make_client(vectors, moods, judge, default_models=["acme/vectors", "judge"])

        assert client.post("/predict", json={"inputs": "a"}).json()[0]["label"] == "relevance"
        assert client.post("/predict", json={"inputs": "a", "model": "moods"}).json()[0]["label"] == "loud"

    def test_a_default_model_that_is_not_served_is_told_at_the_start(self, make_client, vectors):
        with pytest.raises(ValueError, match="Model nobody does not exist"):
            make_client(vectors, default_models=["nobody"])


class TestInfo:
    def test_an_embedding_model_tells_its_pooling_and_limits(self, vector_client):
        info = vector_client.get("/info").json()

        assert (info["model_id"], info["served_model_name"], info["model_sha"]) == ("acme/vectors",) * 2 + ("abc123",)
        assert info["model_type"] == {"embedding": {"pooling": "mean"}}
        assert (info["max_input_length"], info["max_client_batch_size"], info["auto_truncate"]) == (16, 32, True)
        assert info.keys() >= {"max_concurrent_requests", "max_batch_tokens", "max_batch_requests", "version"}
        assert info.keys() >= {"model_dtype", "tokenization_workers", "sha", "docker_label"}

    def test_classifiers_and_rerankers_tell_their_labels(self, several):
        labels = {"id2label": {"0": "calm", "1": "loud"}, "label2id": {"calm": 0, "loud": 1}}

        assert several.get("/models/moods/info").json()["model_type"] == {"classifier": labels}
        assert several.get("/models/judge/info").json()["model_type"].keys() == {"reranker"}


class TestDocument:
    def test_every_route_that_a_model_answers_is_documented_by_its_types(self, several, classifier):
        posts = {path for path, item in several.get("/openapi.json").json()["paths"].items() if "post" in item}
        fewer = {path for path, item in classifier.get("/openapi.json").json()["paths"].items() if "post" in item}

        ours = {"/embed", "/embed_all", "/similarity", "/v1/embeddings", "/embeddings", "/rerank", "/v1/rerank"}
        assert ours | {"/v2/rerank", "/predict", "/tokenize", "/decode", "/v2/models/{model_id}/infer"} <= posts
        assert {"/predict", "/decode"} <= fewer
        assert not ours & fewer

    def test_a_pair_of_texts_is_described(self, several):
        document = several.get("/openapi.json").json()
        inputs = document["components"]["schemas"]["PredictRequest"]["properties"]["inputs"]

        assert [choice["type"] for choice in inputs["anyOf"]] == ["string", "array", "array"]
