import json

import pytest

from onnxpipe.errors import UnsupportedModel
from onnxpipe_export.source import find_model


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "my-model"
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"architectures": ["BertModel"], "model_type": "bert"}))
    (path / "model.safetensors").write_bytes(b"")
    return path


def test_a_folder_is_named_after_itself_and_has_no_revision(folder):
    source = find_model(str(folder))
    assert (source.name, source.revision, source.architecture) == ("my-model", None, "BertModel")


def test_sharded_safetensors_are_weights(folder):
    (folder / "model.safetensors").rename(folder / "model.safetensors.index.json")
    assert find_model(str(folder)).name == "my-model"


def test_pickled_weights_are_refused_with_what_to_do(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UnsupportedModel, match=r"only pytorch_model.bin, a pickle, .*safe_serialization=True"):
        find_model(str(folder))


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(UnsupportedModel, match=r"no weights; expected model.safetensors"):
        find_model(str(folder))


def test_a_folder_without_config_is_refused(folder):
    (folder / "config.json").unlink()
    with pytest.raises(UnsupportedModel, match=r"no config.json; expected a model folder in hub layout"):
        find_model(str(folder))


def test_a_broken_config_is_refused(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(UnsupportedModel, match=r"config.json: not JSON"):
        find_model(str(folder))


def test_a_revision_of_a_folder_is_refused(folder):
    with pytest.raises(UnsupportedModel, match="a revision only means something for a hub id"):
        find_model(str(folder), "main")


@pytest.mark.parametrize("name", ["no/such/folder", "/no/such/folder", "not a hub id!"])
def test_what_is_neither_folder_nor_hub_id_is_refused(name):
    with pytest.raises(UnsupportedModel, match=r"neither a folder nor a hub id \(ORG/NAME\)"):
        find_model(name)


def test_a_hub_model_is_downloaded_without_pickles_and_keeps_its_commit(folder, monkeypatch):
    asked = {}

    def download(repo, revision, patterns):
        asked.update(repo=repo, revision=revision, patterns=patterns)
        return folder, "0123abc"

    monkeypatch.setattr("onnxpipe.hub.door.download", download)
    source = find_model("org/name", "v1")
    assert (source.name, source.revision) == ("org/name", "0123abc")
    assert (asked["repo"], asked["revision"]) == ("org/name", "v1")
    assert not any("bin" in pattern or "py" in pattern for pattern in asked["patterns"])
