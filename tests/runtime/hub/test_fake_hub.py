"""`onnxpipe pull` through huggingface_hub itself, against a hub on this machine.

In processes of their own: huggingface_hub reads its settings once, when it is imported.
"""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading

import pytest

huggingface_hub = pytest.importorskip("huggingface_hub", reason="only export and pull need the hub")

COMMIT = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"


class FakeHub(http.server.BaseHTTPRequestHandler):
    """What huggingface_hub asks of the hub: a model's files, and their content, from any byte on."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._answer(body=True)

    def do_HEAD(self):
        self._answer(body=False)

    def _answer(self, *, body):
        hub = self.server
        path = self.path.partition("?")[0]
        hub.asked.append((self.command, path, self.headers.get("Range"), self.headers.get("Authorization")))
        if hub.refusal is not None:
            status, code = hub.refusal
            self._send(status, {"X-Error-Code": code, "X-Error-Message": "no"}, b"{}", body=body)
        elif path.startswith("/api/models/acme/tiny/tree/"):  # releases 1 and 2 of huggingface_hub
            files = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in hub.files.items()
            ]
            self._send(200, {"Content-Type": "application/json"}, json.dumps(files).encode(), body=body)
        elif path.startswith("/api/models/acme/tiny"):
            siblings = [{"rfilename": name, "size": len(content)} for name, content in hub.files.items()]
            info = {"id": "acme/tiny", "modelId": "acme/tiny", "sha": COMMIT, "siblings": siblings, "tags": []}
            self._send(200, {"Content-Type": "application/json"}, json.dumps(info).encode(), body=body)
        else:
            self._send_file(path.removeprefix(f"/acme/tiny/resolve/{COMMIT}/"), body=body)

    def _send_file(self, name, *, body):
        content = self.server.files.get(name)
        if content is None:
            self._send(404, {"X-Error-Code": "EntryNotFound"}, b"", body=body)
            return
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        wanted = self.headers.get("Range")
        if wanted is not None:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self._send(206, headers, content[start:], body=body)
            return
        self._send(200, headers, content, body=body)

    def _send(self, status, headers, content, *, body):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(classifier_repo):
    """A hub that has the classifier's repository as acme/tiny. `refusal` is a status and a code."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    server.daemon_threads = True
    files = (file for file in classifier_repo.rglob("*") if file.is_file())
    server.files = {file.relative_to(classifier_repo).as_posix(): file.read_bytes() for file in files}
    server.asked, server.refusal = [], None
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def onnxpipe(hub, tmp_path):
    """Runs a command with that hub and a cache of its own."""

    def run(*arguments, **settings):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}",
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            **settings,
        }
        command = [sys.executable, "-m", "onnxpipe", *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    return run


def test_a_repository_is_listed_downloaded_and_then_there_without_the_network(hub, onnxpipe, tmp_path):
    listed = onnxpipe("pull", "acme/tiny", "--list", "--json")
    assert json.loads(listed.stdout)["fp32"]["size_bytes"] == len(hub.files["onnx/model.onnx"]), listed.stderr
    assert not any("resolve" in path for _, path, _, _ in hub.asked)
    hub.files["onnx/model_q4.onnx"] = b"not wanted"
    pulled = onnxpipe("pull", "acme/tiny", tmp_path / "out", "--json", HF_TOKEN="hf_secret")
    assert pulled.returncode == 0, pulled.stderr
    assert json.loads(pulled.stdout)["id"] == "acme/tiny"
    assert not any(path.endswith("model_q4.onnx") for _, path, _, _ in hub.asked)
    assert hub.asked[-1][3] == "Bearer hf_secret"
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["source"] == {"model": "acme/tiny", "revision": COMMIT}
    hub.asked.clear()
    again = onnxpipe("pull", "acme/tiny", tmp_path / "again", HF_HUB_OFFLINE="1")
    assert (again.returncode, hub.asked) == (0, []), again.stderr


def test_what_an_earlier_pull_has_downloaded_is_not_downloaded_again(hub, onnxpipe, tmp_path):
    hub.files["onnx/model_int8.onnx"] = hub.files["onnx/model.onnx"] + b"\x10\x00"  # other bytes, the same graph
    assert onnxpipe("pull", "acme/tiny", tmp_path / "out", "--precision", "fp32").returncode == 0
    hub.asked.clear()
    again = onnxpipe("pull", "acme/tiny", tmp_path / "again", "--precision", "int8")
    assert again.returncode == 0, again.stderr
    loaded = {path.rpartition("/")[2] for command, path, _, _ in hub.asked if command == "GET" and "resolve" in path}
    assert loaded == {"model_int8.onnx"}


@pytest.mark.skipif(huggingface_hub.__version__ >= "1", reason="later releases begin a file anew")
def test_a_file_that_broke_off_is_gone_on_with(hub, onnxpipe, tmp_path):
    content = hub.files["onnx/model.onnx"]
    blobs = tmp_path / "cache/hub/models--acme--tiny/blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{hashlib.sha256(content).hexdigest()}.incomplete").write_bytes(content[:100])
    done = onnxpipe("pull", "acme/tiny", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert [ranges for _, _, ranges, _ in hub.asked if ranges] == ["bytes=100-"]
    assert (tmp_path / "out/onnx/model.onnx").read_bytes() == content


@pytest.mark.parametrize(
    ("refusal", "settings", "message"),
    [
        (
            (401, "GatedRepo"),
            {},
            "the hub gives it only to accounts with access; ask on the model's page, then set HF_TOKEN",
        ),
        ((403, "GatedRepo"), {"HF_TOKEN": "hf_a"}, "the hub gives it only to accounts with access"),
        ((404, "RepoNotFound"), {}, "no such folder, and the hub has no such model, or a private one"),
        ((404, "RevisionNotFound"), {}, "the hub has no revision 'v9' of it"),
        (None, {"HF_HUB_OFFLINE": "1"}, "the hub's cache does not have it; HF_HUB_OFFLINE is set"),
        (None, {"HF_ENDPOINT": "http://127.0.0.1:9"}, "the hub did not give it"),
    ],
)
def test_what_the_hub_refuses_is_one_line_that_says_what_to_do(hub, onnxpipe, tmp_path, refusal, settings, message):
    hub.refusal = refusal
    done = onnxpipe("pull", "acme/tiny", tmp_path / "out", "--revision", "v9", **settings)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("onnxpipe: acme/tiny: ")
    assert message in last
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
