import http.server
import threading
from types import SimpleNamespace

import pytest

from onnxpipe.errors import UnsupportedModel
from onnxpipe.hub.door import download, endpoint, list_repo, reach

pytest.importorskip("huggingface_hub", reason="only export and pull need the hub")
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

COMMIT = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
URL = "https://huggingface.co/api/models/acme/model/revision/main"


@pytest.fixture
def hub(monkeypatch):
    """Replaces the hub by `answer`, a folder or an error; gives the calls it got."""
    calls = []

    def replace(answer):
        def snapshot_download(repo, **options):
            calls.append((repo, options))
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
        return calls

    return replace


def http_error(cls, message):
    """An error as huggingface_hub makes it from a response; its response class differs between releases."""
    return cls(message, response=SimpleNamespace(headers={"x-request-id": "Root=1-abc"}, request=None, status_code=0))


@pytest.mark.parametrize("name", ["./absent", "a/b/c", "no such model", "..", "-/x"])
def test_a_name_that_is_no_hub_id_is_refused_without_asking_the_network(name):
    with pytest.raises(UnsupportedModel, match="is neither a folder nor a hub id"):
        download(name, None, ["*.json"])


def test_the_folder_comes_with_the_commit_that_the_cache_names_it_by(hub, tmp_path):
    snapshot = tmp_path / "models--acme--model" / "snapshots" / COMMIT
    calls = hub(str(snapshot))
    assert download("acme/model", "main", ("*.json", "*.safetensors")) == (snapshot, COMMIT)
    assert calls == [("acme/model", {"revision": "main", "allow_patterns": ["*.json", "*.safetensors"]})]


def test_without_a_revision_the_hub_chooses(hub, tmp_path):
    calls = hub(str(tmp_path / COMMIT))
    download("acme/model", None, ["*.json"])
    assert calls[0][1]["revision"] is None


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            http_error(
                RepositoryNotFoundError,
                f"404 Client Error. (Request ID: Root=1-abc)\n\nRepository Not Found for url: {URL}.\n"
                "Please make sure you specified the correct `repo_id` and `repo_type`.",
            ),
            (
                "acme/model: no such folder, and the hub has no such model, or a private one; check the id, or set "
                "HF_TOKEN to a token that may read it, or `hf auth login`"
            ),
        ),
        (
            http_error(
                GatedRepoError,
                f"401 Client Error. (Request ID: Root=1-abc)\n\nCannot access gated repo for url {URL}.\n"
                "Access to model acme/model is restricted.",
            ),
            (
                "acme/model: the hub gives it only to accounts with access; ask on the model's page, then set HF_TOKEN "
                "to a token that may read it, or `hf auth login`"
            ),
        ),
        (
            http_error(
                RevisionNotFoundError,
                f"404 Client Error. (Request ID: Root=1-abc)\n\nRevision Not Found for url: {URL}.",
            ),
            "acme/model: the hub has no revision 'v9' of it",
        ),
        (
            LocalEntryNotFoundError(
                "Cannot find an appropriate cached snapshot folder for the specified revision on the local disk and "
                "outgoing traffic has been disabled. To enable repo look-ups and downloads online, set "
                "'HF_HUB_OFFLINE=0' as environment variable."
            ),
            "acme/model: no such folder, and the hub cannot be reached to download a model of that id",
        ),
        (
            http_error(HfHubHTTPError, f"\n\n403 Forbidden: no.\nCannot access content at: {URL}."),
            "acme/model: the hub did not give it (403 Forbidden: no.)",
        ),
        (
            OfflineModeIsEnabled("Cannot reach the hub: offline mode is enabled.\nSet HF_HUB_OFFLINE=0."),
            "acme/model: the hub did not give it (Cannot reach the hub: offline mode is enabled.)",
        ),
        (
            OSError(28, "No space left on device"),
            "acme/model: the hub did not give it ([Errno 28] No space left on device)",
        ),
        (ConnectionResetError(), "acme/model: the hub did not give it (ConnectionResetError)"),
    ],
    ids=["absent", "gated", "revision", "unreachable", "forbidden", "offline", "disk", "silent"],
)
def test_a_failure_is_one_line_that_says_what_to_do_without_the_hubs_internals(hub, error, message):
    hub(error)
    with pytest.raises(UnsupportedModel) as raised:
        download("acme/model", "v9", ["*.json"])
    assert str(raised.value) == message
    assert raised.value.__suppress_context__
    assert "\n" not in message


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_without_a_name_still_names_the_token(hub, status):
    error = http_error(HfHubHTTPError, f"{status} Client Error: no.")
    error.response.status_code = status
    hub(error)
    with pytest.raises(UnsupportedModel, match=rf"did not give it \({status} Client Error: no.\); set HF_TOKEN"):
        download("acme/model", None, ["*.json"])


def test_offline_what_the_cache_lacks_is_told_with_the_switch(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub(LocalEntryNotFoundError("Cannot find an appropriate cached snapshot folder"))
    with pytest.raises(UnsupportedModel, match="the hub's cache does not have it; HF_HUB_OFFLINE is set"):
        download("acme/model", None, ["*.json"])


def test_the_files_of_a_model_are_listed_with_their_sizes_at_its_revision(monkeypatch):
    asked = []

    def model_info(self, repo, *, revision, files_metadata):
        asked.append((repo, revision, files_metadata))
        sizes = {"config.json": 12, "onnx/model.onnx": None}
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name, size=size) for name, size in sizes.items()])

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", model_info)
    assert list_repo("acme/model", "v1") == {"config.json": 12, "onnx/model.onnx": 0}
    assert asked == [("acme/model", "v1", True)]


@pytest.fixture
def server():
    """A hub that has nothing but answers."""

    class Absent(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_error(404)

        def log_message(self, *_):
            pass

    made = http.server.HTTPServer(("127.0.0.1", 0), Absent)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{made.server_address[1]}"
    made.shutdown()
    thread.join()
    made.server_close()


def test_a_hub_that_answers_at_all_can_be_reached(server, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"{server}/")
    assert endpoint() == server
    assert reach() is None


@pytest.mark.parametrize(
    ("address", "reason"), [("http://127.0.0.1:9", "refused"), ("file:///etc/passwd", "does not begin with https://")]
)
def test_what_keeps_the_hub_from_being_reached_is_told(address, reason, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert reason in reach()
