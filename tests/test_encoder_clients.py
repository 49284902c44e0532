"""Encoders through the dialects of other servers, over real connections: the same numbers as from the library."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the server extra")

import onnxpipe
from onnxpipe_server.app import create_app
from onnxpipe_server.models import Models, load_served
from onnxpipe_server.settings import Settings
from serving import serving, serving_app

TEXTS = ["My name is Clara.", "I live in Berkeley, California.", ""]
TASKS = ("feature-extraction", "text-classification", "image-classification", "text-generation")


@pytest.fixture(scope="module")
def url(task_bundles: dict[str, Path]) -> Iterator[str]:
    with serving(*(str(task_bundles[task]) for task in TASKS)) as (address, _):
        yield address


def test_vectors_of_every_route_are_those_of_the_hidden_states(url, task_bundles):
    extract = onnxpipe.load(task_bundles["feature-extraction"])  # of a model that does not pool
    hidden = [extract(text)[0] for text in TEXTS[:2]]
    means = np.array([states.mean(axis=0) for states in hidden])
    units = means / np.linalg.norm(means, axis=1, keepdims=True)

    embed = httpx.post(f"{url}/embed", json={"inputs": TEXTS[:2]}).json()
    openai = httpx.post(f"{url}/v1/embeddings", json={"input": TEXTS[:2]}).json()["data"]
    every = httpx.post(f"{url}/embed_all", json={"inputs": TEXTS[:2]}).json()

    np.testing.assert_allclose(embed, units, atol=1e-5)
    np.testing.assert_allclose([item["embedding"] for item in openai], units, atol=1e-5)
    for given, states in zip(every, hidden, strict=True):
        np.testing.assert_allclose(given, states, atol=1e-5)


def test_token_ids_give_the_vector_of_their_text(url):
    tokens = httpx.post(f"{url}/tokenize", json={"inputs": TEXTS[0], "model": "feature-extraction"}).json()[0]
    ids = [token["id"] for token in tokens]

    by_ids = httpx.post(f"{url}/embed", json={"inputs": ids}).json()
    np.testing.assert_allclose(by_ids, httpx.post(f"{url}/embed", json={"inputs": TEXTS[0]}).json(), atol=1e-6)
    decoded = httpx.post(f"{url}/decode", json={"ids": ids, "model": "feature-extraction"}).json()
    assert decoded == [TEXTS[0]]


def test_labels_of_pairs_are_those_of_the_task(url, task_bundles):
    classify = onnxpipe.load(task_bundles["text-classification"])
    inputs = [[TEXTS[0]], TEXTS[:2]]
    given = httpx.post(f"{url}/predict", json={"inputs": inputs}).json()
    expected = classify([TEXTS[0], {"text": TEXTS[0], "text_pair": TEXTS[1]}])

    assert [[(label["label"], pytest.approx(label["score"], abs=1e-6)) for label in labels] for labels in given] == [
        [(label.label, label.score) for label in labels] for labels in expected
    ]


def test_a_graph_runs_on_tensors_of_real_numbers_as_bytes(url, task_bundles):
    pipeline = onnxpipe.load(task_bundles["image-classification"])
    graph = pipeline.model.graph()
    metadata = httpx.get(f"{url}/v2/models/tiny/image-classification").json()
    (tensor,) = metadata["inputs"]
    shape = [2 if size == -1 and axis == 0 else size for axis, size in enumerate(tensor["shape"])]
    shape = [32 if size == -1 else size for size in shape]
    pixels = np.random.default_rng(0).normal(size=shape).astype("<f4")
    asked = {"name": tensor["name"], "datatype": "FP32", "shape": shape}
    wanted = [{"name": graph.outputs[0].name, "parameters": {"binary_data": True}}]
    head = httpx.Request(
        "POST",
        url,
        json={"inputs": [asked | {"parameters": {"binary_data_size": pixels.nbytes}}], "outputs": wanted},
    ).content
    binary = httpx.post(
        f"{url}/v2/models/tiny/image-classification/infer",
        content=head + pixels.tobytes(),
        headers={"inference-header-content-length": str(len(head))},
    )
    numbers = httpx.post(
        f"{url}/v2/models/tiny/image-classification/infer",
        json={"inputs": [asked | {"data": pixels.reshape(-1).tolist()}]},
    ).json()["outputs"][0]
    expected = pipeline.model.sessions["model"].run({tensor["name"]: pixels})[graph.outputs[0].name]

    size = int(binary.headers["inference-header-content-length"])
    np.testing.assert_allclose(np.frombuffer(binary.content[size:], "<f4"), expected.reshape(-1), atol=1e-5)
    np.testing.assert_allclose(np.reshape(numbers["data"], numbers["shape"]), expected, atol=1e-5)


def test_a_real_graph_that_cannot_look_a_token_up_answers_400(task_bundles):
    # in this process: onnxruntime says why on standard error, which must stay empty above
    models = Models([load_served(task_bundles["feature-extraction"])])
    with serving_app(create_app(models, Settings())) as address:
        url = f"{address}/v2/models/tiny/feature-extraction"
        tensors = [
            {"name": tensor["name"], "datatype": tensor["datatype"], "shape": [1, 1], "data": [10**6]}
            for tensor in httpx.get(url).json()["inputs"]
        ]
        response = httpx.post(f"{url}/infer", json={"inputs": tensors})

    assert response.status_code == 400
    assert response.json()["error"].startswith("the graph of tiny/feature-extraction cannot run on these tensors")
