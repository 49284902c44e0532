import json
import logging
import shutil
import subprocess
import sys

import numpy as np
import pytest

from onnxpipe import prepacked as module
from onnxpipe.bundle import open_bundle, sha256
from onnxpipe.errors import BundleError
from onnxpipe.load import load_model
from onnxpipe.prepacked import Cache, default_folder
from onnxpipe.session import Session


@pytest.fixture
def bundle(bundle_folder, tmp_path, request):
    """A copy, so that tests may damage it."""
    source = bundle_folder / "tasks" / "text-classification"
    if not source.is_dir():
        source = request.getfixturevalue("task_bundles")["text-classification"]
    return open_bundle(shutil.copytree(source, tmp_path / "bundle"))


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache", proving=True)


@pytest.fixture
def files(monkeypatch):
    """Names of the folders of files that sessions were made of."""
    loaded = []
    init = Session.__init__
    monkeypatch.setattr(
        Session,
        "__init__",
        lambda self, file, *args, **options: (loaded.append(file), init(self, file, *args, **options))[1],
    )
    return lambda: [file.name for file in loaded]


def outputs(model):
    rng = np.random.default_rng(0)
    feeds = {}
    for port in model.sessions["model"].inputs:
        low, high = (1, 2) if "mask" in port.name else (5, 50)
        feeds[port.name] = rng.integers(low, high, (2, 9)).astype(port.dtype)
    return model.sessions["model"].run(feeds)


def assert_equal(found, expected):
    """The same outputs, bit for bit."""
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])


def test_outputs_from_the_cache_are_those_of_the_bundle_bit_for_bit(bundle, cache):
    plain = outputs(load_model(bundle.path))

    for _ in range(2):
        assert_equal(outputs(load_model(bundle.path, cache=cache)), plain)


def test_a_graph_is_made_once_and_then_taken_from_the_cache(bundle, cache, files):
    load_model(bundle.path, cache=cache)
    load_model(bundle.path, cache=cache)

    assert files() == ["model.onnx", "graph.onnx", "graph.onnx"]


def test_an_entry_is_used_when_it_is_proved_and_not_before(bundle, cache, files):
    names, using = ["onnx/model.onnx"], Cache(cache.folder)
    assert using.lacks(bundle, names)
    load_model(bundle.path, cache=using)
    load_model(bundle.path, cache=cache)
    load_model(bundle.path, cache=using)
    assert files() == ["model.onnx", "model.onnx", "graph.onnx", "model.onnx"]

    cache.note(bundle, names, proved=True)
    load_model(bundle.path, cache=using)

    assert files()[-1] == "graph.onnx"
    assert not using.lacks(bundle, names)


def test_a_refused_entry_is_neither_used_nor_wanted(bundle, cache, files):
    load_model(bundle.path, cache=cache)
    cache.note(bundle, ["onnx/model.onnx"], proved=False)

    load_model(bundle.path, cache=Cache(cache.folder))

    assert files()[-1] == "model.onnx"
    assert not Cache(cache.folder).lacks(bundle, ["onnx/model.onnx"])


def test_without_a_cache_nothing_is_written(bundle, tmp_path):
    load_model(bundle.path)

    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("name", ["graph.onnx", "weights.bin", "entry.json"])
def test_a_damaged_cache_is_made_again(bundle, cache, files, name):
    plain = outputs(load_model(bundle.path, cache=cache))
    (entry,) = [path for path in (cache.folder / "prepacked").iterdir() if path.is_dir()]
    content = bytearray((entry / name).read_bytes())
    content[len(content) // 2] ^= 0xFF
    (entry / name).write_bytes(content)

    again = outputs(load_model(bundle.path, cache=cache))

    assert files()[-2:] == ["model.onnx", "graph.onnx"]
    assert_equal(again, plain)


def test_a_cache_that_onnxruntime_refuses_gives_way_to_the_bundle(bundle, cache, caplog):
    load_model(bundle.path, cache=cache)
    (entry,) = [path for path in (cache.folder / "prepacked").iterdir() if path.is_dir()]
    (entry / "graph.onnx").write_bytes(b"no graph")
    told = json.loads((entry / "entry.json").read_text())
    told["graph.onnx"] = {"sha256": sha256(entry / "graph.onnx"), "state": None}
    (entry / "entry.json").write_text(json.dumps(told))

    with caplog.at_level(logging.WARNING):
        outputs(load_model(bundle.path, cache=cache))

    assert "not cached for this machine" in caplog.text
    assert not entry.exists()


def test_without_room_the_bundle_is_loaded_as_it_is(bundle, cache, files, monkeypatch, caplog):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))

    with caplog.at_level(logging.WARNING):
        outputs(load_model(bundle.path, cache=cache))

    assert files() == ["model.onnx"]
    assert "0 MB free" in caplog.text


def test_a_disk_that_fills_up_while_it_is_written_leaves_nothing(bundle, cache, monkeypatch, caplog):
    def fail(file, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write", fail)
    with caplog.at_level(logging.WARNING):
        outputs(load_model(bundle.path, cache=cache))

    assert "No space left" in caplog.text
    assert [path for path in (cache.folder / "prepacked").iterdir() if path.is_dir()] == []


def test_a_folder_that_cannot_be_made_is_no_error(bundle, tmp_path):
    (tmp_path / "file").write_text("")

    cached = outputs(load_model(bundle.path, cache=Cache(tmp_path / "file" / "cache", proving=True)))

    assert_equal(cached, outputs(load_model(bundle.path)))


def test_processes_that_load_at_once_make_it_once(bundle, cache):
    code = (
        "import sys; from pathlib import Path; from onnxpipe.load import load_model\n"
        "from onnxpipe.prepacked import Cache\n"
        "load_model(sys.argv[1], cache=Cache(Path(sys.argv[2]), proving=True))"
    )
    command = [sys.executable, "-c", code, str(bundle.path), str(cache.folder)]
    processes = [subprocess.Popen(command, env={"PYTHONPATH": ":".join(sys.path)}) for _ in range(3)]

    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert len([path for path in (cache.folder / "prepacked").iterdir() if path.is_dir()]) == 1


def test_files_are_checked_again_only_when_they_have_changed(bundle, cache, monkeypatch):
    monkeypatch.setattr(module, "_FRESH_NS", 0)
    checked = []
    monkeypatch.setattr("onnxpipe.bundle.sha256", lambda file: checked.append(file.name) or sha256(file))
    load_model(bundle.path, cache=cache)
    first, checked[:] = sorted(checked), []
    load_model(bundle.path, cache=cache)

    assert first == ["model.onnx", "tokenizer.json"]
    assert checked == []
    tokenizer = bundle.path / "tokenizer.json"
    content = tokenizer.read_bytes()
    tokenizer.write_bytes(content[:-2] + b" }")
    with pytest.raises(BundleError, match="altered or damaged"):
        load_model(bundle.path, cache=cache)


def test_a_file_that_has_just_been_written_is_checked_every_time(bundle, cache, monkeypatch):
    monkeypatch.setattr(module, "_FRESH_NS", 10**15)
    checked = []
    monkeypatch.setattr("onnxpipe.bundle.sha256", lambda file: checked.append(file.name) or sha256(file))
    for _ in range(2):
        load_model(bundle.path, cache=cache)

    assert checked.count("model.onnx") == 2


def test_what_is_kept_of_a_bundle_can_be_removed(bundle, cache):
    load_model(bundle.path, cache=cache)
    names = [name for name in bundle.manifest.files if name.endswith(".onnx")]

    assert cache.forget(bundle, names)
    assert not cache.forget(bundle, names)
    assert not Cache().forget(bundle, names)


def test_the_cache_lies_in_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "onnxpipe"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache/onnxpipe"
