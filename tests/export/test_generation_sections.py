"""Sections of models that write, from files shaped as those of well-known models on the hub."""

import json
from types import SimpleNamespace

import pytest
import transformers

from onnxpipe.errors import UnsupportedModel
from onnxpipe.generation.options import read_defaults, resolve
from onnxpipe_export.generation_sections import generation_section, translation_section
from onnxpipe_export.loaded import Loaded
from onnxpipe_export.quiet import quiet
from onnxpipe_export.source import SourceModel

T5_PARAMETERS = {
    "summarization": {
        "early_stopping": True,
        "length_penalty": 2.0,
        "max_length": 200,
        "min_length": 30,
        "no_repeat_ngram_size": 3,
        "num_beams": 4,
        "prefix": "summarize: ",
    },
    "translation_en_to_de": {"max_length": 300, "num_beams": 4, "prefix": "translate English to German: "},
    "translation_en_to_fr": {"max_length": 300, "num_beams": 4, "prefix": "translate English to French: "},
}


@pytest.fixture
def load(tmp_path):
    """A model's files and what transformers makes of its configuration."""

    def make(model_type, *, generation=None, tokenizer=None, settings=None, **config):
        config = {"model_type": model_type, **config}
        for name, content in (("generation_config", generation), ("tokenizer_config", settings)):
            if content is not None:
                (tmp_path / f"{name}.json").write_text(json.dumps(content))
        read = transformers.AutoConfig.for_model(**config)
        made = transformers.GenerationConfig
        with quiet():
            written = made.from_model_config(read) if generation is None else made(**generation)
        model = SimpleNamespace(config=read, generation_config=written)
        return Loaded(SourceModel(tmp_path, "org/model", None, config), model, tokenizer)

    return make


def tokenizer_of(tiny_model, family):
    with quiet():
        return transformers.AutoTokenizer.from_pretrained(tiny_model(family, "ForSeq2SeqLM"))


def test_t5_is_told_its_tasks_in_words(load):
    loaded = load("t5", decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, task_specific_params=T5_PARAMETERS)
    section = generation_section(loaded, ("text2text-generation", "translation", "summarization"))
    assert section.prefixes == {"summarization": "summarize: "}
    assert section.task_defaults["summarization"]["num_beams"] == 4
    assert "prefix" not in section.task_defaults["translation_en_to_de"]
    assert (section.decoder_prompt, section.max_length) == ((0,), None)
    assert section.defaults == {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}
    translation = translation_section(loaded)
    assert list(translation.prefixes) == ["en_to_de", "en_to_fr"]
    assert (translation.default_source, translation.default_target) == ("en", "de")
    assert not translation.languages


def test_what_older_models_have_in_config_json_counts(load):
    # facebook/bart-large-cnn before it had a generation_config.json
    loaded = load(
        "bart",
        num_beams=4,
        max_length=142,
        min_length=56,
        length_penalty=2.0,
        early_stopping=True,
        no_repeat_ngram_size=3,
        forced_bos_token_id=0,
        decoder_start_token_id=2,
        prefix=" ",
        task_specific_params={"summarization": {"num_beams": 4, "max_length": 142, "min_length": 56}},
    )
    section = generation_section(loaded, ("summarization", "text2text-generation"))
    assert (section.defaults["num_beams"], section.defaults["max_length"], section.defaults["min_length"]) == (
        4,
        142,
        56,
    )
    assert (section.defaults["forced_bos_token_id"], section.decoder_prompt) == (0, (2,))
    assert section.prefixes == {"summarization": " ", "text2text-generation": " "}
    assert section.max_length == 1024
    options = resolve({}, read_defaults(section.defaults, section.task_defaults["summarization"]))
    assert (options.num_beams, options.model_max_length, options.min_length) == (4, 142, 56)


def test_defaults_that_are_said_are_kept_though_they_are_transformers_own(load):
    said = {"do_sample": True, "temperature": 1.0, "top_k": 50, "eos_token_id": [2, 7], "transformers_version": "4.40"}
    section = generation_section(load("llama", generation=said), ("text-generation",))
    assert section.defaults == {"do_sample": True, "temperature": 1.0, "top_k": 50, "eos_token_id": [2, 7]}
    assert section.decoder_prompt == ()


def test_what_is_not_said_stays_unsaid(load):
    section = generation_section(load("llama", generation={"bos_token_id": 1, "eos_token_id": 2}), ())
    assert section.defaults == {"bos_token_id": 1, "eos_token_id": 2}


def test_dialogpt_samples_for_conversations_alone(load):
    # microsoft/DialoGPT-medium
    parameters = {"conversational": {"max_length": 1000}}
    loaded = load("gpt2", bos_token_id=50256, eos_token_id=50256, task_specific_params=parameters)
    section = generation_section(loaded, ("conversational", "text-generation"))
    assert section.task_defaults == {"conversational": {"max_length": 1000}}
    assert (section.max_length, section.prefixes) == (1024, {})


def test_marian_forbids_its_padding_and_begins_with_it(load):
    generation = {
        "bad_words_ids": [[58100]],
        "bos_token_id": 0,
        "decoder_start_token_id": 58100,
        "eos_token_id": 0,
        "forced_eos_token_id": 0,
        "max_length": 512,
        "num_beams": 4,
        "pad_token_id": 58100,
    }
    settings = {"source_lang": "en", "target_lang": "de"}
    tokenizer = SimpleNamespace(get_vocab=lambda: {"</s>": 0, "<unk>": 1, "▁the": 2})
    loaded = load("marian", generation=generation, settings=settings, tokenizer=tokenizer, max_position_embeddings=512)
    section = generation_section(loaded, ("translation",))
    assert section.defaults["bad_words_ids"] == [[58100]]
    assert (section.decoder_prompt, section.max_length) == ((58100,), 512)
    translation = translation_section(loaded)
    assert (translation.languages, translation.template) == ({}, ("text", "eos"))
    assert (translation.default_source, translation.default_target) == ("en", "de")


def test_marian_for_several_targets_is_told_which_before_the_text(load, tiny_model):
    tokenizer = tokenizer_of(tiny_model, "marian, several targets")
    translation = translation_section(load("marian", settings={"target_lang": "roa"}, tokenizer=tokenizer))
    assert translation.template == ("target", "text", "eos")
    assert translation.languages["fra"] == tokenizer.convert_tokens_to_ids(">>fra<<")
    assert translation.default_target is None


@pytest.mark.parametrize(
    ("family", "model_type", "template", "code", "default"),
    [
        ("nllb", "m2m_100", ("source", "text", "eos"), "deu_Latn", "eng_Latn"),
        ("m2m_100", "m2m_100", ("source", "text", "eos"), "de", "en"),
        ("mbart-50", "mbart", ("source", "text", "eos"), "de_DE", "en_XX"),
        ("mbart", "mbart", ("text", "eos", "source"), "de_DE", "en_XX"),
    ],
)
def test_languages_are_tokens_where_the_tokenizer_puts_them(
    load, tiny_model, family, model_type, template, code, default
):
    tokenizer = tokenizer_of(tiny_model, family)
    generation = {"decoder_start_token_id": tokenizer.eos_token_id}
    translation = translation_section(load(model_type, generation=generation, tokenizer=tokenizer))
    assert (translation.template, translation.target) == (template, "forced")
    assert (translation.default_source, translation.default_target) == (default, None)
    tokenizer.src_lang = code
    place = 0 if template[0] == "source" else -1
    assert tokenizer("one")["input_ids"][place] == translation.languages[code]


def test_every_language_of_nllb_is_known_and_nothing_else(load, tiny_model):
    tokenizer = tokenizer_of(tiny_model, "nllb")
    languages = translation_section(load("m2m_100", generation={}, tokenizer=tokenizer)).languages
    assert len(languages) == len(transformers.models.nllb.tokenization_nllb.FAIRSEQ_LANGUAGE_CODES)
    assert "<mask>" not in languages


def test_the_first_mbart_begins_with_the_target_language(load, tiny_model):
    # facebook/mbart-large-en-ro
    tokenizer = tokenizer_of(tiny_model, "mbart")
    romanian = tokenizer.convert_tokens_to_ids("ro_RO")
    loaded = load("mbart", generation={"decoder_start_token_id": romanian}, tokenizer=tokenizer)
    translation = translation_section(loaded)
    assert (translation.target, translation.default_target) == ("start", "ro_RO")
    assert generation_section(loaded, ("translation",)).decoder_prompt == (romanian,)


def test_a_model_into_one_language_has_it_as_default(load, tiny_model):
    # facebook/mbart-large-50-many-to-one-mmt
    tokenizer = tokenizer_of(tiny_model, "mbart-50")
    english = tokenizer.convert_tokens_to_ids("en_XX")
    generation = {"decoder_start_token_id": 2, "forced_bos_token_id": english}
    assert translation_section(load("mbart", generation=generation, tokenizer=tokenizer)).default_target == "en_XX"


def test_the_beginning_of_a_text_is_the_decoders_where_no_other_is_named(load):
    assert generation_section(load("bart", generation={"bos_token_id": 5}), ()).decoder_prompt == (5,)
    with pytest.raises(UnsupportedModel, match="nothing to begin with"):
        generation_section(load("bart", generation={}), ())


def test_defaults_that_no_request_could_have_are_refused(load):
    with pytest.raises(UnsupportedModel, match=r"org/model: its generation_config.json.*`temperature`"):
        generation_section(load("llama", generation={"temperature": -1.0}), ())


def test_biases_of_sequences_are_plain_data(load):
    loaded = load("llama", generation={"sequence_bias": [[[5, 6], -2.0]]})
    expected = [[[5, 6], -2.0]]
    assert generation_section(loaded, ()).defaults["sequence_bias"] == expected
    loaded.model.generation_config.sequence_bias = {(5, 6): -2.0}  # as transformers keeps them, too
    assert generation_section(loaded, ()).defaults["sequence_bias"] == expected
