import pytest

from onnxpipe_server.status import STATUSES


@pytest.mark.parametrize(
    ("text", "status", "error", "error_type"),
    [
        ("invalid", 400, "bad text", "validation"),
        ("unprocessable", 422, "no such prompt", "validation"),
        ("overloaded", 429, "too much", "overloaded"),
        ("cancelled", 499, "gone", "cancelled"),
        ("bundle", 500, "damaged", "backend"),
        ("nan", 500, "the model's answer to these inputs holds NaN or infinity", "backend"),
        ("late", 504, "too slow", "timeout"),
    ],
)
def test_each_kind_of_error_has_its_status(labels, text, status, error, error_type):
    response = labels.post("/", json={"inputs": text})

    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"error": error, "error_type": error_type}


@pytest.mark.parametrize(
    ("content_type", "status"), [("application/pdf", 415), ("text/plain", 400), ("image/png", 400)]
)
def test_an_image_that_cannot_be_decoded_is_415_only_where_its_type_is_unknown(labels, content_type, status):
    response = labels.post("/", content=b"picture", headers={"content-type": content_type})

    assert response.status_code == status
    assert response.json()["error"].startswith("not an image")


def test_an_overloaded_server_says_when_to_come_back(labels):
    assert labels.post("/", json="overloaded").headers["retry-after"] == "1"


def test_a_failing_model_is_in_the_log_under_the_id_of_the_request(labels, caplog):
    labels.post("/", json="bundle", headers={"x-request-id": "r-7"})

    assert "request r-7: damaged" in caplog.text


@pytest.mark.parametrize("path", ["/nowhere", "/models/a/b/nothing/x/health/y"])
def test_an_unknown_route_or_model_is_a_404_in_json(labels, path):
    response = labels.get(path)

    assert response.status_code == 404
    assert response.json()["error_type"] == "not_found"


def test_a_wrong_method_is_a_405_in_json_that_names_the_right_one(labels):
    response = labels.request("DELETE", "/health")

    assert response.status_code == 405
    assert response.json() == {
        "error": "Method Not Allowed: DELETE /health; /docs lists the routes",
        "error_type": "method_not_allowed",
    }
    assert response.headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v1/images", 404, "unknown_url"),
        ("POST", "/models/acme/labels/v1/images", 404, "model_not_found"),  # a model may be called so
        ("POST", "/models/acme%0A/v1/completions", 404, "unknown_url"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
    ],
)
def test_openai_paths_without_a_route_refuse_as_openai_does(labels, method, path, status, code):
    response = labels.request(method, path)

    assert response.status_code == status
    assert response.json()["error"]["code"] == code


def test_every_word_for_a_kind_of_error_is_in_lower_case():
    assert all(error_type == error_type.lower() for _, error_type in STATUSES.values())
