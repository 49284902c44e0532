import json

import numpy as np
import pytest

from fake_encoder import POISON, make_encoder

IDS = {"name": "input_ids", "datatype": "INT64", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 0]}
MASK = {"name": "attention_mask", "datatype": "INT64", "shape": [2, 3], "data": [[1, 1, 1], [1, 1, 0]]}
HIDDEN = [1, 1, 2, 1, 3, 1, 4, 1, 5, 1, 0, 0]
INFER = "/v2/models/acme/vectors/infer"
LENGTH = "inference-header-content-length"


@pytest.fixture(scope="module")
def client(make_client, tmp_path_factory):
    return make_client(make_encoder(tmp_path_factory.mktemp("encoders"), "acme/vectors"))


def test_the_server_is_live_ready_and_says_what_it_is(client):
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]


@pytest.mark.parametrize(
    "path", ["/v2/models/acme/vectors", "/v2/models/vectors", "/v2/models/acme%2Fvectors/versions/1"]
)
def test_a_model_tells_what_its_graph_takes_and_gives(client, path):
    assert client.get(path).json() == {
        "name": "acme/vectors",
        "versions": ["abc123"],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "input_ids", "datatype": "INT64", "shape": [-1, -1]},
            {"name": "attention_mask", "datatype": "INT64", "shape": [-1, -1]},
        ],
        "outputs": [{"name": "last_hidden_state", "datatype": "FP32", "shape": [-1, -1, 2]}],
    }


def test_a_model_is_ready(client):
    response = client.get("/v2/models/acme/vectors/ready")

    assert (response.status_code, response.json()) == (200, {"name": "acme/vectors", "ready": True})


@pytest.mark.parametrize("path", ["/v2/models/nobody", "/v2/models/nobody/ready"])
def test_an_unknown_model_is_a_404_with_an_error(client, path):
    response = client.get(path)

    assert (response.status_code, response.json()) == (404, {"error": "Model nobody does not exist"})


@pytest.mark.parametrize("path", [INFER, "/v2/models/vectors/infer", "/v2/models/acme/vectors/versions/1/infer"])
def test_tensors_flat_or_nested_run_through_the_graph(client, path):
    response = client.post(path, json={"id": "7", "inputs": [IDS, MASK]})

    assert response.json() == {
        "model_name": "acme/vectors",
        "model_version": "abc123",
        "id": "7",
        "outputs": [{"name": "last_hidden_state", "datatype": "FP32", "shape": [2, 3, 2], "data": HIDDEN}],
    }
    assert response.headers["x-compute-type"] == "cpu"
    assert response.headers["x-compute-tokens"] == "6"


def test_bytes_behind_the_json_are_tensors_too(client):
    ids, mask = (np.array(tensor["data"], "<i8").tobytes() for tensor in (IDS, MASK))
    inputs = [
        {name: value for name, value in tensor.items() if name != "data"} | {"parameters": {"binary_data_size": 48}}
        for tensor in (IDS, MASK)
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    response = client.post(INFER, content=head + ids + mask, headers={LENGTH: str(len(head))})
    size = int(response.headers[LENGTH])
    (output,) = json.loads(response.content[:size])["outputs"]

    assert response.headers["content-type"] == "application/octet-stream"
    assert output == {
        "name": "last_hidden_state",
        "datatype": "FP32",
        "shape": [2, 3, 2],
        "parameters": {"binary_data_size": 48},
    }
    assert np.frombuffer(response.content[size:], "<f4").tolist() == HIDDEN


def test_an_output_may_be_asked_for_alone_and_as_bytes(client):
    wanted = [{"name": "last_hidden_state", "parameters": {"binary_data": True}}]
    response = client.post(INFER, json={"inputs": [IDS, MASK], "outputs": wanted})

    assert np.frombuffer(response.content[int(response.headers[LENGTH]) :], "<f4").tolist() == HIDDEN


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "`inputs`: required"),
        ({"inputs": []}, "attention_mask is missing"),
        ({"inputs": [IDS]}, "attention_mask is missing"),
        ({"inputs": [IDS, MASK, IDS | {"name": "x"}]}, "`inputs[2].name`: expected one of input_ids, attention_mask"),
        ({"inputs": [IDS | {"datatype": "FP32"}, MASK]}, "`inputs[0].datatype`: expected INT64"),
        ({"inputs": [IDS | {"shape": [6]}, MASK]}, "`inputs[0].shape`: expected [-1, -1]"),
        ({"inputs": [IDS | {"shape": [0, 3]}, MASK]}, "`inputs[0].shape`"),
        ({"inputs": [IDS | {"shape": [2, 4]}, MASK]}, "expected 8 numbers as the shape says, given 6"),
        ({"inputs": [IDS | {"data": [1.5] * 6}, MASK]}, "expected numbers of INT64"),
        ({"inputs": [IDS | {"data": [2**63] * 6}, MASK]}, "INT64"),
        ({"inputs": [IDS | {"data": ["a"] * 6}, MASK]}, "expected numbers of INT64"),
        ({"inputs": [IDS | {"data": [[1], [1, 2]]}, MASK]}, "lists of equal lengths"),
        ({"inputs": [IDS | {"data": None}, MASK]}, "`inputs[0].data`: required"),
        ({"inputs": [IDS | {"shape": [3, 2]}, MASK]}, "attention_mask has 2 batch, but input_ids 3"),
        ({"inputs": [IDS, MASK], "outputs": [{"name": "x"}]}, "`outputs[0].name`: expected one of last_hidden_state"),
        ({"inputs": [IDS | {"parameters": {"binary_data_size": 9}}, MASK]}, "expected a number up to 0"),
    ],
)
def test_what_the_graph_does_not_take_is_a_400_with_an_error(client, body, message):
    response = client.post(INFER, json=body)

    assert response.status_code == 400
    assert response.json().keys() == {"error"}
    assert message in response.json()["error"]


@pytest.mark.parametrize("length", ["x", "-1", "99999"])
def test_a_length_beyond_the_body_is_a_400(client, length):
    assert client.post(INFER, json={"inputs": [IDS, MASK]}, headers={LENGTH: length}).status_code == 400


def test_tensors_that_a_graph_cannot_run_on_are_a_400_without_its_internals(client):
    response = client.post(INFER, json={"inputs": [IDS | {"data": [POISON] * 6}, MASK]})

    assert response.status_code == 400
    assert "cannot run on these tensors" in response.json()["error"]
    assert "secret" not in response.text


def test_a_model_that_writes_has_no_single_graph(letters):
    for response in (letters.get("/v2/models/letters"), letters.post("/v2/models/letters/infer", json={})):
        assert response.status_code == 422
        assert "writes step by step" in response.json()["error"]


def test_the_document_has_the_routes(client):
    paths = client.get("/openapi.json").json()["paths"]

    assert paths["/v2/models/{model_id}/infer"]["post"]["tags"] == ["tensors"]
    assert {
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/{model_id}",
        "/v2/models/{model_id}/ready",
    } <= set(paths)
