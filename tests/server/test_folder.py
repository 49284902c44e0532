import dataclasses
import json
import logging

import pytest

from onnxpipe.bundle import write_manifest
from onnxpipe.errors import BundleError, InvalidInput
from onnxpipe_server import folder as module
from onnxpipe_server.models import Models
from onnxpipe_server.settings import Settings
from onnxpipe_server.status import UnknownModel
from onnxpipe_server.stock import Choice, open_stock


@pytest.fixture(autouse=True)
def _every_look_looks(monkeypatch):
    monkeypatch.setattr(module, "_SCAN_EVERY_S", 0.0)


@pytest.fixture
def put(served, tmp_path):
    """Writes a bundle that says what it is, but could not be loaded."""

    def put(place, model_id, size_bytes=4):
        folder = tmp_path / "models" / place
        (folder / "onnx").mkdir(parents=True, exist_ok=True)
        (folder / "onnx/model.onnx").write_bytes(b"x" * size_bytes)
        manifest = served(model_id, "labels").bundle.manifest
        entry = dataclasses.replace(manifest.files["onnx/model.onnx"], size_bytes=size_bytes)
        write_manifest(folder, dataclasses.replace(manifest, files={"onnx/model.onnx": entry}))
        return folder

    (tmp_path / "models").mkdir()
    return put


@pytest.fixture
def open_models(tmp_path):
    def open_models(*named, precision=None, **settings) -> Models:
        choice = Choice(named=named, folder=tmp_path / "models", precision=precision)
        return open_stock(choice, Settings(**settings))

    return open_models


def ids(models):
    return [one.id for one in models.all()]


def test_bundles_lie_in_the_folder_or_in_folders_of_organisations(put, open_models):
    put("one", "acme/one")
    put("umbrella/two", "umbrella/two")

    stock = open_models()

    assert ids(stock.models) == ["acme/one", "umbrella/two"]
    assert stock.models.find("two").id == "umbrella/two"
    assert stock.first == []
    assert stock.is_ready


def test_ids_and_names_on_the_command_line_are_loaded_first(put, open_models):
    put("one", "acme/one")
    put("two", "acme/two")

    assert [one.id for one in open_models("two").first] == ["acme/two"]
    assert [one.id for one in open_models("acme/one").first] == ["acme/one"]
    with pytest.raises(UnknownModel, match="Model three does not exist"):
        open_models("three")


def test_a_bundle_that_comes_later_is_found_when_it_is_asked_for(put, open_models):
    models = open_models().models
    with pytest.raises(UnknownModel):
        models.find("late")

    put("late", "acme/late")

    assert models.find("late").id == "acme/late"
    assert ids(models) == ["acme/late"]


def test_a_damaged_bundle_is_an_error_that_says_so_and_the_others_are_served(put, open_models, caplog):
    put("good", "acme/good")
    bad = put("acme/bad", "acme/bad")
    (bad / "manifest.json").write_text("{")

    with caplog.at_level(logging.ERROR):
        models = open_models().models

    assert ids(models) == ["acme/good"]
    assert "not JSON" in caplog.text
    with pytest.raises(BundleError, match="not JSON"):
        models.find("acme/bad")
    put("acme/bad", "acme/bad")
    assert models.find("acme/bad").id == "acme/bad"


def test_a_bundle_of_a_task_this_server_lacks_is_left_out(put, open_models):
    folder = put("odd", "acme/odd")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"task": "juggling"}))

    assert ids(open_models().models) == []
    with pytest.raises(BundleError, match="juggling"):
        open_models().models.find("odd")


def test_the_second_bundle_of_an_id_is_left_out(put, open_models):
    put("a", "acme/one")
    put("b", "acme/one")

    models = open_models().models

    assert ids(models) == ["acme/one"]
    with pytest.raises(BundleError, match="has the id acme/one, as"):
        models.find("b")


def test_memory_too_small_for_any_of_the_models_fails_at_the_start(put, open_models):
    put("a", "acme/a")

    with pytest.raises(InvalidInput, match="--memory: 1 MB are too few, 24 MB are needed: acme/a 24 MB"):
        open_models(memory=1_000_000)


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="--models: expected a folder with bundles"):
        open_stock(Choice(named=(), folder=tmp_path / "no"), Settings())
