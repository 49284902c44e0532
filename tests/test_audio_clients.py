"""Sound over HTTP to real models: curl as the API's documentation calls it, and a client that walks away."""

import asyncio
import base64
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import onnxpipe
from onnxpipe.records import plain
from serving import serving

pytest.importorskip("torch", reason="tiny models need the export extra")

SAMPLE = "audio/speech/api_inference_sample1.flac"
MODELS = {
    "multilingual": "ForSpeechSeq2Seq",
    "wav2vec2": "ForCTC",
    "hubert-classifier": "ForAudioClassification",
}


@pytest.fixture(scope="module")
def bundles(tiny_bundle: Callable[..., Path]) -> dict[str, Path]:
    return {family: tiny_bundle(family, head) for family, head in MODELS.items()}


@pytest.fixture(scope="module")
def url(bundles: dict[str, Path]) -> Iterator[str]:
    with serving(*map(str, bundles.values())) as (address, _):
        yield address


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("family", MODELS)
def test_curl_sends_a_file_as_it_is_or_in_base64(url, bundles, test_data, tmp_path, family):
    file = test_data / SAMPLE
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"inputs": base64.b64encode(file.read_bytes()).decode(), "parameters": {}}))
    expected = plain(onnxpipe.load(bundles[family])(file))
    if isinstance(expected, dict):
        expected = {name: value for name, value in expected.items() if value is not None}
    for sent in (["--data-binary", f"@{file}"], ["-H", "Content-Type: application/json", "--data-binary", f"@{body}"]):
        command = ["curl", "-sS", "-X", "POST", f"{url}/models/tiny/{family}", "-H", "Authorization: Bearer x", *sent]
        done = subprocess.run(command, capture_output=True, check=True, timeout=60)
        given = json.loads(done.stdout)
        if isinstance(expected, dict):
            assert given == expected
        else:
            assert [item["label"] for item in given] == [item["label"] for item in expected]


def test_the_model_writes_nothing_more_when_the_client_has_left(bundles, test_data, monkeypatch):
    pytest.importorskip("fastapi", reason="needs the server extra")
    from onnxpipe.generation.writer import writer_of
    from onnxpipe_server.app import create_app
    from onnxpipe_server.models import Models, load_served
    from onnxpipe_server.settings import Settings

    served = load_served(bundles["multilingual"])
    loop = writer_of(served.model).loop
    third, left, steps, advance = threading.Event(), threading.Event(), [], loop._advance

    def step() -> None:
        steps.append(None)
        if len(steps) == 3:
            third.set()
            assert left.wait(20)
        advance()

    monkeypatch.setattr(loop, "_advance", step)
    app = create_app(Models([served]), Settings())
    messages = [{"type": "http.request", "body": (test_data / "audio/speech/jfk.flac").read_bytes()}]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": []}
    sent = []

    async def receive():
        if messages:
            return messages.pop()
        await asyncio.to_thread(third.wait, 20)
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    async def leave():
        running = asyncio.create_task(app(scope, receive, send))
        await asyncio.to_thread(third.wait, 20)
        await asyncio.sleep(0.2)  # until the server has seen it
        left.set()
        await asyncio.wait_for(running, 20)

    asyncio.run(leave())
    assert len(steps) == 3
    assert sent[0]["status"] == 499
