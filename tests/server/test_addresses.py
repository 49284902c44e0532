"""No address or path that a request names is ever opened."""

import base64
import socket

import pytest

PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{url}/a.wav\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile {url}/a.wav\n",
    "pls": "[playlist]\nFile1={url}/a.wav\nNumberOfEntries=1\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\na=control:{url}\nm=audio 9 RTP/AVP 0\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{url}</BaseURL></MPD>',
}


@pytest.fixture
def ears(served, make_client):
    pytest.importorskip("soundfile")
    return make_client(served("acme/ears", "ears"))


@pytest.fixture
def visited():
    """An address, and whether anybody has come to it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.fixture
def secret(tmp_path):
    """A file that is sound."""
    import wave

    with wave.open(str(tmp_path / "secret.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(3200))
    return tmp_path / "secret.wav"


@pytest.mark.parametrize("key", ["inputs", "image"])
@pytest.mark.parametrize("scheme", ["", "HTTP", "ftp", "gopher"])
def test_an_address_in_the_place_of_a_file_is_refused_and_not_opened(ears, visited, key, scheme):
    address = scheme + visited[4:] if scheme else visited

    response = ears.post("/", json={key: f"{address}/a.wav"})

    assert response.status_code == 400
    assert "expected base64" in response.json()["error"]


@pytest.mark.parametrize("shape", ["{}", "file://{}", "data:audio/wav,{}", "data:;base64,{}"])
def test_a_path_in_the_place_of_a_file_is_refused_and_not_opened(ears, secret, shape):
    response = ears.post("/", json={"inputs": shape.format(secret)})

    assert response.status_code == 400
    assert "[1600]" not in response.text


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("coded", [False, True])
def test_a_file_that_names_addresses_opens_none(ears, visited, kind, coded):
    content = PLAYLISTS[kind].format(url=visited).encode()
    body = {"json": {"inputs": base64.b64encode(content).decode()}} if coded else {"content": content}

    assert ears.post("/", **body).status_code in (400, 415)


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("shape", ["{}", "file://{}"])
def test_a_file_that_names_paths_opens_none(ears, secret, kind, shape):
    content = PLAYLISTS[kind].replace("{url}/a.wav", shape).replace("{url}", shape).replace("{}", str(secret)).encode()

    response = ears.post("/", content=content)

    assert response.status_code in (400, 415)


def test_an_address_as_the_model_of_a_request_is_only_a_name(letters, visited):
    response = letters.post("/v1/completions", json={"model": visited, "prompt": "w", "max_tokens": 1})

    assert response.status_code == 200


def test_an_address_in_a_text_is_only_a_text(labels, visited):
    assert labels.post("/", json={"inputs": f"{visited}/x"}).status_code == 200


def test_an_image_in_a_message_is_not_fetched(chat, visited):
    response = chat([{"type": "image_url", "image_url": {"url": f"{visited}/a.png"}}])

    assert response.status_code == 422
