import numpy as np
import pytest

from fake_encoder import make_encoder

A, B, S = 97, 98, 256  # "a", "b", and what begins a text


def unit(*numbers):
    return pytest.approx(np.array(numbers) / np.linalg.norm(numbers), abs=1e-6)


def approx(*numbers):
    return pytest.approx(numbers, abs=1e-6)


def softmax(*logits):
    exponents = np.exp(logits)
    return exponents / exponents.sum()


def sigmoid(logit):
    return pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("encoders")


@pytest.fixture(scope="module")
def vectors(folder):
    return make_encoder(folder, "acme/vectors")


@pytest.fixture(scope="module")
def moods(folder):
    return make_encoder(folder, "acme/moods", labels=("calm", "loud"))


@pytest.fixture(scope="module")
def judge(folder):
    return make_encoder(folder, "acme/judge", labels=("relevance",), activation="sigmoid")


@pytest.fixture(scope="module")
def embedder(make_client, vectors):
    return make_client(vectors)


@pytest.fixture(scope="module")
def classifier(make_client, moods):
    return make_client(moods)


@pytest.fixture(scope="module")
def reranker(make_client, judge):
    return make_client(judge)


@pytest.fixture(scope="module")
def several(make_client, vectors, moods, judge):
    return make_client(vectors, moods, judge)


class TestEmbed:
    def test_the_answer_is_always_a_list_of_vectors_of_length_1(self, embedder):
        one = embedder.post("/embed", json={"inputs": "a"}).json()
        two = embedder.post("/embed", json={"inputs": ["a", "b"]}).json()

        assert one == [unit((A + S) / 2, 1)]
        assert two == [unit((A + S) / 2, 1), unit((B + S) / 2, 1)]

    def test_normalize_false_leaves_the_length(self, embedder):
        assert embedder.post("/embed", json={"inputs": "a", "normalize": False}).json() == [[(A + S) / 2, 1]]

    def test_models_without_a_pooling_of_their_own_are_pooled_here_too(self, make_client, folder):
        client = make_client(make_encoder(folder, "acme/tokens", keep_tokens=True))

        assert client.post("/embed", json={"inputs": "a", "normalize": False}).json() == [[(A + S) / 2, 1]]

    @pytest.mark.parametrize(
        ("inputs", "expected"), [([A, B], [[97.5, 1]]), ([[A], [B, B]], [[97, 1], [98, 1]]), ([[A], "b"], None)]
    )
    def test_token_ids_are_taken_as_they_are(self, embedder, inputs, expected):
        response = embedder.post("/embed", json={"inputs": inputs, "normalize": False})

        assert response.json() == (expected or [[97, 1], [(B + S) / 2, 1]])

    @pytest.mark.parametrize("ids", [[258], [-1], [0, 2**40]])
    def test_token_ids_beyond_the_vocabulary_are_refused(self, embedder, ids):
        response = embedder.post("/embed", json={"inputs": ids})

        assert response.status_code == 422
        assert f"expected token ids from 0 to 257, given {ids[-1]}" in response.json()["error"]

    def test_a_long_text_is_cut_and_the_header_says_so(self, embedder):
        text = "a" + "b" * 20
        right = embedder.post("/embed", json={"inputs": text, "normalize": False})
        left = embedder.post("/embed", json={"inputs": text, "normalize": False, "truncation_direction": "Left"})

        assert right.headers["x-truncated"] == left.headers["x-truncated"] == "6"
        assert right.json() == [[pytest.approx((S + A + 14 * B) / 16), 1]]
        assert left.json() == [[pytest.approx((S + 15 * B) / 16), 1]]

    def test_long_token_ids_are_cut_and_the_header_says_so(self, embedder):
        ids = [A] + [B] * 17
        right = embedder.post("/embed", json={"inputs": ids, "normalize": False})
        left = embedder.post("/embed", json={"inputs": ids, "normalize": False, "truncation_direction": "left"})

        assert right.headers["x-truncated"] == "2"
        assert right.json() == [[pytest.approx((A + 15 * B) / 16), 1]]
        assert left.json() == [[98, 1]]

    @pytest.mark.parametrize("inputs", ["a" * 30, [A] * 30])
    def test_truncate_false_is_a_422_with_limit_and_count(self, embedder, inputs):
        response = embedder.post("/embed", json={"inputs": inputs, "truncate": False})

        assert response.status_code == 422
        assert response.json()["error_type"] == "validation"
        assert str(31 if isinstance(inputs, str) else 30) in response.json()["error"]
        assert "limit is 16" in response.json()["error"]

    def test_a_prompt_goes_before_the_text(self, embedder):
        named = embedder.post("/embed", json={"inputs": "a", "prompt_name": "query"}).json()

        assert named == embedder.post("/embed", json={"inputs": "q: a"}).json()

    @pytest.mark.parametrize(
        "body", [{"inputs": "a", "prompt_name": "nothing"}, {"inputs": [1], "prompt_name": "query"}]
    )
    def test_a_prompt_that_cannot_be_is_a_422(self, embedder, body):
        assert embedder.post("/embed", json=body).status_code == 422

    def test_dimensions_cut_the_vector_before_it_is_scaled(self, embedder):
        assert embedder.post("/embed", json={"inputs": "a", "dimensions": 1}).json() == [[1.0]]
        assert embedder.post("/embed", json={"inputs": "a", "dimensions": 3}).status_code == 422

    def test_null_is_absent_and_unknown_fields_are_ignored(self, embedder):
        body = {"inputs": "a", "truncate": None, "normalize": None, "prompt_name": None, "options": {"x": 1}}

        assert embedder.post("/embed", json=body).json() == embedder.post("/embed", json={"inputs": "a"}).json()

    def test_headers_tell_of_the_making(self, embedder):
        headers = embedder.post("/embed", json={"inputs": ["ab", "c"]}).headers

        assert (headers["x-compute-type"], headers["x-sha"]) == ("cpu", "abc123")
        assert (headers["x-compute-characters"], headers["x-compute-tokens"]) == ("3", "5")
        assert len(headers["x-compute-time"].partition(".")[2]) == 3
        for name in ("x-total-time", "x-tokenization-time", "x-queue-time", "x-inference-time"):
            assert headers[name].isdecimal(), name

    def test_a_large_answer_is_compressed_where_the_client_wants_that(self, embedder):
        body = {"inputs": ["abcdef"] * 32}
        plain = embedder.post("/embed_all", json=body, headers={"accept-encoding": "identity"})
        small = embedder.post("/embed_all", json=body, headers={"accept-encoding": "gzip"})

        assert "content-encoding" not in plain.headers
        assert small.headers["content-encoding"] == "gzip"
        assert "accept-encoding" in plain.headers["vary"]
        assert "accept-encoding" in small.headers["vary"]
        assert small.json() == plain.json()


class TestEmbedAll:
    def test_every_token_has_a_vector(self, embedder):
        assert embedder.post("/embed_all", json={"inputs": "ab"}).json() == [[[S, 1], [A, 1], [B, 1]]]
        assert embedder.post("/embed_all", json={"inputs": ["a", [B]]}).json() == [[[S, 1], [A, 1]], [[B, 1]]]


class TestEmbedSparse:
    def test_no_model_gives_sparse_vectors(self, embedder):
        response = embedder.post("/embed_sparse", json={"inputs": "a"})

        assert response.status_code == 424
        assert response.json()["error_type"] == "backend"
        assert "acme/vectors gives no sparse embeddings" in response.json()["error"]


class TestSimilarity:
    def test_cosines_come_in_the_order_of_the_sentences(self, embedder):
        inputs = {"source_sentence": "a", "sentences": ["b", "a"]}
        other, same = embedder.post("/similarity", json={"inputs": inputs}).json()

        assert same == pytest.approx(1)
        assert 0.9 < other < 1

    def test_parameters_say_how_sentences_are_read(self, embedder):
        inputs = {"source_sentence": "a" * 30, "sentences": ["a"]}
        response = embedder.post("/similarity", json={"inputs": inputs, "parameters": {"truncate": False}})

        assert response.status_code == 422

    @pytest.mark.parametrize(
        "inputs", [{"source_sentence": "", "sentences": ["a"]}, {"source_sentence": "a", "sentences": []}]
    )
    def test_no_sentence_is_a_400(self, embedder, inputs):
        response = embedder.post("/similarity", json={"inputs": inputs})

        assert (response.status_code, response.json()["error_type"]) == (400, "empty")


class TestPredict:
    def test_labels_of_one_text_are_a_flat_list(self, classifier):
        loud, calm = softmax(0.97 * 2, 0.97)

        assert classifier.post("/predict", json={"inputs": "a"}).json() == [
            {"label": "loud", "score": pytest.approx(loud)},
            {"label": "calm", "score": pytest.approx(calm)},
        ]

    def test_two_texts_are_a_pair_and_not_a_batch(self, classifier):
        pair = classifier.post("/predict", json={"inputs": ["a", "b"], "raw_scores": True}).json()

        assert pair == [
            {"label": "loud", "score": pytest.approx(1.96)},
            {"label": "calm", "score": pytest.approx(0.98)},
        ]

    def test_a_batch_is_a_list_of_lists(self, classifier):
        several = classifier.post("/predict", json={"inputs": [["a"], ["b", "a"]], "raw_scores": True}).json()

        assert [[round(label["score"], 2) for label in labels] for labels in several] == [[1.94, 0.97], [1.94, 0.97]]

    def test_three_texts_are_neither_and_the_message_shows_what_is(self, classifier):
        response = classifier.post("/predict", json={"inputs": ["a", "b", "c"]})

        assert response.status_code == 422
        assert "[['a'], ['b']]" in response.json()["error"]

    @pytest.mark.parametrize("inputs", ["", [], [[]], ["a", ""], [["a"], [""]]])
    def test_no_text_is_a_400(self, classifier, inputs):
        response = classifier.post("/predict", json={"inputs": inputs})

        assert (response.status_code, response.json()["error_type"]) == (400, "empty")

    def test_classic_routes_of_the_same_model_stay_nested(self, classifier):
        ((first, _),) = classifier.post("/", json={"inputs": "a"}).json()

        assert first["label"] == "loud"

    def test_without_a_model_that_classifies_texts_the_route_is_the_classic_one(self, embedder):
        assert embedder.post("/predict", json={"inputs": "a"}).json() == [(A + S) / 2, 1]


class TestRerank:
    def test_texts_come_by_falling_score_between_0_and_1(self, reranker):
        ranks = reranker.post("/rerank", json={"query": "q", "texts": ["a", "c", "b"]}).json()

        assert ranks == [
            {"index": 1, "score": sigmoid(0.99)},
            {"index": 2, "score": sigmoid(0.98)},
            {"index": 0, "score": sigmoid(0.97)},
        ]

    def test_raw_scores_are_logits_and_texts_come_where_they_are_asked_for(self, reranker):
        body = {"query": "q", "texts": ["a", "b"], "raw_scores": True, "return_text": True}
        ranks = reranker.post("/rerank", json=body).json()

        assert ranks == [
            {"index": 1, "score": pytest.approx(0.98), "text": "b"},
            {"index": 0, "score": pytest.approx(0.97), "text": "a"},
        ]

    def test_the_toolkits_word_for_texts_is_known_too(self, reranker):
        (rank,) = reranker.post("/rerank", json={"query": "q", "texts": ["a"], "return_documents": True}).json()

        assert rank["text"] == "a"

    def test_equal_scores_keep_their_order(self, reranker):
        ranks = reranker.post("/rerank", json={"query": "q", "texts": ["xa", "ya", "za"]}).json()

        assert [rank["index"] for rank in ranks] == [0, 1, 2]

    @pytest.mark.parametrize(
        "body", [{"query": "", "texts": ["a"]}, {"query": "q", "texts": []}, {"query": "q", "texts": [""]}]
    )
    def test_no_text_is_a_400(self, reranker, body):
        response = reranker.post("/rerank", json=body)

        assert (response.status_code, response.json()["error_type"]) == (400, "empty")


class TestTokens:
    def test_tokens_become_text_again(self, embedder):
        ids = [token["id"] for token in embedder.post("/tokenize", json={"inputs": "ab"}).json()[0]]

        assert embedder.post("/decode", json={"ids": ids}).json() == ["ab"]
        assert embedder.post("/decode", json={"ids": ids, "skip_special_tokens": False}).json() == ["<s>ab"]
        assert embedder.post("/decode", json={"ids": [[A], [B, B]]}).json() == ["a", "bb"]

    def test_tokens_are_nested_per_input_with_special_and_places(self, embedder):
        special, token = embedder.post("/tokenize", json={"inputs": ["a"]}).json()[0]

        assert special == {"id": S, "text": "<s>", "special": True, "start": None, "stop": None}
        assert token == {"id": A, "text": "a", "special": False, "start": 0, "stop": 1}

    def test_every_token_has_its_place_in_characters(self, letters):
        tokens = letters.post("/tokenize", json={"inputs": "aé<s>"}).json()

        assert tokens == [
            [
                {"id": 256, "text": "<s>", "special": True, "start": None, "stop": None},
                {"id": 97, "text": "a", "special": False, "start": 0, "stop": 1},
                {"id": 195, "text": "é", "special": False, "start": 1, "stop": 2},
                {"id": 169, "text": "é", "special": False, "start": 1, "stop": 2},
                {"id": 256, "text": "<s>", "special": True, "start": 2, "stop": 5},
            ]
        ]

    def test_tokens_of_several_texts_without_added_ones(self, embedder):
        tokens = embedder.post("/tokenize", json={"inputs": ["a", ""], "add_special_tokens": False}).json()

        assert [[token["id"] for token in text] for text in tokens] == [[A], []]

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({"inputs": []}, 400),
            ({"inputs": 7}, 422),
            ({}, 422),
            ({"inputs": ["a", None]}, 422),
            ({"inputs": ["a"] * 33}, 422),
        ],
    )
    def test_what_is_no_text_has_no_tokens(self, embedder, body, status):
        assert embedder.post("/tokenize", json=body).status_code == status

    @pytest.mark.parametrize(("ids", "status"), [([], 400), ([[]], 400), ([300], 422), (["a"], 422), ([-1], 422)])
    def test_what_are_no_tokens_is_refused(self, embedder, ids, status):
        assert embedder.post("/decode", json={"ids": ids}).status_code == status


class TestLimits:
    @pytest.mark.parametrize("path", ["/embed", "/embed_all"])
    @pytest.mark.parametrize("inputs", ["", [], ["a", ""], [[]]])
    def test_empty_is_a_400(self, embedder, path, inputs):
        response = embedder.post(path, json={"inputs": inputs})

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

    def test_max_client_batch_size_is_32_where_nobody_sets_it(self, embedder):
        assert embedder.post("/embed", json={"inputs": ["a"] * 32}).status_code == 200
        assert embedder.post("/embed", json={"inputs": ["a"] * 33}).status_code == 422

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
    def test_what_is_no_request_is_a_422(self, embedder, content):
        response = embedder.post("/embed", content=content)

        assert (response.status_code, response.json()["error_type"]) == (422, "validation")

    def test_a_json_body_needs_no_content_type(self, embedder):
        assert embedder.post("/embed", content=b'{"inputs": "a"}').status_code == 200


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
    def test_an_embedding_model_tells_its_pooling_and_limits(self, embedder):
        info = embedder.get("/info").json()

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
