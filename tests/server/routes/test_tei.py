import numpy as np
import pytest

from fake_encoder import make_encoder

A, B, S = 97, 98, 256  # "a", "b", and what begins a text


def unit(*numbers):
    return pytest.approx(np.array(numbers) / np.linalg.norm(numbers), abs=1e-6)


def softmax(*logits):
    exponents = np.exp(logits)
    return exponents / exponents.sum()


def sigmoid(logit):
    return pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)


class TestEmbed:
    def test_the_answer_is_always_a_list_of_vectors_of_length_1(self, vector_client):
        one = vector_client.post("/embed", json={"inputs": "a"}).json()
        two = vector_client.post("/embed", json={"inputs": ["a", "b"]}).json()

        assert one == [unit((A + S) / 2, 1)]
        assert two == [unit((A + S) / 2, 1), unit((B + S) / 2, 1)]

    def test_normalize_false_leaves_the_length(self, vector_client):
        assert vector_client.post("/embed", json={"inputs": "a", "normalize": False}).json() == [[(A + S) / 2, 1]]

    def test_models_without_a_pooling_of_their_own_are_pooled_here_too(self, make_client, encoder_folder):
        client = make_client(make_encoder(encoder_folder, "acme/tokens", keep_tokens=True))

        assert client.post("/embed", json={"inputs": "a", "normalize": False}).json() == [[(A + S) / 2, 1]]

    @pytest.mark.parametrize(
        ("inputs", "expected"), [([A, B], [[97.5, 1]]), ([[A], [B, B]], [[97, 1], [98, 1]]), ([[A], "b"], None)]
    )
    def test_token_ids_are_taken_as_they_are(self, vector_client, inputs, expected):
        response = vector_client.post("/embed", json={"inputs": inputs, "normalize": False})

        assert response.json() == (expected or [[97, 1], [(B + S) / 2, 1]])

    @pytest.mark.parametrize("ids", [[258], [-1], [0, 2**40]])
    def test_token_ids_beyond_the_vocabulary_are_refused(self, vector_client, ids):
        response = vector_client.post("/embed", json={"inputs": ids})

        assert response.status_code == 422
        assert f"expected token ids from 0 to 257, given {ids[-1]}" in response.json()["error"]

    def test_a_long_text_is_cut_and_the_header_says_so(self, vector_client):
        text = "a" + "b" * 20
        right = vector_client.post("/embed", json={"inputs": text, "normalize": False})
        left = vector_client.post("/embed", json={"inputs": text, "normalize": False, "truncation_direction": "Left"})

        assert right.headers["x-truncated"] == left.headers["x-truncated"] == "6"
        assert right.json() == [[pytest.approx((S + A + 14 * B) / 16), 1]]
        assert left.json() == [[pytest.approx((S + 15 * B) / 16), 1]]

    def test_long_token_ids_are_cut_and_the_header_says_so(self, vector_client):
        ids = [A] + [B] * 17
        right = vector_client.post("/embed", json={"inputs": ids, "normalize": False})
        left = vector_client.post("/embed", json={"inputs": ids, "normalize": False, "truncation_direction": "left"})

        assert right.headers["x-truncated"] == "2"
        assert right.json() == [[pytest.approx((A + 15 * B) / 16), 1]]
        assert left.json() == [[98, 1]]

    @pytest.mark.parametrize("inputs", ["a" * 30, [A] * 30])
    def test_truncate_false_is_a_422_with_limit_and_count(self, vector_client, inputs):
        response = vector_client.post("/embed", json={"inputs": inputs, "truncate": False})

        assert response.status_code == 422
        assert response.json()["error_type"] == "validation"
        assert str(31 if isinstance(inputs, str) else 30) in response.json()["error"]
        assert "limit is 16" in response.json()["error"]

    def test_a_prompt_goes_before_the_text(self, vector_client):
        named = vector_client.post("/embed", json={"inputs": "a", "prompt_name": "query"}).json()

        assert named == vector_client.post("/embed", json={"inputs": "q: a"}).json()

    @pytest.mark.parametrize(
        "body", [{"inputs": "a", "prompt_name": "nothing"}, {"inputs": [1], "prompt_name": "query"}]
    )
    def test_a_prompt_that_cannot_be_is_a_422(self, vector_client, body):
        assert vector_client.post("/embed", json=body).status_code == 422

    def test_dimensions_cut_the_vector_before_it_is_scaled(self, vector_client):
        assert vector_client.post("/embed", json={"inputs": "a", "dimensions": 1}).json() == [[1.0]]
        assert vector_client.post("/embed", json={"inputs": "a", "dimensions": 3}).status_code == 422

    def test_null_is_absent_and_unknown_fields_are_ignored(self, vector_client):
        body = {"inputs": "a", "truncate": None, "normalize": None, "prompt_name": None, "options": {"x": 1}}

        assert (
            vector_client.post("/embed", json=body).json() == vector_client.post("/embed", json={"inputs": "a"}).json()
        )

    def test_headers_tell_of_the_making(self, vector_client):
        headers = vector_client.post("/embed", json={"inputs": ["ab", "c"]}).headers

        assert (headers["x-compute-type"], headers["x-sha"]) == ("cpu", "abc123")
        assert (headers["x-compute-characters"], headers["x-compute-tokens"]) == ("3", "5")
        assert len(headers["x-compute-time"].partition(".")[2]) == 3
        for name in ("x-total-time", "x-tokenization-time", "x-queue-time", "x-inference-time"):
            assert headers[name].isdecimal(), name

    def test_a_large_answer_is_compressed_where_the_client_wants_that(self, vector_client):
        body = {"inputs": ["abcdef"] * 32}
        plain = vector_client.post("/embed_all", json=body, headers={"accept-encoding": "identity"})
        small = vector_client.post("/embed_all", json=body, headers={"accept-encoding": "gzip"})

        assert "content-encoding" not in plain.headers
        assert small.headers["content-encoding"] == "gzip"
        assert "accept-encoding" in plain.headers["vary"]
        assert "accept-encoding" in small.headers["vary"]
        assert small.json() == plain.json()


class TestEmbedAll:
    def test_every_token_has_a_vector(self, vector_client):
        assert vector_client.post("/embed_all", json={"inputs": "ab"}).json() == [[[S, 1], [A, 1], [B, 1]]]
        assert vector_client.post("/embed_all", json={"inputs": ["a", [B]]}).json() == [[[S, 1], [A, 1]], [[B, 1]]]


class TestEmbedSparse:
    def test_no_model_gives_sparse_vectors(self, vector_client):
        response = vector_client.post("/embed_sparse", json={"inputs": "a"})

        assert response.status_code == 424
        assert response.json()["error_type"] == "backend"
        assert "acme/vectors gives no sparse embeddings" in response.json()["error"]


class TestSimilarity:
    def test_cosines_come_in_the_order_of_the_sentences(self, vector_client):
        inputs = {"source_sentence": "a", "sentences": ["b", "a"]}
        other, same = vector_client.post("/similarity", json={"inputs": inputs}).json()

        assert same == pytest.approx(1)
        assert 0.9 < other < 1

    def test_parameters_say_how_sentences_are_read(self, vector_client):
        inputs = {"source_sentence": "a" * 30, "sentences": ["a"]}
        response = vector_client.post("/similarity", json={"inputs": inputs, "parameters": {"truncate": False}})

        assert response.status_code == 422

    @pytest.mark.parametrize(
        "inputs", [{"source_sentence": "", "sentences": ["a"]}, {"source_sentence": "a", "sentences": []}]
    )
    def test_no_sentence_is_a_400(self, vector_client, inputs):
        response = vector_client.post("/similarity", json={"inputs": inputs})

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

    def test_without_a_model_that_classifies_texts_the_route_is_the_classic_one(self, vector_client):
        assert vector_client.post("/predict", json={"inputs": "a"}).json() == [(A + S) / 2, 1]


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
