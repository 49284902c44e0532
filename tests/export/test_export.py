import dataclasses
import json
import shutil

import pytest

import onnxpipe
from onnxpipe.bundle import open_bundle
from onnxpipe.errors import BundleError, UnsupportedModel
from onnxpipe.golden import check_golden
from onnxpipe.load import load_model
from onnxpipe_export import variants
from onnxpipe_export.convert import OptimumExporter
from onnxpipe_export.export import export
from onnxpipe_export.recipes import RECIPES
from onnxpipe_export.variants import stage_count

CLASSIFIER = "ForSequenceClassification"


@pytest.fixture
def classifier(tiny_model):
    return tiny_model("bert", CLASSIFIER)


def test_a_classifier_becomes_a_bundle_that_says_what_to_do(classifier, tmp_path):
    report = export(classifier, tmp_path / "out", bundle_id="org/emotions")
    manifest = open_bundle(tmp_path / "out").manifest
    assert (report.task, report.id, report.refused) == ("text-classification", "org/emotions", ())
    assert manifest.classification.labels == ("sadness", "joy", "love", "anger", "fear")
    assert manifest.text.max_tokens == 64
    assert list(manifest.variants) == ["fp32", "int8"]
    assert manifest.variants["fp32"].batch_invariant
    assert not manifest.variants["int8"].batch_invariant
    assert manifest.variants["fp32"].measured["error"] <= 1e-4
    assert sorted(manifest.files) == [
        "config.json",
        "onnx/model.onnx",
        "onnx/model_int8.onnx",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert {"onnxpipe", "onnxruntime", "optimum-onnx", "torch", "transformers"} <= manifest.tools.keys()
    assert str(classifier) not in (tmp_path / "out" / "manifest.json").read_text()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_golden_answers_are_reproduced(classifier, tmp_path, precision):
    export(classifier, tmp_path / "out", precisions=[precision])
    model = load_model(tmp_path / "out")
    assert list(model.bundle.manifest.variants) == [precision]
    assert len(model.bundle.manifest.golden) == 1
    assert check_golden(model) == []


@pytest.mark.parametrize(
    ("head", "labels", "golden"),
    [
        ("ForMaskedLM", None, {"targets": ["person"]}),
        (CLASSIFIER, ("contradiction", "neutral", "entailment"), {"candidate_labels": ["travel"]}),
    ],
)
def test_a_golden_request_has_parameters_of_its_own(tiny_model, tmp_path, head, labels, golden):
    config = {"num_labels": len(labels), "id2label": dict(enumerate(labels))} if labels else {}
    export(tiny_model("bert", head, **config), tmp_path / "out", precisions=["fp32"])
    model = load_model(tmp_path / "out")
    assert model.bundle.manifest.golden[0].parameters == golden
    assert check_golden(model) == []


def test_a_file_of_a_precision_that_was_not_asked_for_is_not_left(classifier, tmp_path):
    export(classifier, tmp_path / "out", precisions=["int8"])
    assert [file.name for file in (tmp_path / "out" / "onnx").iterdir()] == ["model_int8.onnx"]


def test_the_task_may_be_chosen(classifier, tmp_path):
    export(classifier, tmp_path / "out", task="feature-extraction", precisions=["fp32"])
    assert onnxpipe.load(tmp_path / "out")("a text").shape[0] == 1


def change_tolerance(monkeypatch, task, precision, bounds):
    recipe = RECIPES[task]
    changed = dataclasses.replace(recipe, tolerance={**recipe.tolerance, precision: bounds})
    monkeypatch.setitem(RECIPES, task, changed)


def test_a_precision_that_misses_its_tolerance_is_left_out_and_reported(classifier, tmp_path, monkeypatch):
    change_tolerance(monkeypatch, "text-classification", "int8", {"score_error": 0.0})
    report = export(classifier, tmp_path / "out")
    assert [outcome.precision for outcome in report.refused] == ["int8"]
    assert "score_error is 0.0" in report.refused[0].problems[0]
    assert "at most 0 is allowed" in report.refused[0].problems[0]
    assert list(open_bundle(tmp_path / "out").manifest.variants) == ["fp32"]
    assert [file.name for file in (tmp_path / "out" / "onnx").iterdir()] == ["model.onnx"]


def test_when_no_precision_passes_nothing_is_written(classifier, tmp_path, monkeypatch):
    change_tolerance(monkeypatch, "text-classification", "fp32", {"error": -1.0})
    with pytest.raises(
        UnsupportedModel, match=r"no precision passed verification, so nothing was written \(fp32: error"
    ):
        export(classifier, tmp_path / "out", precisions=["fp32"])
    assert list(tmp_path.iterdir()) == []


def test_wrong_weights_in_the_graph_are_caught(classifier, tmp_path):
    class Careless(OptimumExporter):
        def export(self, loaded, recipe, folder):
            import torch

            broken = type(loaded.model)(loaded.model.config).eval()
            torch.nn.init.normal_(broken.classifier.weight)
            return super().export(dataclasses.replace(loaded, model=broken), recipe, folder)

    with pytest.raises(UnsupportedModel, match=r"fp32: error is .* at most 0.0001 is allowed"):
        export(classifier, tmp_path / "out", precisions=["fp32"], exporter=Careless())


def test_a_tokenizer_that_differs_from_the_reference_is_caught(classifier, tmp_path, monkeypatch):
    from onnxpipe_export import export as module

    def write_another(tokenizer, folder):
        tokenizer.save_pretrained(folder)
        data = json.loads((folder / "tokenizer.json").read_text())
        data["normalizer"] = None
        (folder / "tokenizer.json").write_text(json.dumps(data))

    monkeypatch.setattr(module, "write_tokenizer", write_another)
    with pytest.raises(UnsupportedModel, match="the converted tokenizer differs from transformers' on"):
        export(classifier, tmp_path / "out", precisions=["fp32"])


def test_an_architecture_the_exporter_does_not_know_is_refused(tmp_path, tiny_model):
    import transformers

    folder = tmp_path / "model"
    shutil.copytree(tiny_model("bert", ""), folder)
    sizes = {"vocab_size": 1500, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = transformers.AutoConfig.for_model("yoso", **sizes)
    transformers.YosoModel(config).save_pretrained(folder)
    with pytest.raises(UnsupportedModel, match="YosoModel cannot be exported for feature-extraction: "):
        export(folder, tmp_path / "out", precisions=["fp32"])
    assert not (tmp_path / "out").exists()


def test_code_of_the_repository_is_not_run(classifier, tmp_path):
    folder = shutil.copytree(classifier, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(UnsupportedModel, match="transformers cannot load"):
        export(folder, tmp_path / "out", task="feature-extraction", precisions=["fp32"])


def test_an_existing_bundle_needs_force(classifier, tmp_path):
    export(classifier, tmp_path / "out", precisions=["fp32"])
    with pytest.raises(BundleError, match="--force"):
        export(classifier, tmp_path / "out", precisions=["fp32"])
    export(classifier, tmp_path / "out", precisions=["fp32"], bundle_id="again", force=True)
    assert open_bundle(tmp_path / "out").manifest.id == "again"


@pytest.mark.parametrize(("precisions", "message"), [(["int3"], "cannot make precision 'int3'"), ([], "no precision")])
def test_precisions_are_checked_before_any_work(precisions, message, tmp_path):
    with pytest.raises(UnsupportedModel, match=message):
        export("/no/such/model", tmp_path / "out", precisions=precisions)


def test_as_many_stages_are_counted_as_are_shown(classifier, tmp_path, capsys):
    export(classifier, tmp_path / "out", precisions=["fp32", "int8"], show_progress=True)
    lines = capsys.readouterr().err.splitlines()
    total = 3 + stage_count(["fp32", "int8"])
    assert [line.split("]")[0] for line in lines] == [f"[{number}/{total}" for number in range(1, total + 1)]


def test_weights_outside_the_graph_file_are_part_of_the_variant(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"")
    (tmp_path / "model.onnx_data").write_bytes(b"")
    (tmp_path / "model_int8.onnx").write_bytes(b"")
    assert [file.name for file in variants._parts(tmp_path / "model.onnx")] == ["model.onnx", "model.onnx_data"]
