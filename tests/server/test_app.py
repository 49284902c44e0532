import pytest

ORIGIN = {"origin": "https://example.org"}


@pytest.mark.parametrize("path", ["/models/acme/labels", "/", "/anywhere"])
def test_a_preflight_is_answered_and_names_the_headers_asked_for(client, path):
    asked = "authorization,content-type,x-use-cache,x-wait-for-model"
    response = client.request(
        "OPTIONS",
        path,
        headers={**ORIGIN, "access-control-request-method": "POST", "access-control-request-headers": asked},
    )

    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "*"
    assert set(response.headers["access-control-allow-methods"].split(", ")) == {"GET", "POST", "OPTIONS"}
    assert set(asked.split(",")) <= set(response.headers["access-control-allow-headers"].replace(" ", "").split(","))


def test_every_header_of_an_answer_may_be_read_by_a_page(client):
    response = client.post("/models/labels", json={"inputs": "long"}, headers=ORIGIN)

    exposed = response.headers["access-control-expose-headers"].split(", ")
    assert {name for name in response.headers if name.startswith("x-")} <= set(exposed)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", {"inputs": "abcw", "parameters": {"truncate": 2}}),
        ("/generate_stream", {"inputs": "w"}),
        ("/v1/completions", {"prompt": "abcw", "truncate": 2}),
    ],
)
def test_every_header_of_other_dialects_may_be_read_by_a_page_too(letters, path, body):
    response = letters.post(path, json=body, headers=ORIGIN)

    assert response.status_code == 200
    exposed = response.headers["access-control-expose-headers"].split(", ")
    assert {name for name in response.headers if name.startswith("x-")} <= {*exposed, "x-accel-buffering"}
    assert response.headers.get("x-truncated") == ("3" if "truncate" in str(body) else None)


def test_only_the_allowed_origins_may_call_when_they_are_named(served, make_client):
    client = make_client(served("a", "labels"), cors_origins=("https://example.org",))

    allowed = client.get("/health", headers=ORIGIN)
    foreign = client.get("/health", headers={"origin": "https://example.com"})

    assert allowed.headers["access-control-allow-origin"] == "https://example.org"
    assert "access-control-allow-origin" not in foreign.headers
