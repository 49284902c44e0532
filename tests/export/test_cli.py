import json

import pytest

from onnxpipe.cli import main


def test_export_prints_a_table_and_ends_with_0(tiny_model, tmp_path, capsys):
    assert main(["export", str(tiny_model("bert", "")), str(tmp_path / "out"), "--id", "tiny/bert"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[1] == f"tiny/bert for feature-extraction -> {tmp_path / 'out'}"
    assert out[3].split()[:3] == ["precision", "MB", "error"]
    assert [line.split()[0] for line in out[4:]] == ["fp32", "int8"]
    assert all(line.endswith("ok") for line in out[4:])


def test_export_as_json_prints_nothing_else(tiny_model, tmp_path, capsys):
    command = ["export", str(tiny_model("bert", "")), str(tmp_path / "out"), "--precision", "fp32", "--json"]
    assert main(command) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["outcomes"][0]["precision"] == "fp32"
    assert captured.err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/no/such/model"], "neither a folder nor a hub id"),
        (["/no/such/model", "--precision", "int3"], "cannot make precision 'int3'; precisions: fp32, fp16, int8"),
        (["/no/such/model", "--precision", ","], "no precision requested"),
    ],
)
def test_a_failed_export_is_one_line_and_1(arguments, message, tmp_path, capsys):
    assert main(["export", arguments[0], str(tmp_path / "out"), *arguments[1:]]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.splitlines()[-1].startswith("onnxpipe: ")
    assert "Traceback" not in err


def test_a_refused_precision_is_said_and_1(tiny_model, tmp_path, capsys, monkeypatch):
    import dataclasses

    from onnxpipe_export.recipes import RECIPES

    recipe = RECIPES["feature-extraction"]
    monkeypatch.setitem(
        RECIPES,
        "feature-extraction",
        dataclasses.replace(recipe, tolerance={**recipe.tolerance, "int8": {"cosine_mean": 1.1}}),
    )
    assert main(["export", str(tiny_model("bert", "")), str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1].endswith("refused")
    assert "onnxpipe: int8 was refused: cosine_mean is " in captured.err
