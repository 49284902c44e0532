"""Whole repositories, as optimum lays them out, beside what the export makes of the same models."""

import shutil

import pytest

pytest.importorskip("optimum", reason="ready-made graphs come from the export extra")

from onnxpipe.bundle import open_bundle
from onnxpipe.cli import main
from onnxpipe.golden import distance
from onnxpipe.hub.pull import pull
from onnxpipe.load import load
from onnxpipe.records import plain
from ready_repos import lay_out, lay_out_for_browsers
from zoo import add_sentence_transformers_files

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

SECTIONS = ("text", "embedding", "classification", "image", "detection", "segmentation", "audio", "ctc")
FAMILIES = [
    ("roberta", ""),
    ("mpnet", "ForMaskedLM"),
    ("deberta-v2", "ForTokenClassification"),
    ("distilbert", "ForQuestionAnswering"),
    ("xlm-roberta", "ForSequenceClassification"),
    ("bart", "ForSequenceClassification"),
    ("vit", "ForImageClassification"),
    ("mobilevit", "ForImageClassification"),
    ("yolos", "ForObjectDetection"),
    ("rt-detr", "ForObjectDetection"),
    ("segformer", "ForSemanticSegmentation"),
    ("detr-panoptic", "ForImageSegmentation"),
    ("hubert-classifier", "ForAudioClassification"),
    ("whisper-classifier", "ForAudioClassification"),
    ("wav2vec2", "ForCTC"),
]


@pytest.mark.parametrize(("family", "head"), FAMILIES)
def test_a_pulled_bundle_says_and_answers_what_an_exported_one_does(family, head, tiny_model, tiny_bundle, tmp_path):
    source = tiny_model(family, head)
    pull(str(lay_out(source, tmp_path / "repo", head)), tmp_path / "out")
    pulled, exported = open_bundle(tmp_path / "out").manifest, open_bundle(tiny_bundle(family, head)).manifest
    assert pulled.tasks == exported.tasks
    for name in SECTIONS:
        assert getattr(pulled, name) == getattr(exported, name), name
    assert main(["inspect", str(tmp_path / "out"), "--verify"]) == 0
    golden = pulled.golden[0]
    answer = plain(load(tiny_bundle(family, head), task=golden.task)(golden.inputs, **golden.parameters))
    assert distance(golden.expected, answer) <= golden.tolerance["fp32"]


def test_a_model_of_sentence_transformers_keeps_its_modules(tiny_model, tmp_path):
    source = shutil.copytree(tiny_model("bert", ""), tmp_path / "source")
    add_sentence_transformers_files(source, pooling={"pooling_mode_cls_token": True}, prompts={"query": "q: "})
    pull(str(lay_out_for_browsers(source, tmp_path / "repo", "")), tmp_path / "out")
    manifest = open_bundle(tmp_path / "out").manifest
    assert (manifest.task, manifest.embedding.pooling, manifest.embedding.normalize) == (
        "sentence-similarity",
        ("cls",),
        True,
    )
    assert (manifest.text.max_tokens, manifest.text.prompts) == (48, {"query": "q: "})
    assert list(manifest.variants) == ["fp32", "q8"]
    assert not manifest.variants["q8"].batch_invariant
    assert main(["inspect", str(tmp_path / "out"), "--verify"]) == 0
