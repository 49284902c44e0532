import dataclasses
import hashlib
import json

import pytest

from onnxpipe.bundle import Golden, Source, open_bundle, write_manifest
from onnxpipe.cli import main


def change(folder, **fields):
    """Changes fields of a bundle's manifest."""
    write_manifest(folder, dataclasses.replace(open_bundle(folder).manifest, **fields))
    return folder


@pytest.fixture
def with_golden(embedding_bundle):
    """A bundle in two precisions whose golden request has the answer [2, 4], given as `expected`."""

    def write(expected, **tolerance):
        golden = Golden(task="feature-extraction", inputs="one", expected=expected, tolerance=tolerance)
        return change(embedding_bundle(precisions=("fp32", "int8")), golden=(golden,))

    return write


def test_people_get_a_line_for_each_thing_that_matters(embedding_bundle, capsys):
    folder = embedding_bundle(
        pooling=("mean", "max"),
        normalize=True,
        precisions=("fp32", "int8"),
        batch_invariant=False,
        text={"max_tokens": 128, "prompts": {"query": "query: "}},
    )
    change(folder, source=Source(model="acme/tiny", revision="0a1b2c"), tools={"torch": "2.13.0", "onnx": "1.18"})
    size = (folder / "onnx/model.onnx").stat().st_size / 1e6
    digest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()

    assert main(["inspect", str(folder)]) == 0
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "id           tiny",
        "tasks        sentence-similarity, feature-extraction",
        "source       acme/tiny at 0a1b2c",
        f"digest       {digest[:16]}",
        "tools        torch 2.13.0, onnx 1.18",
        (
            "graph model  input_ids int64[batch, sequence], attention_mask int64[batch, sequence] -> "
            "last_hidden_state float32[batch, sequence, 2]"
        ),
        "text         128 tokens, prompts: query",
        "embedding    pooling mean + max, normalized",
        "",
        "precision          MB  batches         measured beside the reference",
        f"fp32         {size:>8.1f}  row by row",
        f"int8         {size:>8.1f}  row by row",
    ]


def test_a_classifiers_labels_are_shown_as_far_as_they_fit(classification_bundle, capsys):
    folder = classification_bundle(activation="sigmoid")
    assert main(["inspect", str(folder)]) == 0
    assert "labels       ONE, TWO, THREE, sigmoid\n" in capsys.readouterr().out

    manifest = open_bundle(folder).manifest
    change(folder, classification=dataclasses.replace(manifest.classification, labels=tuple("abcdefghij")))
    assert main(["inspect", str(folder)]) == 0
    assert "labels       a, b, c, d, e, f, g, h, ... (10), sigmoid\n" in capsys.readouterr().out


def test_figures_stand_behind_their_precision(embedding_bundle, capsys):
    folder = embedding_bundle()
    variant = open_bundle(folder).manifest.variants["fp32"]
    change(folder, variants={"fp32": dataclasses.replace(variant, measured={"error": 1.23456e-7, "cosine_mean": 1.0})})
    assert main(["inspect", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split("  ")[-1] == "error 1.235e-07, cosine_mean 1"


def test_json_is_the_manifest_with_its_digest(embedding_bundle, capsys):
    folder = embedding_bundle()
    assert main(["inspect", str(folder), "--json"]) == 0
    content = (folder / "manifest.json").read_bytes()
    expected = json.loads(content) | {"digest": hashlib.sha256(content).hexdigest()}
    assert json.loads(capsys.readouterr().out) == expected


def test_verify_finds_nothing_wrong_with_a_good_bundle(with_golden, capsys):
    folder = with_golden([2.0, 4.0], fp32=0.0, int8=0.0)
    assert main(["inspect", str(folder), "--verify"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "verified: every digest and every golden answer is as recorded"


def test_verify_as_json_says_that_there_are_no_problems(with_golden, capsys):
    folder = with_golden([2.0, 4.0], fp32=0.0, int8=0.0)
    assert main(["inspect", str(folder), "--verify", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []


def test_verify_names_each_precision_whose_golden_answer_is_off(with_golden, capsys):
    folder = with_golden([2.0, 4.25], fp32=0.125, int8=0.25)
    problem = "fp32: feature-extraction: an answer differs from the reference by 0.25, allowed is 0.125"

    assert main(["inspect", str(folder), "--verify"]) == 1
    output, errors = capsys.readouterr()
    assert output.splitlines()[-1] == problem
    assert "verified" not in output
    assert errors == ""

    assert main(["inspect", str(folder), "--verify", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["problems"] == [problem]


def test_without_verify_a_wrong_golden_answer_is_not_looked_for(with_golden):
    assert main(["inspect", str(with_golden([9.0, 9.0], fp32=0.0))]) == 0


@pytest.mark.parametrize("name", ["onnx/model.onnx", "tokenizer.json"])
def test_verify_finds_a_file_that_was_altered_without_a_change_of_size(embedding_bundle, capsys, name):
    folder = embedding_bundle()
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)

    assert main(["inspect", str(folder)]) == 0
    capsys.readouterr()
    assert main(["inspect", str(folder), "--verify"]) == 1
    problem = capsys.readouterr().out.splitlines()[-1]
    assert problem.startswith(f"{folder / name}: sha256 is ")
    assert problem.endswith("the file was altered or damaged: copy or export the bundle again")
    assert main(["inspect", str(folder), "--verify", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["problems"] == [problem]


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--verify"]])
def test_a_folder_that_is_no_bundle_is_one_line_and_1(tmp_path, capsys, arguments):
    assert main(["inspect", str(tmp_path / "absent"), *arguments]) == 1
    expected = f"onnxpipe: {tmp_path}/absent: not a bundle (no such folder); `onnxpipe export MODEL OUT` makes one\n"
    assert capsys.readouterr() == ("", expected)


def test_a_variant_whose_file_is_not_listed_is_a_clear_error(embedding_bundle, capsys):
    folder = embedding_bundle()
    files = dict(open_bundle(folder).manifest.files)
    del files["onnx/model.onnx"]
    change(folder, files=files)
    assert main(["inspect", str(folder)]) == 1
    assert "the manifest names 'onnx/model.onnx' but does not list it" in capsys.readouterr().err
