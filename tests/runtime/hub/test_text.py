import json
import shutil

import pytest

pytest.importorskip("transformers", reason="the reference needs the export extra")
import transformers

from onnxpipe.errors import UnsupportedModel
from onnxpipe.hub.source import SourceModel
from onnxpipe.hub.text import DEFAULT_TOKENS, embedding_section, pads, special_tokens, text_section, write_tokenizer
from onnxpipe_export.loaded import load_torch
from onnxpipe_export.recipes import choose_recipe
from onnxpipe_export.sections import text_section as exported_text_section
from onnxpipe_export.source import find_model
from onnxpipe_export.tokenizer import load_tokenizer
from zoo import FAMILIES, add_sentence_transformers_files


@pytest.fixture
def write(tmp_path):
    """Writes files; returns the source."""

    def make(config=None, **files):
        for name, content in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return SourceModel(tmp_path, "org/model", None, config or {})

    return make


@pytest.mark.parametrize("family", [*FAMILIES, "bart"])
def test_every_familys_text_is_read_as_at_export(family, tiny_model):
    source = find_model(str(tiny_model(family, "ForSequenceClassification")))
    tokenizer = load_tokenizer(source)
    model = load_torch(source, choose_recipe(source, None))
    assert text_section(source) == exported_text_section(source, model, tokenizer)
    expected = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": tokenizer.pad_token_type_id}
    assert pads(source) == expected


def test_sentence_transformers_limit_and_prompts_are_read_as_at_export(tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model("bert", ""), tmp_path / "model")
    add_sentence_transformers_files(folder, pooling={"pooling_mode_mean_tokens": True}, prompts={"query": "q: "})
    source = find_model(str(folder))
    model = load_torch(source, choose_recipe(source, None))
    section = text_section(source)
    assert section == exported_text_section(source, model, load_tokenizer(source))
    assert (section.max_tokens, section.prompts) == (48, {"query": "q: "})
    assert embedding_section(source).normalize


@pytest.mark.parametrize("kind", DEFAULT_TOKENS)
def test_tokens_that_no_file_names_are_those_of_the_tokenizers_class(kind):
    import inspect

    names = {name.lower(): name for name in dir(transformers) if name.endswith("TokenizerFast")}
    parameters = inspect.signature(getattr(transformers, names[f"{kind}tokenizerfast"])).parameters
    expected = {
        role: parameter.default
        for role, parameter in parameters.items()
        if role.endswith("_token") and isinstance(parameter.default, str)
    }
    assert DEFAULT_TOKENS[kind] == expected


@pytest.mark.parametrize(
    ("kind", "config"),
    [({"tokenizer_class": "BertTokenizer"}, {}), ({}, {"model_type": "bert"}), ({}, {"model_type": "mobilebert"})],
)
def test_the_class_is_the_files_or_that_of_the_model(write, kind, config):
    source = write(config, tokenizer_config={**kind, "do_lower_case": True})
    assert special_tokens(source)["mask_token"] == "[MASK]"


def test_an_unknown_class_has_no_tokens_of_its_own(write):
    assert special_tokens(write(tokenizer_config={"tokenizer_class": "PreTrainedTokenizerFast"})) == {}


def test_the_older_file_counts_only_without_the_newer_list(write):
    old = {"pad_token": {"content": "<p>"}, "additional_special_tokens": ["<a>"]}
    assert special_tokens(write(special_tokens_map=old)) == {"pad_token": "<p>"}
    newer = {"added_tokens_decoder": {}, "pad_token": "<q>"}
    assert special_tokens(write(special_tokens_map=old, tokenizer_config=newer)) == {"pad_token": "<q>"}


@pytest.mark.parametrize(
    ("tokenizer", "number"),
    [
        ({"added_tokens": [{"id": 7, "content": "<p>"}], "model": {"vocab": {"<p>": 1}}}, 7),
        ({"model": {"vocab": {"a": 0, "<p>": 3}}}, 3),
        ({"model": {"vocab": [["a", 0.0], ["<p>", -1.0]]}}, 1),
        ({"model": {"vocab": {"a": 0}}}, 0),
    ],
)
def test_the_padding_tokens_number_is_found_wherever_it_lies(write, tokenizer, number):
    source = write(tokenizer_config={"pad_token": "<p>", "pad_token_type_id": 2}, tokenizer=tokenizer)
    assert pads(source) == {"input_ids": number, "token_type_ids": 2}


def test_a_model_without_a_tokenizer_file_is_told_to_be_exported(write):
    with pytest.raises(UnsupportedModel, match=r"no tokenizer.json.*`onnxpipe export` converts them"):
        pads(write(tokenizer_config={"pad_token": "<p>"}))


def test_a_tokenizer_is_written_without_limits_of_its_own(write, tmp_path):
    source = write(tokenizer={"truncation": {"max_length": 8}, "padding": {}, "normalizer": None, "model": {}})
    (tmp_path / "out").mkdir()
    write_tokenizer(source, tmp_path / "out")
    written = json.loads((tmp_path / "out/tokenizer.json").read_text())
    assert (written["truncation"], written["padding"], written["normalizer"]) == (None, None, None)


def test_lower_casing_that_sentence_transformers_asks_for_comes_first(write, tmp_path):
    source = write(tokenizer={"normalizer": {"type": "NFC"}, "model": {}}, sentence_bert_config={"do_lower_case": True})
    (tmp_path / "out").mkdir()
    write_tokenizer(source, tmp_path / "out")
    steps = json.loads((tmp_path / "out/tokenizer.json").read_text())["normalizer"]["normalizers"]
    assert steps == [{"type": "Lowercase"}, {"type": "NFC"}]
