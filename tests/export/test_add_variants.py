import json
import os
import shutil
import subprocess
import sys

import pytest

from onnxpipe.bundle import open_bundle
from onnxpipe.cli import main
from onnxpipe.errors import BundleError, InvalidInput, UnsupportedModel
from onnxpipe.golden import check_golden
from onnxpipe.load import load_model
from onnxpipe_export.add_variants import add_variants
from onnxpipe_export.maker import Options
from onnxpipe_export.precisions import PRECISIONS
from onnxpipe_export.products import Blocks
from onnxpipe_export.recipes import RECIPES

CLASSIFIER = "ForSequenceClassification"
# one family of each kind that is exported: text, pairs of encoders and decoders, pictures, sound
FAMILIES = {
    "bert": CLASSIFIER,
    "roberta": "",
    "distilbert": "ForQuestionAnswering",
    "vit": "ForImageClassification",
    "resnet": "ForImageClassification",
    "llama": "ForCausalLM",
}
EVERY_FAMILY = {
    **{
        f"{family} {CLASSIFIER}": (family, CLASSIFIER)
        for family in ("albert", "deberta-v2", "electra", "modernbert", "mpnet")
    },
    "tapas": ("tapas", "ForTableQuestionAnswering"),
    "bart": ("bart", CLASSIFIER),
    "yolos": ("yolos", "ForObjectDetection"),
    "detr-panoptic": ("detr-panoptic", "ForImageSegmentation"),
    "swin": ("swin", "ForImageClassification"),
    "mobilevit": ("mobilevit", "ForImageClassification"),
    "hubert-classifier": ("hubert-classifier", "ForAudioClassification"),
    "wav2vec2": ("wav2vec2", "ForCTC"),
    "t5": ("t5", "ForSeq2SeqLM"),
    "m2m_100": ("m2m_100", "ForSeq2SeqLM"),
}
WITHOUT_TORCH = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "optimum", "accelerate", "librosa", "huggingface_hub"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from onnxpipe.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    """A fresh copy of a family's fp32 bundle."""

    def copy(family="bert", head=CLASSIFIER):
        return shutil.copytree(tiny_bundle(family, head), tmp_path / family)

    return copy


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_precision_is_added_where_torch_cannot_be_imported(bundle, family):
    path = bundle(family, FAMILIES[family])
    precision = "int8" if family == "llama" else "int8-weights"
    command = [sys.executable, "-c", WITHOUT_TORCH, "quantize", str(path), "--precision", precision, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode in (0, 1), done.stderr
    (outcome,) = json.loads(done.stdout)["outcomes"]
    assert outcome["figures"]["integer_operators"] > 0
    assert (precision in open_bundle(path).manifest.variants) == (not outcome["problems"])


def test_a_bundle_with_a_precision_more_is_whole_and_answers_as_recorded(bundle):
    path = bundle()
    before = open_bundle(path).manifest
    report = add_variants(path, ["int8-weights", "int8-static"], timed=False)
    after = open_bundle(path)
    after.verify()
    assert report.written
    assert [outcome.precision for outcome in report.outcomes] == ["int8-weights", "int8-static"]
    assert list(after.manifest.variants) == ["fp32", *(o.precision for o in report.outcomes if not o.problems)]
    assert after.manifest.variants["fp32"] == before.variants["fp32"]
    for precision in after.manifest.variants:
        assert check_golden(load_model(path, precision=precision)) == []


def test_fixed_scales_are_alike_in_every_batch_and_scales_of_the_run_are_not(bundle):
    path = bundle()
    add_variants(path, ["int8", "int8-static", "int8-weights"], timed=False)
    invariant = {name: variant.batch_invariant for name, variant in open_bundle(path).manifest.variants.items()}
    assert invariant == {"fp32": True, "int8": False, "int8-static": True, "int8-weights": True}


def test_a_dry_run_measures_and_times_but_leaves_the_bundle_as_it_was(bundle):
    path = bundle()
    before = open_bundle(path).digest
    report = add_variants(path, ["int8-weights"], dry_run=True)
    assert not report.written
    assert report.outcomes[0].speed.keys() == {"16 tokens", "64 tokens"}
    assert open_bundle(path).digest == before
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name]


def test_products_that_answers_need_get_a_safer_form_and_the_manifest_names_them(bundle, monkeypatch):
    path = bundle()
    bounds = RECIPES["text-classification"].tolerance["int8-static"]
    plain = add_variants(path, ["int8-static"], dry_run=True, timed=False).outcomes[0]
    monkeypatch.setitem(bounds, "error", 0.5 * plain.figures["error"])
    outcome = add_variants(path, ["int8-static"], timed=False).outcomes[0]
    assert outcome.problems == ()
    assert outcome.figures["error"] <= 0.5 * plain.figures["error"]
    assert len(outcome.kept) > len(plain.kept)
    assert open_bundle(path).manifest.variants["int8-static"].kept == outcome.kept


def test_a_precision_that_cannot_be_good_enough_is_refused_and_says_why(bundle, monkeypatch):
    path = bundle()
    monkeypatch.setitem(RECIPES["text-classification"].tolerance["int8-static"], "error", -1.0)
    outcome = add_variants(path, ["int8-static"], timed=False).outcomes[0]
    assert "at most -1 is allowed" in outcome.problems[0]
    assert list(open_bundle(path).manifest.variants) == ["fp32"]
    assert not (path / "onnx" / "model_int8_static.onnx").exists()


def test_products_are_kept_in_float_by_name_or_pattern(bundle):
    path = bundle()
    kept = {"*/layer.0/*": "float", "*/layer.1/output/dense/MatMul": "weights8"}
    outcome = add_variants(path, ["int8-static"], options=Options(kept=kept), timed=False, dry_run=True).outcomes[0]
    assert {form for name, form in outcome.kept.items() if "layer.0" in name} == {"float"}
    assert outcome.kept["/bert/encoder/layer.1/output/dense/MatMul"] == "weights8"


def test_a_pattern_that_fits_nothing_names_some_that_are_there(bundle):
    outcome = add_variants(bundle(), ["int8-static"], options=Options(kept={"nothing": "float"})).outcomes[0]
    assert "no product is named 'nothing'; there are /" in outcome.problems[0]


def test_what_a_bundle_has_already_is_only_made_anew_by_force(bundle):
    path = bundle()
    add_variants(path, ["int8-weights"], timed=False)
    with pytest.raises(BundleError, match="has int8-weights already: --force makes it anew"):
        add_variants(path, ["int8-weights"], timed=False)
    assert add_variants(path, ["int8-weights"], force=True, timed=False).written
    open_bundle(path).verify()


def test_precisions_of_other_kinds_of_models_are_refused(bundle):
    with pytest.raises(UnsupportedModel, match="text-generation are not made in 'int8-static'"):
        add_variants(bundle("llama", "ForCausalLM"), ["int8-static"])
    with pytest.raises(BundleError, match="has fp32 already"):
        add_variants(bundle(), ["fp32"])


@pytest.mark.parametrize(
    "options",
    [Options(kept={"*": "float"}), Options(embeddings=False), Options(blocks=Blocks(32, symmetric=False))],
)
def test_options_that_models_which_write_do_not_have_are_refused(bundle, options):
    with pytest.raises(UnsupportedModel, match="only --block holds"):
        add_variants(bundle("llama", "ForCausalLM"), ["int4"], options=options)


def test_answers_are_compared_on_a_file_of_ones_own_as_well(bundle, tmp_path):
    path = bundle()
    (tmp_path / "data.jsonl").write_text('{"inputs": "one more text", "label": "joy"}\n{"inputs": "and another"}\n')
    assert add_variants(path, ["fp16"], data=tmp_path / "data.jsonl", timed=False).written
    (tmp_path / "data.jsonl").write_text('{"inputs": "one"}\n{"text": "two"}\n')
    with pytest.raises(InvalidInput, match="line 2 is no"):
        add_variants(path, ["int8"], data=tmp_path / "data.jsonl")


def test_the_command_prints_what_became_of_each_and_1_when_one_is_refused(bundle, capsys, monkeypatch):
    path = str(bundle())
    assert main(["quantize", path, "--precision", "int8-weights,int8-static", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "which stays as it was" in out
    assert "x fp32 at 16 tokens" in out
    monkeypatch.setitem(RECIPES["text-classification"].tolerance["int8-weights"], "error", -1.0)
    assert main(["quantize", path, "--precision", "int8-weights"]) == 1
    assert "int8-weights was refused: " in capsys.readouterr().err


def outcomes(path):
    """What became of every precision a bundle may be asked for: problems, or None when it passed."""
    writes = open_bundle(path).manifest.generation is not None
    wanted = [name for name, row in PRECISIONS.items() if name != "fp32" and (row.writes if writes else row.reads)]
    report = add_variants(path, wanted, timed=False)
    return {outcome.precision: outcome.problems for outcome in report.outcomes}, open_bundle(path).manifest.variants


@pytest.mark.parametrize("family", FAMILIES)
def test_every_precision_of_a_family_passes_its_guard_or_is_refused_with_a_reason(bundle, family):
    found, variants = outcomes(bundle(family, FAMILIES[family]))
    for precision, problems in found.items():
        assert (precision in variants) == (not problems)
        assert all(problems)


@pytest.mark.skipif("ONNXPIPE_EVERY_FAMILY" not in os.environ, reason="minutes: set ONNXPIPE_EVERY_FAMILY=1")
@pytest.mark.parametrize("name", EVERY_FAMILY)
def test_the_same_of_every_other_family(bundle, name):
    found, variants = outcomes(bundle(*EVERY_FAMILY[name]))
    print(name, {precision: problems or "passed" for precision, problems in found.items()})
    for precision, problems in found.items():
        assert (precision in variants) == (not problems)
