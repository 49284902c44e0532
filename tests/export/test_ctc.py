import json
import shutil

import pytest

from ctc_zoo import CTC_HEAD, VOCABULARY
from onnxpipe.bundle import Convolved, open_bundle
from onnxpipe.errors import UnsupportedModel
from onnxpipe_export.ctc import load_ctc_tokenizer
from onnxpipe_export.export import export
from onnxpipe_export.recipes import choose_recipe
from onnxpipe_export.source import find_model


@pytest.fixture
def copy(tiny_model, tmp_path):
    """A folder of the model that may be changed."""

    def make(family="hubert", **config):
        return shutil.copytree(tiny_model(family, CTC_HEAD, **config), tmp_path / family)

    return make


def edit(folder, name, **values):
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_the_task_is_told_by_the_architecture_or_by_name(tiny_model):
    source = find_model(str(tiny_model("wavlm", CTC_HEAD)))
    assert source.architecture == "WavLMForCTC"
    assert choose_recipe(source, None) == choose_recipe(source, "automatic-speech-recognition")
    assert choose_recipe(source, None).auto_class == "AutoModelForCTC"


def test_vocabulary_rules_and_frames_go_into_the_manifest(tiny_bundle):
    manifest = open_bundle(tiny_bundle("wav2vec2-stable", CTC_HEAD)).manifest
    ctc, graph = manifest.ctc, manifest.graphs["model"]
    assert (ctc.vocabulary, ctc.blank, ctc.delimiter, ctc.space) == (tuple(VOCABULARY), "<pad>", "|", " ")
    assert ctc.frame_samples == 320
    assert [tensor.name for tensor in graph.inputs] == ["input_values", "attention_mask"]
    assert graph.outputs[0].shape == ("batch", "frames", len(VOCABULARY))
    assert graph.convolved == {
        "frames": Convolved(of="sequence", kernels=(10, 3, 3, 3, 3, 2, 2), strides=(5, 2, 2, 2, 2, 2, 2))
    }
    assert manifest.text is None
    assert not (tiny_bundle("wav2vec2-stable", CTC_HEAD) / "tokenizer.json").exists()


def test_models_that_normalise_over_time_get_no_mask_and_are_never_padded(tiny_bundle):
    (samples,) = open_bundle(tiny_bundle("wav2vec2", CTC_HEAD)).manifest.graphs["model"].inputs
    assert (samples.name, samples.pad) == ("input_values", None)


def test_ids_that_the_vocabulary_lacks_are_the_unknown_token(tiny_bundle):
    ctc = open_bundle(tiny_bundle("hubert", CTC_HEAD, vocab_size=len(VOCABULARY) + 2)).manifest.ctc
    assert ctc.vocabulary == (*VOCABULARY, "<unk>", "<unk>")


def test_a_model_without_its_vocabulary_is_refused(copy, tmp_path):
    folder = copy()
    (folder / "vocab.json").unlink()
    with pytest.raises(UnsupportedModel, match="transformers cannot load its tokenizer"):
        export(folder, tmp_path / "bundle", precisions=["fp32"])
    assert not (tmp_path / "bundle").exists()


def test_a_vocabulary_for_each_language_is_refused(copy, tmp_path):
    folder = copy()
    (folder / "vocab.json").write_text(json.dumps({"eng": VOCABULARY}))
    edit(folder, "tokenizer_config.json", target_lang="eng")
    with pytest.raises(UnsupportedModel, match="a vocabulary for each language is not supported"):
        export(folder, tmp_path / "bundle", precisions=["fp32"])


def test_an_adapter_behind_the_encoder_is_refused(tiny_model, tmp_path):
    folder = tiny_model("wav2vec2", CTC_HEAD, add_adapter=True)
    with pytest.raises(UnsupportedModel, match="an adapter behind the encoder is not supported"):
        export(folder, tmp_path / "bundle", precisions=["fp32"])


def test_a_tokenizer_of_another_kind_is_refused(copy):
    folder = copy()
    edit(folder, "tokenizer_config.json", tokenizer_class="BertTokenizer")
    (folder / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\n[PAD]\n[MASK]\na\n")
    with pytest.raises(UnsupportedModel, match="expected a Wav2Vec2CTCTokenizer to spell with"):
        load_ctc_tokenizer(find_model(str(folder)))


def test_int8_keeps_what_convolutions_make_of_the_sound_in_float(tiny_model, tmp_path):
    import onnx

    report = export(tiny_model("wav2vec2-stable", CTC_HEAD), tmp_path / "bundle", precisions=["int8"])
    assert report.refused == ()
    operators = {node.op_type for node in onnx.load(tmp_path / "bundle/onnx/model_int8.onnx").graph.node}
    assert "MatMulInteger" in operators
    assert "ConvInteger" not in operators
    assert "Conv" in operators
