import pytest


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
