"""Sound on the wire, over a fake model that says how much it heard."""

import base64
import io
import json
import sys

import numpy as np
import pytest

soundfile = pytest.importorskip("soundfile", reason="needs the audio extra")

# of the contract, and what browsers add
CONTENT_TYPES = [
    "audio/x-flac",
    "audio/flac",
    "audio/mpeg",
    "audio/x-mpeg-3",
    "audio/wave",
    "audio/wav",
    "audio/x-wav",
    "audio/ogg",
    "audio/x-audio",
    "audio/webm",
    "audio/webm;codecs=opus",
    "audio/AMR",
    "audio/amr",
    "audio/AMR-WB",
    "audio/AMR-WB+",
    "audio/m4a",
    "audio/x-m4a",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
]


def content(seconds=0.5, rate=16_000, kind="FLAC"):
    stream = io.BytesIO()
    tone = 0.5 * np.sin(np.arange(int(seconds * rate)) / 10)
    soundfile.write(stream, tone, rate, format=kind)
    return stream.getvalue()


def encoded(sound):
    return base64.b64encode(sound).decode()


@pytest.fixture(scope="module")
def listener(served, make_client):
    return make_client(served("acme/ears", "ears"), max_audio_seconds=60)


@pytest.mark.parametrize("content_type", [None, *CONTENT_TYPES])
def test_the_body_is_the_file_whatever_its_declared_type(listener, content_type):
    headers = {} if content_type is None else {"content-type": content_type}
    response = listener.post("/models/acme/ears", content=content(), headers={**headers, "x-use-cache": "0"})
    assert (response.status_code, response.json()) == (200, [8000])
    assert response.headers["x-compute-audio-length"] == "0.500"
    assert "x-compute-characters" not in response.headers


@pytest.mark.parametrize("kind", ["FLAC", "WAV", "OGG", "MP3", "AIFF"])
def test_each_format_is_read_raw_and_as_base64_and_as_a_data_url(listener, kind):
    sound = content(kind=kind)
    raw = listener.post("/", content=sound).json()
    assert raw[0] >= 8000
    for inputs in (encoded(sound), f"data:audio/{kind.lower()};base64,{encoded(sound)}"):
        assert listener.post("/", json={"inputs": inputs}).json() == raw
        assert listener.post("/", content=json.dumps({"inputs": inputs})).json() == raw  # without a declared type


def test_parameters_come_beside_base64(listener):
    body = {"inputs": encoded(content()), "parameters": {"rate": 8_000, "unknown": 1}}
    assert listener.post("/", json=body).json() == [4000]


def test_several_sounds_have_several_answers_and_their_lengths_add_up(listener):
    response = listener.post("/", json={"inputs": [encoded(content(0.25)), encoded(content(1.0))]})
    assert response.json() == [[4000], [16_000]]
    assert response.headers["x-compute-audio-length"] == "1.250"


def test_the_length_is_what_was_decoded_where_the_header_does_not_tell(listener):
    flac = bytearray(content())
    flac[21], flac[22:26] = flac[21] & 0xF0, bytes(4)  # STREAMINFO of a stream: no number of samples
    response = listener.post("/", content=bytes(flac))
    assert (response.json(), response.headers["x-compute-audio-length"]) == ([8000], "0.500")


@pytest.mark.parametrize(
    "body", [b"no sound", b"RIFF....WAVE", b"\x89PNG\r\n\x1a\n", content()[:60], content(5.0)[:4000]]
)
def test_what_cannot_be_decoded_is_a_malformed_soundfile(listener, body):
    for response in (listener.post("/", content=body), listener.post("/", json={"inputs": encoded(body)})):
        assert response.status_code == 400
        assert response.json() == {"error": "Malformed soundfile", "error_type": "validation"}


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/pdf", 415),
        ("audio/x-of-mine", 415),
        ("image/png", 400),
        ("audio/webm;codecs=opus", 400),
        ("audio/AMR-WB+", 400),
        ("application/octet-stream", 400),
    ],
)
def test_what_cannot_be_decoded_and_was_declared_as_another_type_is_415(listener, content_type, status):
    response = listener.post("/", content=b"no sound", headers={"content-type": content_type})

    assert response.status_code == status
    assert status == 400 or f"declared as '{content_type}'" in response.json()["error"]


def test_an_empty_sound_is_a_malformed_soundfile(listener):
    response = listener.post("/", content=content(0.0, kind="WAV"))
    assert (response.status_code, response.json()["error"]) == (400, "Malformed soundfile")


def test_the_reason_is_in_the_log_under_the_id_of_the_request(listener, caplog):
    caplog.set_level("INFO")
    listener.post("/", content=b"no sound", headers={"x-request-id": "r-7"})
    assert "request r-7: the audio is corrupt, truncated or of an unknown kind (Format not recogni" in caplog.text


def test_a_kind_that_takes_an_extra_is_415_and_names_it(listener, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    response = listener.post("/", content=b"\0\0\0\x20ftypM4A " + bytes(100), headers={"content-type": "audio/m4a"})
    assert response.status_code == 415
    assert "pip install 'onnxpipe[audio-av]'" in response.json()["error"]
    assert response.json()["error_type"] == "unsupported_media_type"


def test_sound_that_lasts_too_long_is_refused(listener):
    response = listener.post("/", content=content(61.0))
    assert (response.status_code, response.json()["error_type"]) == (400, "validation")
    assert response.json()["error"] == "the audio lasts 61 s or more; at most 60 s are accepted"


def test_a_body_beyond_the_limit_is_413(served, make_client):
    small = make_client(served("acme/ears", "ears"), max_media_bytes=1000)
    assert small.post("/", content=content(5.0)).status_code == 413


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"inputs": "/etc/passwd"}, "`inputs`: expected base64"),
        ({"inputs": "http://127.0.0.1/a.flac"}, "`inputs`: expected base64"),
        ({"inputs": {"array": [0.0], "sampling_rate": 16_000}}, "`inputs`: expected base64"),
        ({"parameters": {}}, "`inputs`: required, but missing"),
    ],
)
def test_paths_addresses_and_arrays_are_not_for_the_network(listener, body, message):
    response = listener.post("/", json=body)
    assert response.status_code == 400
    assert response.json()["error"].startswith(message)


def test_the_document_says_how_sound_is_sent(listener):
    paths = listener.get("/openapi.json").json()["paths"]
    sent = paths["/models/acme/ears"]["post"]["requestBody"]["content"]
    assert sent["audio/*"] == {"schema": {"type": "string", "format": "binary"}}
    assert "audio file in base64" in json.dumps(sent["application/json"])
