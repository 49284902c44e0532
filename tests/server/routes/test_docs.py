import re

import pytest


def test_the_page_loads_nothing_from_elsewhere(client):
    page = client.get("/docs").text

    assert not re.search(r"https?:|//[a-z]", page.replace("<!--", ""))
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(loaded) == 3
    for path in loaded:
        assert client.get(path).status_code == 200, path


def test_the_page_shows_the_document(client):
    assert "url: '/openapi.json'" in client.get("/docs").text


@pytest.mark.parametrize("path", ["/openapi.json", "/api-doc/openapi.json"])
def test_the_document_has_two_names(client, path):
    response = client.get(path)

    assert response.headers["content-type"] == "application/json"
    assert response.json()["info"]["title"] == "onnxpipe"


def test_a_missing_asset_is_a_404_in_json(client):
    assert client.get("/docs/assets/../../secret").json()["error_type"] == "not_found"
