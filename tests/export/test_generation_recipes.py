import json

import pytest

from onnxpipe.errors import UnsupportedModel
from onnxpipe_export.recipes import choose_recipe
from onnxpipe_export.source import SourceModel

TRANSLATION = {"translation_en_to_de": {"prefix": "translate English to German: "}}
SUMMARIES = {"summarization": {"num_beams": 4}}


def recipe(folder, architecture, task=None, **specific):
    config = {"architectures": [architecture], "task_specific_params": specific or None}
    return choose_recipe(SourceModel(folder, "org/model", None, config), task)


@pytest.mark.parametrize(
    ("architecture", "specific", "tasks"),
    [
        ("GPT2LMHeadModel", {"text-generation": {"do_sample": True}}, ("text-generation",)),
        ("LlamaForCausalLM", {}, ("text-generation",)),
        ("BloomForCausalLM", {}, ("text-generation",)),
        ("GPT2LMHeadModel", {"conversational": {"max_length": 1000}}, ("conversational", "text-generation")),
        ("BlenderbotSmallForConditionalGeneration", {}, ("conversational", "text2text-generation")),
        ("MarianMTModel", {}, ("translation", "text2text-generation")),
        ("M2M100ForConditionalGeneration", {}, ("translation", "text2text-generation")),
        ("MBartForConditionalGeneration", {"translation_en_to_ro": {}}, ("translation", "text2text-generation")),
        ("PegasusForConditionalGeneration", {}, ("summarization", "text2text-generation")),
        ("BartForConditionalGeneration", SUMMARIES, ("summarization", "text2text-generation")),
        ("BartForConditionalGeneration", {}, ("text2text-generation",)),
        ("MT5ForConditionalGeneration", {}, ("text2text-generation",)),
        (
            "T5ForConditionalGeneration",
            TRANSLATION | SUMMARIES,
            ("text2text-generation", "translation", "summarization"),
        ),
        ("T5WithLMHeadModel", SUMMARIES, ("summarization", "text2text-generation")),
    ],
)
def test_the_files_tell_what_a_model_that_writes_is_for(tmp_path, architecture, specific, tasks):
    chosen = recipe(tmp_path, architecture, **specific)
    assert chosen.tasks == tasks
    assert chosen.exporter == "generation"
    assert ("translation" in chosen.sections) == ("translation" in tasks)


@pytest.mark.parametrize("architecture", ["MoonshineForConditionalGeneration", "BlipForConditionalGeneration"])
def test_a_model_of_sounds_or_pictures_is_none_of_texts(tmp_path, architecture):
    with pytest.raises(UnsupportedModel, match="the task cannot be told"):
        recipe(tmp_path, architecture)


def test_a_requested_task_comes_first_and_the_others_stay(tmp_path):
    chosen = recipe(tmp_path, "T5ForConditionalGeneration", "summarization", **TRANSLATION)
    assert chosen.tasks == ("summarization", "translation", "text2text-generation")
    assert "translation" in chosen.sections


@pytest.mark.parametrize("file", ["tokenizer_config.json", "chat_template.jinja"])
def test_a_decoder_with_a_chat_template_serves_conversations(tmp_path, file):
    (tmp_path / file).write_text(json.dumps({"chat_template": "{{ messages }}"}))
    assert recipe(tmp_path, "LlamaForCausalLM").tasks == ("text-generation", "conversational")
    asked = recipe(tmp_path, "LlamaForCausalLM", "conversational")
    assert asked.tasks == ("conversational", "text-generation")
    assert asked.auto_class == "AutoModelForCausalLM"


def test_an_encoder_decoder_asked_for_conversations_is_loaded_as_one(tmp_path):
    chosen = recipe(tmp_path, "BartForConditionalGeneration", "conversational")
    assert chosen.auto_class == "AutoModelForSeq2SeqLM"
