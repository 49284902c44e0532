import pytest

from onnxpipe.version import __version__

STATUS = {
    "id": "acme/labels",
    "task": "text-classification",
    "tasks": ["text-classification"],
    "precision": "fp32",
    "size_bytes": 1_500_000,
    "problem": None,
    "loaded": True,
    "state": "Loaded",
    "compute_type": "cpu",
    "framework": "onnxruntime",
}
INFO = {
    "model_id": "acme/labels",
    "model_sha": "abc123",
    "model_pipeline_tag": "text-classification",
    "model_dtype": "fp32",
    "version": __version__,
}


@pytest.mark.parametrize(
    "path",
    ["/health", "/", "/ping", "/health/ready", "/health/", "/models/labels/health", "/models/acme%2Flabels/health"],
)
def test_a_server_that_answers_is_healthy(client, path):
    response = client.get(path)

    assert response.status_code == 200
    assert response.json() == {"status": "ok"}


@pytest.mark.parametrize("path", ["/models/nobody/health", "/models/nobody/info", "/models/nobody", "/status/nobody"])
def test_a_model_that_is_not_served_is_a_404(client, path):
    response = client.get(path)

    assert response.status_code == 404
    assert response.json()["error"] == "Model nobody does not exist"


@pytest.mark.parametrize(
    "path", ["/models/acme/labels", "/models/labels", "/status/acme/labels", "/status/acme%2Flabels"]
)
def test_a_model_tells_its_state(client, path):
    assert client.get(path).json() == STATUS


def test_all_models_are_listed(client):
    first, second = client.get("/models").json()

    assert first == STATUS
    assert second["id"] == "acme/embedder"
    assert second["tasks"] == ["sentence-similarity", "feature-extraction"]
    assert second["compute_type"] == "gpu"


def test_a_model_tells_what_it_is(client):
    assert client.get("/models/acme/labels/info").json() == INFO


def test_the_only_model_tells_what_it_is_without_its_id(labels, client):
    assert labels.get("/info").json()["model_id"] == "acme/labels"
    assert client.get("/info").status_code == 400


def test_models_are_listed_by_the_framework_that_would_run_them(served, letters_model, make_client):
    client = make_client(served("acme/labels", "labels"), letters_model)
    label = {
        "model_id": "acme/labels",
        "task": "text-classification",
        "framework": "transformers",
        "compute_type": "cpu",
    }

    assert client.get("/framework/transformers").json() == [label]
    (writer,) = client.get("/framework/text-generation-inference").json()
    assert (writer["model_id"], writer["task"]) == ("acme/letters", "text-generation")
    assert client.get("/framework/onnxruntime").json() == [label, writer]
    assert client.get("/framework/diffusers").json() == []
