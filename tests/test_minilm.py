"""The real model, served by the real command and asked the question of the Inference API's documentation."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.request import urlopen

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onnxpipe
from serving import serving

huggingface_hub = pytest.importorskip("huggingface_hub", reason="its client asks the questions")
pytest.importorskip("fastapi", reason="needs the server extra")

PRECISIONS = ("fp32", "int8")
ID = "sentence-transformers/all-MiniLM-L6-v2"
SOURCE = "That is a happy person"
SENTENCES = ["That is a happy dog", "That is a very happy person", "Today is a sunny day"]
# what the documentation prints for them, and how far each precision may be from it
DOCUMENTED = [0.6945773, 0.9429151, 0.2568761]
ALLOWED = {"fp32": 1e-4, "int8": 0.04}
# of many lengths and scripts, with an empty one and one over the limit of 256 tokens
TEXTS = [
    SOURCE,
    *SENTENCES,
    "",
    "!",
    "Größe, façade, naïveté",
    "今日は天気がいいです。",
    "مرحبا بالعالم",
    "👩‍👩‍👧‍👦 👍🏽",
    "The quick brown fox jumps over the lazy dog, again and again. " * 3,
    "A long text says the same thing many times. " * 60,
]

Vector = np.ndarray
Embed = Callable[[list[str]], list[Vector]]


@pytest.fixture(scope="module", params=PRECISIONS)
def precision(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def url(minilm_bundle: Path, precision: str) -> Iterator[str]:
    """The address of a server of the model."""
    with serving(str(minilm_bundle), "--precision", precision) as (address, said):
        assert f"/models/{ID}  sentence-similarity, feature-extraction  {precision}" in said
        yield address


@pytest.fixture(scope="module")
def embed(minilm_bundle: Path, precision: str) -> Embed:
    pipeline = onnxpipe.load(minilm_bundle, task="feature-extraction", precision=precision)
    return lambda texts: list(pipeline(texts))


@pytest.fixture(scope="module")
def alone(embed: Embed) -> list[Vector]:
    """The vector of each text from a call of its own."""
    return [embed([text])[0] for text in TEXTS]


def check_documented(answer: Sequence[float], precision: str) -> None:
    np.testing.assert_allclose(answer, DOCUMENTED, rtol=0, atol=ALLOWED[precision])
    assert np.argsort(answer).tolist() == np.argsort(DOCUMENTED).tolist()


def client_of(url: str) -> "huggingface_hub.InferenceClient":
    return huggingface_hub.InferenceClient(model=url)


def test_the_hubs_client_gets_the_documented_similarities(url: str, precision: str) -> None:
    answer = client_of(f"{url}/models/{ID}").sentence_similarity(SOURCE, other_sentences=SENTENCES)
    check_documented(answer, precision)


@pytest.mark.parametrize("path", [f"/models/{ID}", f"/pipeline/sentence-similarity/{ID}", "/"])
def test_a_raw_request_without_a_content_type_gets_the_documented_similarities(
    url: str, precision: str, path: str
) -> None:
    body = json.dumps({"inputs": {"source_sentence": SOURCE, "sentences": SENTENCES}}).encode()
    request = httpx.Request("POST", f"{url}{path}", content=body)
    assert "content-type" not in request.headers
    with httpx.Client() as client:
        response = client.send(request)
    assert response.status_code == 200, response.text
    check_documented(response.json(), precision)


def test_every_way_of_asking_gets_the_same_numbers(url: str) -> None:
    inputs = {"source_sentence": SOURCE, "sentences": SENTENCES}
    with httpx.Client(base_url=url) as client:
        raw = client.post(f"/models/{ID}", json={"inputs": inputs}).json()
    assert client_of(f"{url}/models/{ID}").sentence_similarity(SOURCE, other_sentences=SENTENCES) == raw


@pytest.mark.parametrize("path", [f"/models/{ID}", f"/pipeline/feature-extraction/{ID}"])
def test_the_hubs_client_gets_an_embedding_of_length_1(url: str, embed: Embed, path: str) -> None:
    vector = np.squeeze(client_of(f"{url}{path}").feature_extraction(SOURCE))
    assert vector.shape == (384,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(vector, embed([SOURCE])[0], rtol=0, atol=1e-6)


def test_embeddings_from_the_server_have_the_documented_cosines(url: str, precision: str) -> None:
    with httpx.Client(base_url=url) as client:
        vectors = np.array(client.post(f"/models/{ID}", json={"inputs": [SOURCE, *SENTENCES]}).json())
    assert vectors.shape == (4, 384)
    check_documented((vectors[1:] @ vectors[0]).tolist(), precision)


def test_the_document_lists_the_models_paths(url: str) -> None:
    with urlopen(f"{url}/openapi.json") as answer:
        document = json.load(answer)
    assert document["openapi"] == "3.0.3"
    paths = {
        path: entry["post"]["summary"]
        for path, entry in document["paths"].items()
        if path.startswith("/models/") and "post" in entry
    }
    assert paths == {
        f"/models/{ID}": "sentence-similarity",
        f"/models/{ID}/pipeline/feature-extraction": "feature-extraction",
        "/models/{model_id}/v1/embeddings": "Vectors of texts",
    }


def test_the_example_of_the_document_gets_the_answer_it_shows(url: str, precision: str) -> None:
    with httpx.Client(base_url=url) as client:
        operation = client.get("/openapi.json").json()["paths"][f"/models/{ID}"]["post"]
        example = operation["requestBody"]["content"]["application/json"]["example"]
        shown = operation["responses"]["200"]["content"]["application/json"]["example"]
        answer = client.post(f"/models/{ID}", json=example).json()
    np.testing.assert_allclose(answer, shown, rtol=0, atol={"fp32": 1e-4, "int8": 0.1}[precision])


@settings(max_examples=25)
@given(order=st.lists(st.integers(0, len(TEXTS) - 1), min_size=1, max_size=8))
def test_neither_order_nor_company_changes_an_answer(
    embed: Embed, alone: list[Vector], precision: str, order: list[int]
) -> None:
    together = embed([TEXTS[index] for index in order])
    expected = [alone[index] for index in order]
    if precision == "fp32":
        np.testing.assert_allclose(together, expected, rtol=0, atol=1e-5)
    else:  # run row by row: one scale for the whole batch would change them
        np.testing.assert_array_equal(together, expected)


def test_every_text_has_a_vector_of_length_1(alone: list[Vector]) -> None:
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1, rtol=0, atol=1e-5)


def test_inspect_verifies_the_bundle(minilm_bundle: Path) -> None:
    command = [sys.executable, "-m", "onnxpipe", "inspect", str(minilm_bundle), "--verify"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    output = subprocess.check_output(command, env=environment, text=True)
    assert output.endswith("verified: every digest and every golden answer is as recorded\n")
