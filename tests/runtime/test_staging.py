import os
import signal
import subprocess
import sys
import time

import pytest

from onnxpipe.bundle import MANIFEST_NAME
from onnxpipe.errors import BundleError
from onnxpipe.staging import list_files, staged_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_when_the_block_ends_and_not_before(tmp_path):
    target = tmp_path / "deep" / "out"
    with staged_folder(target, replace=False) as folder:
        (folder / "file").write_text("x")
        assert not target.exists()
    assert names(target) == ["file"]
    assert names(target.parent) == ["out"]
    assert target.stat().st_mode & 0o777 == 0o755


def test_an_error_in_the_block_leaves_nothing(tmp_path):
    with pytest.raises(FileExistsError), staged_folder(tmp_path / "out", replace=False) as folder:
        folder.mkdir()
    assert names(tmp_path) == []


def test_a_bundle_is_replaced_only_when_allowed_and_only_by_a_whole_one(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / MANIFEST_NAME).write_text("old")
    with pytest.raises(BundleError, match="already holds a bundle: choose another name, or replace it with --force"):
        staged_folder(target, replace=False).__enter__()
    with pytest.raises(ZeroDivisionError), staged_folder(target, replace=True):
        raise ZeroDivisionError
    assert (target / MANIFEST_NAME).read_text() == "old"
    with staged_folder(target, replace=True) as folder:
        (folder / MANIFEST_NAME).write_text("new")
    assert (target / MANIFEST_NAME).read_text() == "new"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("replace", [True, False])
def test_what_is_no_bundle_is_never_replaced(tmp_path, replace):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("x")
    with pytest.raises(BundleError, match="exists and is no bundle"):
        staged_folder(tmp_path / "out", replace=replace).__enter__()
    assert names(tmp_path / "out") == ["thesis.txt"]


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    with staged_folder(tmp_path / "out", replace=False) as folder:
        (folder / "file").write_text("x")
    assert names(tmp_path / "out") == ["file"]


def test_a_killed_process_leaves_no_half_made_bundle(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from onnxpipe.staging import staged_folder\n"
        "with staged_folder(Path(sys.argv[1]), replace=False) as folder:\n"
        "    (folder / 'file').write_text('x'); print('in', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out")], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"in\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    time.sleep(0.05)
    assert not (tmp_path / "out").exists()


def test_every_file_is_listed_with_size_and_digest_but_the_manifest(tmp_path):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"abc")
    (tmp_path / MANIFEST_NAME).write_text("{}")
    files = list_files(tmp_path)
    assert list(files) == ["onnx/model.onnx"]
    assert files["onnx/model.onnx"].size_bytes == 3
    assert files["onnx/model.onnx"].sha256.startswith("ba7816bf8f01cfea")
