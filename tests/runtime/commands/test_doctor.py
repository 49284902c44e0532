import json

import onnxpipe
from onnxpipe.cli import main


def test_people_get_one_line_for_each_finding(capsys):
    assert main(["doctor"]) == 0
    output, errors = capsys.readouterr()
    names = [line[:13].strip() for line in output.splitlines()]
    assert names[:7] == ["platform", "versions", "providers", "threads", "memory", "instructions", "int8"]
    assert set(names[7:]) <= {"advice"}
    assert errors == ""


def test_json_holds_the_same_findings(capsys):
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["versions"]["onnxpipe"] == onnxpipe.__version__
    assert "CPUExecutionProvider" in found["providers"]
    assert found["threads"] >= 1
    assert found["machine"]["cpu_set"] >= 1
    assert isinstance(found["advice"], list)


def test_advice_is_no_failure(capsys, monkeypatch):
    monkeypatch.setattr(
        "onnxpipe.doctor.installed_versions", lambda _: {"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"}
    )
    assert main(["doctor"]) == 0
    assert "overwrite each other" in capsys.readouterr().out
