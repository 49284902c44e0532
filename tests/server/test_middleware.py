import uuid

import anyio
import pytest

from onnxpipe_server.middleware import RequestGuard


def test_a_bug_is_a_500_that_hides_its_inside_and_is_found_in_the_log(labels, caplog):
    response = labels.post("/", json="crash")

    request_id = response.headers["x-request-id"]
    assert response.status_code == 500
    assert response.json() == {"error": f"unknown error (request {request_id})", "error_type": "internal"}
    assert f"request {request_id} failed: POST /" in caplog.text
    assert "the secret of line 7" in caplog.text


def test_a_browser_can_read_a_500_too(labels):
    response = labels.post("/", json="crash", headers={"origin": "https://example.org"})

    assert response.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("path", ["/health", "/nowhere", "/docs"])
def test_every_answer_has_an_id(labels, path):
    assert uuid.UUID(labels.get(path).headers["x-request-id"])


def test_the_id_that_a_client_sends_is_kept(labels):
    assert labels.get("/health", headers={"x-request-id": "job-7.A_b"}).headers["x-request-id"] == "job-7.A_b"


@pytest.mark.parametrize("sent", ["", "with space", "a" * 129, "ü", "<script>"])
def test_an_id_that_is_not_fit_for_a_log_is_replaced(labels, sent):
    response = labels.get("/health", headers={"x-request-id": sent.encode()})

    assert uuid.UUID(response.headers["x-request-id"])


def test_a_failure_after_the_answer_began_is_left_to_the_server():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise OSError("gone")

    async def send(message):
        sent.append(message)

    sent = []
    with pytest.raises(OSError, match="gone"):
        anyio.run(RequestGuard(app), {"type": "http", "method": "GET", "path": "/", "headers": []}, None, send)
    assert len(sent) == 1


def test_what_is_no_request_passes_through():
    async def app(scope, receive, send):
        seen.append(scope)

    seen = []
    anyio.run(RequestGuard(app), {"type": "lifespan"}, None, None)
    assert seen == [{"type": "lifespan"}]
