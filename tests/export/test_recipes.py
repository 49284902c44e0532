import pytest

from onnxpipe.errors import UnsupportedModel
from onnxpipe.load import task_names
from onnxpipe_export.generation.precisions import BITS
from onnxpipe_export.precisions import PRECISIONS
from onnxpipe_export.recipes import RECIPES, choose_recipe
from onnxpipe_export.source import SourceModel


def source(folder, architecture=None):
    config = {"architectures": [architecture]} if architecture else {}
    return SourceModel(folder, "org/model", None, config)


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("BertForSequenceClassification", "text-classification"),
        ("RobertaModel", "feature-extraction"),
        ("BertForMaskedLM", "fill-mask"),
        ("ViTForImageClassification", "image-classification"),
        ("DeiTForImageClassificationWithTeacher", "image-classification"),
    ],
)
def test_the_architecture_tells_the_task(tmp_path, architecture, task):
    assert choose_recipe(source(tmp_path, architecture), None).task == task


@pytest.mark.parametrize(
    ("labels", "task"),
    [
        (["contradiction", "neutral", "entailment"], "zero-shot-classification"),
        (["ENTAIL", "NON-ENTAIL"], "zero-shot-classification"),
        (["not_entailment", "neutral"], "text-classification"),
        ([], "text-classification"),
    ],
)
def test_a_classifier_with_a_label_for_entailment_is_a_zero_shot_one(tmp_path, labels, task):
    classifier = source(tmp_path, "BertForSequenceClassification")
    classifier.config["id2label"] = {str(index): label for index, label in enumerate(labels)}
    recipe = choose_recipe(classifier, None)
    assert recipe.task == task
    assert "text-classification" in {recipe.task, *recipe.other_tasks}


def test_sentence_transformers_files_make_it_sentence_similarity(tmp_path):
    (tmp_path / "modules.json").write_text("[]")
    assert choose_recipe(source(tmp_path, "BertModel"), None).task == "sentence-similarity"


def test_a_requested_task_wins(tmp_path):
    assert choose_recipe(source(tmp_path, "BertForMaskedLM"), "feature-extraction").task == "feature-extraction"


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [("BertForPreTraining", "its architecture is BertForPreTraining"), (None, "config.json names no architecture")],
)
def test_a_task_that_cannot_be_told_names_the_choices(tmp_path, architecture, reason):
    with pytest.raises(UnsupportedModel, match=rf"{reason}.*--task: audio-classification, automatic-speech-rec"):
        choose_recipe(source(tmp_path, architecture), None)


def test_an_unknown_task_names_the_choices(tmp_path):
    choices = "audio-classification, automatic-speech-recognition, "
    with pytest.raises(UnsupportedModel, match=f"cannot export for task 'chess'; tasks: {choices}"):
        choose_recipe(source(tmp_path), "chess")


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_recipe_fits_the_runtime_and_judges_every_precision(recipe):
    assert {recipe.task, *recipe.other_tasks} <= set(task_names())
    writes = recipe.exporter == "generation"
    made = {name for name, row in PRECISIONS.items() if (row.writes if writes else row.reads)}
    assert recipe.tolerance.keys() == made
    # further ones are judged as int8 is
    assert recipe.golden_tolerance.keys() == {"fp32", *(BITS if writes else ["int8"])}
