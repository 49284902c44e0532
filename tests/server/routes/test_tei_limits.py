import pytest

A = 97  # "a"


class TestLimits:
    @pytest.mark.parametrize("path", ["/embed", "/embed_all"])
    @pytest.mark.parametrize("inputs", ["", [], ["a", ""], [[]]])
    def test_empty_is_a_400(self, vector_client, path, inputs):
        response = vector_client.post(path, json={"inputs": inputs})

        assert (response.status_code, response.json()["error_type"]) == (400, "empty")
        assert "`inputs` cannot be empty" in response.json()["error"]

    def test_a_batch_above_max_client_batch_size_is_a_422(self, make_client, vectors, moods, judge):
        client = make_client(vectors, moods, judge, max_client_batch_size=2)
        bodies = {
            "/embed": {"inputs": ["a"] * 3},
            "/embed_all": {"inputs": [[A]] * 3},
            "/similarity": {"inputs": {"source_sentence": "a", "sentences": ["a"] * 3}},
            "/predict": {"inputs": [["a"]] * 3, "model": "moods"},
            "/rerank": {"query": "q", "texts": ["a"] * 3},
            "/decode": {"ids": [[A]] * 3, "model": "moods"},
        }
        for path, body in bodies.items():
            response = client.post(path, json=body)
            assert (response.status_code, response.json()["error_type"]) == (422, "validation"), path
            assert "batch size 3 > maximum allowed batch size 2" in response.json()["error"]

    def test_max_client_batch_size_is_32_where_nobody_sets_it(self, vector_client):
        assert vector_client.post("/embed", json={"inputs": ["a"] * 32}).status_code == 200
        assert vector_client.post("/embed", json={"inputs": ["a"] * 33}).status_code == 422

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/embed", {"inputs": "a", "model": "moods"}),
            ("/embed_all", {"inputs": "a", "model": "acme/judge"}),
            ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["a"]}, "model": "moods"}),
            ("/predict", {"inputs": "a", "model": "vectors"}),
            ("/rerank", {"query": "a", "texts": ["a"], "model": "moods"}),
            ("/rerank", {"query": "a", "texts": ["a"], "model": "vectors"}),
        ],
    )
    def test_a_wrong_model_kind_is_a_424(self, several, path, body):
        response = several.post(path, json=body)

        assert (response.status_code, response.json()["error_type"]) == (424, "backend")
        assert "is not a model that" in response.json()["error"]

    @pytest.mark.parametrize("path", ["/rerank", "/embed"])
    def test_a_server_without_such_a_model_is_a_424(self, classifier, path):
        response = classifier.post(path, json={"inputs": "a", "query": "a", "texts": ["a"]})

        assert response.status_code == 424
        assert "acme/moods" in response.json()["error"]

    def test_a_body_over_the_limit_is_a_413(self, make_client, vectors):
        response = make_client(vectors, max_body_bytes=100).post("/embed", json={"inputs": "a" * 200})

        assert (response.status_code, response.json()["error_type"]) == (413, "too_large")

    @pytest.mark.parametrize("content", [b"", b"[]", b"{", b'"a"', b"\xff", b"{}", b'{"inputs": 7}'])
    def test_what_is_no_request_is_a_422(self, vector_client, content):
        response = vector_client.post("/embed", content=content)

        assert (response.status_code, response.json()["error_type"]) == (422, "validation")

    def test_a_json_body_needs_no_content_type(self, vector_client):
        assert vector_client.post("/embed", content=b'{"inputs": "a"}').status_code == 200
