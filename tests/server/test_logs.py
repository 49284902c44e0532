import json
import logging

import pytest

from onnxpipe_server.logs import JsonLines

SECRET = "my secret text"


@pytest.fixture
def lines(caplog):
    """The requests' lines, as JSON."""
    caplog.set_level(logging.INFO)
    return lambda: [
        json.loads(JsonLines().format(record)) for record in caplog.records if record.name == "onnxpipe_server.requests"
    ]


def test_each_request_has_one_line_with_what_it_was(labels, lines):
    response = labels.post("/models/acme/labels?api_key=1", json={"inputs": "a line", "options": {"use_cache": False}})

    (line,) = lines()
    assert line["request_id"] == response.headers["x-request-id"]
    assert (line["method"], line["path"], line["status"]) == ("POST", "/models/acme/labels", 200)
    assert (line["model"], line["task"], line["cache"]) == ("acme/labels", "text-classification", "off")
    assert set(line["ms"]) == {"queue", "preprocess", "inference", "postprocess", "total"}
    assert line["level"] == "info"
    assert line["time"].endswith("Z")


@pytest.mark.parametrize("parameters", [{}, {"top_k": 0}, {"mode": SECRET}])
def test_no_line_has_anything_of_the_inputs(labels, caplog, lines, parameters):
    caplog.set_level(logging.DEBUG, "onnxpipe_server")
    body = {"inputs": SECRET, "parameters": parameters}

    labels.post(f"/?text={SECRET}", json=body, headers={"authorization": f"Bearer {SECRET}"})

    assert len(lines()) == 1
    assert not any(SECRET in JsonLines().format(record) for record in caplog.records if record.name != "httpx")


def test_a_failure_is_one_line_with_its_kind(labels, lines):
    labels.post("/", json="bundle")

    (line,) = lines()
    assert (line["status"], line["error_type"]) == (500, "backend")


def test_probes_make_no_lines(labels, lines):
    for path in ("/health", "/ping", "/metrics", "/health/ready"):
        labels.get(path)

    assert lines() == []


def test_a_path_cannot_break_a_line_nor_fill_the_log(labels, caplog):
    caplog.set_level(logging.INFO)
    labels.get("/a%0Ab" + "c" * 5000)

    (message,) = [record.getMessage() for record in caplog.records if record.name == "onnxpipe_server.requests"]
    assert "\n" not in message
    assert len(message) < 400


def test_a_traceback_is_part_of_its_line():
    error = ValueError("broken")
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "failed", (), (ValueError, error, None))
    line = JsonLines().format(record)

    assert "\n" not in line
    assert "ValueError: broken" in json.loads(line)["traceback"]
