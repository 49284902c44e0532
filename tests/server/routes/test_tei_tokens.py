import pytest

A, B, S = 97, 98, 256  # "a", "b", and what begins a text


class TestTokens:
    def test_tokens_become_text_again(self, vector_client):
        ids = [token["id"] for token in vector_client.post("/tokenize", json={"inputs": "ab"}).json()[0]]

        assert vector_client.post("/decode", json={"ids": ids}).json() == ["ab"]
        assert vector_client.post("/decode", json={"ids": ids, "skip_special_tokens": False}).json() == ["<s>ab"]
        assert vector_client.post("/decode", json={"ids": [[A], [B, B]]}).json() == ["a", "bb"]

    def test_tokens_are_nested_per_input_with_special_and_places(self, vector_client):
        special, token = vector_client.post("/tokenize", json={"inputs": ["a"]}).json()[0]

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

    def test_tokens_of_several_texts_without_added_ones(self, vector_client):
        tokens = vector_client.post("/tokenize", json={"inputs": ["a", ""], "add_special_tokens": False}).json()

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
    def test_what_is_no_text_has_no_tokens(self, vector_client, body, status):
        assert vector_client.post("/tokenize", json=body).status_code == status

    @pytest.mark.parametrize(("ids", "status"), [([], 400), ([[]], 400), ([300], 422), (["a"], 422), ([-1], 422)])
    def test_what_are_no_tokens_is_refused(self, vector_client, ids, status):
        assert vector_client.post("/decode", json={"ids": ids}).status_code == status
