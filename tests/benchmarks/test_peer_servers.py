import json
import subprocess
import sys
import tempfile
import urllib.request

import pytest

from onnxpipe_bench import peer_servers

# an interpreter that tells how it was called, where a server is expected
FAKE = """#!{python}
import http.server, json, os, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        told = dict(argv=sys.argv[1:], files=os.listdir(), offline=os.getenv("HF_HUB_OFFLINE"))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())
    def log_message(self, *_): ...
port = sys.argv[sys.argv.index("--port") + 1] if "--port" in sys.argv else sys.argv[-1]
http.server.HTTPServer(("127.0.0.1", int(port)), Answer).serve_forever()
"""


@pytest.fixture
def python(tmp_path):
    file = tmp_path / "python"
    file.write_text(FAKE.format(python=sys.executable), encoding="utf-8")
    file.chmod(0o755)
    return str(file)


def told(running):
    with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/health") as response:
        return json.loads(response.read())


def test_litserve_is_given_the_graph_of_the_precision_and_the_tokenizer(tiny_bundle, python):
    bundle = tiny_bundle("bert", "")
    with peer_servers.litserve(python, str(bundle), "fp32") as running:
        script, graph, tokenizer, threads, port = told(running)["argv"]
    assert script.endswith("litserve_server.py")
    assert graph == str(bundle / "onnx" / "model.onnx")
    assert tokenizer == str(bundle / "tokenizer.json")
    assert (threads, port) == ("2", str(running.port))


def test_infinity_is_started_offline_in_a_folder_that_has_one_graph_and_is_gone_afterwards(
    tiny_bundle, python, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with peer_servers.infinity(python, str(tiny_bundle("bert", "")), "fp32") as running:
        known = told(running)
    assert known["argv"][:5] == ["-m", "infinity_emb.cli", "v2", "--model-id", "."]
    assert [name for name in known["files"] if name.endswith(".onnx")] == ["model.onnx"]
    assert {"config.json", "tokenizer.json"} <= set(known["files"])
    assert known["offline"] == "1"
    assert not list(tmp_path.glob("tmp*"))


def test_an_environment_that_is_there_is_not_made_again(tmp_path, monkeypatch):
    installed = []

    def install(peer, folder):
        installed.append(folder.name)
        (folder / "bin").mkdir(parents=True)

    monkeypatch.setattr(peer_servers, "install", install)
    assert peer_servers.found(tmp_path, "litserve") is None
    for _ in range(2):
        peer_servers.set_up(tmp_path)
    assert installed == ["litserve", "infinity-server"]
    assert peer_servers.found(tmp_path, "litserve") == str(tmp_path / "litserve" / "bin" / "python")


def test_what_cannot_be_installed_is_told_with_pips_last_line(tmp_path, monkeypatch):
    def install(peer, folder):
        raise subprocess.CalledProcessError(1, "pip", stderr="Collecting\nERROR: no such version\n")

    monkeypatch.setattr(peer_servers, "install", install)
    assert peer_servers.set_up(tmp_path)["litserve"] == "cannot be installed: ERROR: no such version"
    assert peer_servers.found(tmp_path, "litserve") is None


def test_torch_is_pinned_wherever_it_is_installed():
    named = [package for peer in peer_servers.ENVIRONMENTS.values() for package in peer.packages]
    assert [package for package in named if package.startswith("torch")] == ["torch==2.13.0"]
    assert all("==" in package for package in named)
