import json

import pytest

import onnxpipe
from onnxpipe.cli import main

BOTH_WHEELS = {"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"}


@pytest.fixture(autouse=True)
def online(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def test_people_get_one_line_for_each_fact(capsys):
    assert main(["doctor"]) == 0
    output, errors = capsys.readouterr()
    names = [line[:13].strip() for line in output.splitlines()]
    assert names[:8] == ["platform", "versions", "providers", "threads", "memory", "instructions", "int8", "hub"]
    assert errors == ""


def test_json_holds_the_same(capsys):
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["facts"]["versions"]["onnxpipe"] == onnxpipe.__version__
    assert "CPUExecutionProvider" in found["facts"]["providers"]
    assert found["facts"]["machine"]["cpu_set"] >= 1
    assert found["threads"] >= 1
    assert found["broken"] is False
    assert all(finding.keys() == {"severity", "text", "remedy"} for finding in found["findings"])


def test_what_is_broken_is_a_failure(capsys, monkeypatch):
    monkeypatch.setattr("onnxpipe.doctor.facts.installed_versions", lambda _: BOTH_WHEELS)
    assert main(["doctor"]) == 1
    assert "overwrite each other" in capsys.readouterr().out


def test_notes_are_no_failure(capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["doctor"]) == 0
    assert "$ unset HF_HUB_OFFLINE" in capsys.readouterr().out


def test_a_bundle_is_run_on_the_device_that_is_asked_for(embedding_bundle, capsys):
    path = str(embedding_bundle())
    assert main(["doctor", path, "--device", "cpu", "--threads", "1"]) == 0
    assert "nodes" in capsys.readouterr().out
    assert main(["doctor", path, "--provider", "acme", "--json"]) == 1
    assert "'acme'" in json.loads(capsys.readouterr().out)["facts"]["bundle"]["problem"]


def test_the_hub_is_asked_when_the_network_may_be_used(capsys, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert main(["doctor", "--network"]) == 1
    assert "http://127.0.0.1:9 cannot be reached" in capsys.readouterr().out
