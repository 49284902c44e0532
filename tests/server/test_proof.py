import logging
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from onnxpipe.bundle import open_bundle
from onnxpipe.load import load_model
from onnxpipe.prepacked import Cache
from onnxpipe_server import proof


@pytest.fixture
def bundle(bundle_folder, request):
    source = bundle_folder / "tasks" / "text-classification"
    if not source.is_dir():
        source = request.getfixturevalue("task_bundles")["text-classification"]
    return open_bundle(source)


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def names(bundle):
    return list(bundle.manifest.variants["fp32"].files.values())


def test_a_process_of_its_own_makes_and_proves_what_the_next_load_takes(bundle, cache):
    proof.begin_proof(bundle, "fp32", cache).join(60)

    assert not cache.lacks(bundle, names(bundle))
    assert [path.name for path in cache.folder.glob("prepacked/*/graph.onnx")] == ["graph.onnx"]
    assert load_model(bundle.path, cache=cache).sessions["model"].device == "cpu"
    assert proof.begin_proof(bundle, "fp32", cache) is None


@pytest.mark.parametrize(
    ("code", "words"), [(-11, r"onnxruntime crashed \(-11\)"), (1, "does not answer as it should")]
)
def test_what_crashes_or_answers_otherwise_is_refused(bundle, cache, monkeypatch, caplog, code, words):
    said = "" if code < 0 else "the model does not answer as it should"
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: SimpleNamespace(returncode=code, stderr=said))

    with caplog.at_level(logging.WARNING):
        proof.begin_proof(bundle, "fp32", cache).join(60)

    assert not cache.lacks(bundle, names(bundle))
    assert list(cache.folder.glob("prepacked/*/graph.onnx")) == []
    assert re.search(words, caplog.text)


def test_a_process_that_cannot_be_begun_refuses_nothing(bundle, cache, monkeypatch, caplog):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    with caplog.at_level(logging.WARNING):
        proof.begin_proof(bundle, "fp32", cache).join(60)

    assert cache.lacks(bundle, names(bundle))


def test_without_a_cache_nothing_is_proved(bundle):
    assert proof.begin_proof(bundle, "fp32", Cache()) is None
