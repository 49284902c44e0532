import pytest

from onnxpipe.errors import UnsupportedModel
from onnxpipe.hub.rows import check_one_graph, choose_row, closeness
from onnxpipe.hub.source import SourceModel


def source(tmp_path, architecture=None, **config):
    named = {} if architecture is None else {"architectures": [architecture]}
    return SourceModel(tmp_path, "acme/model", None, {**named, **config})


@pytest.mark.parametrize(
    ("architecture", "config", "task"),
    [
        ("BertModel", {}, "feature-extraction"),
        ("BertForMaskedLM", {}, "fill-mask"),
        ("RobertaForSequenceClassification", {}, "text-classification"),
        ("BertForSequenceClassification", {"id2label": {"0": "Entailment"}}, "zero-shot-classification"),
        ("Wav2Vec2ForSequenceClassification", {}, "audio-classification"),
        ("HubertForCTC", {}, "automatic-speech-recognition"),
        ("DistilBertForTokenClassification", {}, "token-classification"),
        ("DistilBertForQuestionAnswering", {}, "question-answering"),
        ("DeiTForImageClassificationWithTeacher", {}, "image-classification"),
        ("YolosForObjectDetection", {}, "object-detection"),
        ("SegformerForSemanticSegmentation", {}, "image-segmentation"),
        ("DetrForSegmentation", {}, "image-segmentation"),
    ],
)
def test_the_task_is_told_by_the_architecture(architecture, config, task, tmp_path):
    assert choose_row(source(tmp_path, architecture, **config), None).task == task


def test_a_model_of_sentence_transformers_is_one_for_similarity(tmp_path):
    (tmp_path / "modules.json").write_text("[]")
    row = choose_row(source(tmp_path, "BertModel"), None)
    assert (row.task, row.other_tasks) == ("sentence-similarity", ("feature-extraction",))


def test_a_task_that_is_asked_for_wins(tmp_path):
    classifier = source(tmp_path, "BertForSequenceClassification", id2label={"0": "entailment"})
    assert choose_row(classifier, "text-classification").task == "text-classification"
    assert choose_row(source(tmp_path), "fill-mask").task == "fill-mask"


def test_an_unknown_task_or_architecture_is_told_with_the_choices(tmp_path):
    with pytest.raises(UnsupportedModel, match="cannot pull for task 'summarization'; tasks: audio-classification"):
        choose_row(source(tmp_path, "BertModel"), "summarization")
    with pytest.raises(UnsupportedModel, match=r"config.json \(none is named\); choose one with --task: audio"):
        choose_row(source(tmp_path), None)


@pytest.mark.parametrize(
    "architecture",
    ["LlamaForCausalLM", "GPT2LMHeadModel", "MarianMTModel", "WhisperForConditionalGeneration"],
)
def test_models_that_write_are_told_to_be_exported(architecture, tmp_path):
    with pytest.raises(UnsupportedModel, match=r"models that write.*`onnxpipe export acme/model OUT`"):
        choose_row(source(tmp_path, architecture), None)


def test_decoders_are_known_by_their_files_too():
    with pytest.raises(UnsupportedModel, match="models that write"):
        check_one_graph("acme/model", ("encoder_model", "decoder_model_merged"))
    check_one_graph("acme/model", ("model",))


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("fp32", "exact"), ("o2", "exact"), ("fp16", "half"), ("q8", "coarse"), ("q4", "coarse"), ("other", "coarse")],
)
def test_a_precision_says_how_near_it_should_be(precision, expected, tmp_path):
    assert closeness(precision) == expected
    bounds = choose_row(source(tmp_path, "BertForMaskedLM"), None).tolerance(precision)
    assert bounds == {"agreement": {"exact": 0.999, "half": 0.98, "coarse": 0.85}[expected]}
