import json
import shutil

import pytest

import tiny_graphs
from onnxpipe.bundle import open_bundle
from onnxpipe.cli import main
from onnxpipe.errors import BundleError, UnsupportedModel
from onnxpipe.hub import pull as pulling
from onnxpipe.hub.pull import find_layout, pull
from onnxpipe.load import load

COMMIT = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"


def classifier(monkeypatch, unknown):
    """A classifier's graph for which an unknown word means something else."""
    monkeypatch.setitem(tiny_graphs.LOGITS, "[UNK]", unknown)
    return tiny_graphs.classifier()[0]


def test_a_ready_made_graph_becomes_a_bundle_that_verifies(classifier_repo, tmp_path, capsys):
    report = pull(str(classifier_repo), tmp_path / "out")
    assert (report.task, report.reference, report.refused) == ("text-classification", "fp32", ())
    manifest = open_bundle(tmp_path / "out").manifest
    assert manifest.classification.labels == ("ONE", "TWO", "THREE")
    assert manifest.text.special_tokens["pad_token"] == "[PAD]"
    assert manifest.source.model == classifier_repo.name
    assert "config.json" in manifest.files
    assert main(["inspect", str(tmp_path / "out"), "--verify"]) == 0
    assert "verified" in capsys.readouterr().out
    assert load(tmp_path / "out")("two two")[0].label == "TWO"


def test_other_precisions_are_measured_beside_the_best_and_kept_when_they_are_near(
    classifier_repo, tmp_path, monkeypatch
):
    (classifier_repo / "onnx/model_quantized.onnx").write_bytes(classifier(monkeypatch, (0.002, 0.0, 0.0)))
    report = pull(str(classifier_repo), tmp_path / "out")
    (first, second) = report.outcomes
    assert (first.precision, first.figures["error"]) == ("fp32", 0.0)
    assert second.precision == "q8"
    assert 0.0 < second.figures["score_error"] < 0.05
    bundle = open_bundle(tmp_path / "out")
    assert bundle.manifest.variants["q8"].files == {"model": "onnx/model_quantized.onnx"}
    assert [list(golden.tolerance) for golden in bundle.manifest.golden] == [["fp32"], ["q8"]]
    assert main(["inspect", str(tmp_path / "out"), "--verify"]) == 0


def test_a_precision_that_is_too_far_away_is_refused_and_left_out(classifier_repo, tmp_path, monkeypatch):
    (classifier_repo / "onnx/model_q4.onnx").write_bytes(classifier(monkeypatch, (0.0, 4.0, 0.0)))
    report = pull(str(classifier_repo), tmp_path / "out", precisions=["fp32", "q4"])
    (refused,) = report.refused
    assert refused.precision == "q4"
    assert "score_error is" in refused.problems[0]
    assert list(open_bundle(tmp_path / "out").manifest.variants) == ["fp32"]
    assert not (tmp_path / "out/onnx/model_q4.onnx").exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"damaged", "cannot load it"),
        (tiny_graphs.image_classifier()[0], "it takes pixel_values, not input_ids"),
        (tiny_graphs.classifier(labels=2)[0], "it does not run here"),
    ],
)
def test_a_graph_of_another_kind_is_refused_with_the_reason(content, problem, classifier_repo, tmp_path):
    (classifier_repo / "onnx/model_int8.onnx").write_bytes(content)
    (refused,) = pull(str(classifier_repo), tmp_path / "out").refused
    assert problem in refused.problems[0]


def test_the_best_is_measured_by_even_when_it_is_not_taken(classifier_repo, tmp_path, monkeypatch):
    (classifier_repo / "onnx/model_int8.onnx").write_bytes(classifier(monkeypatch, (0.002, 0.0, 0.0)))
    report = pull(str(classifier_repo), tmp_path / "out", precisions=["int8"])
    assert report.reference == "fp32"
    assert report.outcomes[0].figures["error"] > 0
    assert list(open_bundle(tmp_path / "out").manifest.variants) == ["int8"]
    assert not (tmp_path / "out/onnx/model.onnx").exists()


def test_without_fp32_the_best_there_is_stands_for_it(classifier_repo, tmp_path):
    (classifier_repo / "onnx/model.onnx").rename(classifier_repo / "onnx/model_uint8.onnx")
    report = pull(str(classifier_repo), tmp_path / "out", bundle_id="acme/small")
    assert (report.id, report.reference) == ("acme/small", "uint8")


def test_when_nothing_passes_nothing_is_written(classifier_repo, tmp_path, monkeypatch):
    (classifier_repo / "onnx/model_q4.onnx").write_bytes(classifier(monkeypatch, (0.0, 4.0, 0.0)))
    with pytest.raises(UnsupportedModel, match=r"no precision passed, so nothing was written \(q4: "):
        pull(str(classifier_repo), tmp_path / "out", precisions=["q4"])
    assert not (tmp_path / "out").exists()


def test_large_files_are_linked_and_not_copied(classifier_repo, tmp_path):
    pull(str(classifier_repo), tmp_path / "out")
    assert (tmp_path / "out/onnx/model.onnx").samefile(classifier_repo / "onnx/model.onnx")


def test_where_the_disk_has_no_links_files_are_copied(classifier_repo, tmp_path, monkeypatch):
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("cross-device link")))
    pull(str(classifier_repo), tmp_path / "out")
    copy, original = tmp_path / "out/onnx/model.onnx", classifier_repo / "onnx/model.onnx"
    assert not copy.samefile(original)
    assert copy.read_bytes() == original.read_bytes()


def test_weights_beside_the_graph_come_with_it(classifier_repo, tmp_path):
    onnx = pytest.importorskip("onnx")
    file = classifier_repo / "onnx/model.onnx"
    model = onnx.load(file)
    for tensor in model.graph.initializer:  # made by hand: with numbers in fields, which cannot lie elsewhere
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
    # shapes and axes have to stay: the table of logits is larger
    onnx.save_model(model, file, save_as_external_data=True, location="model.onnx_data", size_threshold=64)
    pull(str(classifier_repo), tmp_path / "out")
    bundle = open_bundle(tmp_path / "out")
    assert bundle.manifest.variants["fp32"].external_data == ("onnx/model.onnx_data",)
    assert load(tmp_path / "out")("two two")[0].label == "TWO"


def test_a_bundle_that_is_there_stays_unless_it_may_go(classifier_repo, tmp_path):
    pull(str(classifier_repo), tmp_path / "out")
    with pytest.raises(BundleError, match="already holds a bundle"):
        pull(str(classifier_repo), tmp_path / "out")
    pull(str(classifier_repo), tmp_path / "out", force=True)


def test_a_repository_without_a_config_is_refused(classifier_repo, tmp_path):
    (classifier_repo / "config.json").unlink()
    with pytest.raises(UnsupportedModel, match=r"no config.json"):
        pull(str(classifier_repo), tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.json", {"id2label": ["ONE"]}), ("tokenizer_config.json", [1]), ("special_tokens_map.json", ["x"])],
)
def test_files_of_unusual_shapes_are_told_without_a_traceback(name, content, classifier_repo, tmp_path):
    known = json.loads((classifier_repo / "config.json").read_text())
    (classifier_repo / name).write_text(json.dumps({**known, **content} if name == "config.json" else content))
    with pytest.raises(UnsupportedModel, match="its settings cannot be followed"):
        pull(str(classifier_repo), tmp_path / "out")


def test_graphs_of_models_that_write_are_refused_before_anything_is_read(classifier_repo, tmp_path):
    for name in ("encoder_model", "decoder_model_merged"):
        shutil.copyfile(classifier_repo / "onnx/model.onnx", classifier_repo / f"onnx/{name}.onnx")
    with pytest.raises(UnsupportedModel, match="models that write have graphs of their own here"):
        pull(str(classifier_repo), tmp_path / "out")


def test_two_towers_are_refused(classifier_repo, tmp_path):
    (classifier_repo / "onnx/model.onnx").rename(classifier_repo / "onnx/text_model.onnx")
    with pytest.raises(UnsupportedModel, match=r"its graphs are text_model; expected one, model.onnx"):
        pull(str(classifier_repo), tmp_path / "out")


def test_a_revision_of_a_folder_means_nothing(classifier_repo):
    with pytest.raises(UnsupportedModel, match="a revision only means something for a hub id"):
        find_layout(str(classifier_repo), "main")


@pytest.fixture
def hub(classifier_repo, monkeypatch):
    """A hub that has the classifier's repository as acme/tiny; gives what was downloaded."""
    asked = []

    def download(repo, revision, patterns):
        asked.append((repo, revision, tuple(patterns)))
        return classifier_repo, COMMIT

    monkeypatch.setattr(pulling.door, "download", download)
    monkeypatch.setattr(pulling.door, "list_repo", lambda *_: pulling._sizes(classifier_repo))
    monkeypatch.setattr(pulling.door, "is_offline", lambda: False)
    return asked


def test_of_a_hub_repository_only_what_is_needed_is_downloaded(hub, classifier_repo, tmp_path):
    (classifier_repo / "onnx/model_fp16.onnx").write_bytes(b"not asked for")
    report = pull("acme/tiny", tmp_path / "out", revision="v1", precisions=["fp32"])
    assert hub == [("acme/tiny", "v1", ("*.json", "*.txt", "onnx/model.onnx"))]
    assert report.id == "acme/tiny"
    source = open_bundle(tmp_path / "out").manifest.source
    assert (source.model, source.revision) == ("acme/tiny", COMMIT)


def test_offline_the_hubs_cache_is_looked_at(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(pulling.door, "is_offline", lambda: True)
    monkeypatch.setattr(pulling.door, "list_repo", lambda *_: pytest.fail("the network was used"))
    pull("acme/tiny", tmp_path / "out")
    assert hub[0] == ("acme/tiny", None, ("config.json",))


def test_the_command_lists_precisions_with_their_files(classifier_repo, capsys):
    (classifier_repo / "onnx/model_q4.onnx").write_bytes(b"x" * 1_500_000)
    assert main(["pull", str(classifier_repo), "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["precision", "MB", "files"]
    assert lines[2].split() == ["q4", "1.5", "onnx/model_q4.onnx"]
    assert main(["pull", str(classifier_repo), "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["q4"] == {"files": ["onnx/model_q4.onnx"], "size_bytes": 1_500_000}


def test_the_command_pulls_and_tells_what_was_measured(classifier_repo, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["pull", str(classifier_repo), out, "--id", "acme/tiny"]) == 0
    text, progress = capsys.readouterr()
    assert text.startswith(f"\nacme/tiny for text-classification -> {out}\n")
    assert "measured beside fp32" in text
    assert progress.splitlines()[0] == f"{classifier_repo}: taking fp32 of fp32"
    assert main(["pull", str(classifier_repo), out, "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outcomes"][0]["precision"] == "fp32"


def test_the_command_fails_when_a_precision_was_refused(classifier_repo, tmp_path, capsys):
    (classifier_repo / "onnx/model_q4.onnx").write_bytes(b"damaged")
    assert main(["pull", str(classifier_repo), str(tmp_path / "out"), "--precision", "fp32, q4"]) == 1
    assert "onnxpipe: q4 was refused: " in capsys.readouterr().err


def test_the_command_wants_to_know_where_the_bundle_goes(classifier_repo, capsys):
    assert main(["pull", str(classifier_repo)]) == 1
    assert "say where the bundle goes" in capsys.readouterr().err
