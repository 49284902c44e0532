import json
from types import SimpleNamespace

import pytest
import torch
import transformers

from onnxpipe.errors import UnsupportedModel
from onnxpipe.hub.text import embedding_section
from onnxpipe_export.quiet import quiet
from onnxpipe_export.sections import classification_section, text_section
from onnxpipe_export.source import SourceModel
from zoo import MAX_TOKENS, families


@pytest.fixture
def write(tmp_path):
    """Writes sentence-transformers' files; returns the source."""

    def make(modules=None, **files):
        if modules is not None:
            listing = [
                {"path": f"{i}_{kind}", "type": f"sentence_transformers.models.{kind}"}
                for i, kind in enumerate(modules)
            ]
            (tmp_path / "modules.json").write_text(json.dumps(listing))
        for name, content in files.items():
            file = tmp_path / f"{name.replace('__', '/')}.json"
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps(content))
        return SourceModel(tmp_path, "org/model", None, {})

    return make


def tokenizer(limit=512, side="right"):
    special = {"mask_token": "[MASK]", "additional_special_tokens": ["<a>"]}
    return SimpleNamespace(
        model_max_length=limit, truncation_side=side, special_tokens_map=special, clean_up_tokenization_spaces=False
    )


class Positions(torch.nn.Module):
    """A model with nothing but a position table and a config."""

    def __init__(self, rows=None, padding=None, **config):
        super().__init__()
        if rows:
            self.position_embeddings = torch.nn.Embedding(rows, 4, padding_idx=padding)
        self.config = SimpleNamespace(**config)


def test_a_plain_model_keeps_its_tokens_and_means_them_for_similarity(write):
    section = embedding_section(write())
    assert (section.pooling, section.keep_tokens, section.normalize) == (("mean",), True, False)


def test_pooling_and_normalisation_are_those_of_the_modules(write):
    config = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True, "include_prompt": False}
    section = embedding_section(write(["Transformer", "Pooling", "Normalize"], **{"1_Pooling__config": config}))
    assert (section.pooling, section.include_prompt, section.normalize) == (("cls", "mean"), False, True)
    assert not section.keep_tokens


def test_a_module_we_do_not_have_is_named(write):
    with pytest.raises(UnsupportedModel, match="module Dense is not supported; supported are Normalize, Pooling"):
        embedding_section(write(["Transformer", "Pooling", "Dense"]))


def test_a_pooling_we_do_not_have_is_named(write):
    source = write(["Transformer", "Pooling"], **{"1_Pooling__config": {"pooling_mode": "attention"}})
    with pytest.raises(UnsupportedModel, match="pooling 'attention' is not supported"):
        embedding_section(source)


@pytest.mark.parametrize(
    ("limit", "model", "expected"),
    [
        (512, Positions(128), 128),
        (64, Positions(128), 64),
        (512, Positions(130, padding=1), 128),  # RoBERTa: two rows before the first position
        (10**30, Positions(max_position_embeddings=77), 77),
        (10**30, Positions(), None),
    ],
)
def test_the_limit_is_the_smallest_of_tokenizer_and_position_table(write, limit, model, expected):
    assert text_section(write(), model, tokenizer(limit)).max_tokens == expected


@pytest.mark.parametrize("family", families("ForSequenceClassification"))
def test_every_family_says_how_many_tokens_it_was_made_for(write, tiny_model, family):
    with quiet():
        folder = tiny_model(family, "ForSequenceClassification")
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    assert text_section(write(), model, tokenizer(10**30)).max_tokens == MAX_TOKENS


def test_sentence_transformers_limit_and_prompts_are_taken(write):
    source = write(
        ["Transformer", "Pooling"],
        sentence_bert_config={"max_seq_length": 48},
        config_sentence_transformers={"prompts": {"query": "q: ", "document": ""}, "default_prompt_name": "query"},
    )
    section = text_section(source, Positions(128), tokenizer())
    assert (section.max_tokens, section.prompts, section.default_prompt) == (
        48,
        {"query": "q: ", "document": ""},
        "query",
    )


@pytest.mark.parametrize(
    ("problem", "labels", "activation"),
    [
        (None, 2, "softmax"),
        (None, 1, "sigmoid"),
        ("regression", 1, "none"),
        ("multi_label_classification", 3, "sigmoid"),
        ("single_label_classification", 3, "softmax"),
    ],
)
def test_the_activation_is_that_of_the_problem(problem, labels, activation):
    names = {index: f"label {index}" for index in range(labels)}
    model = SimpleNamespace(config=SimpleNamespace(problem_type=problem, num_labels=labels, id2label=names))
    section = classification_section(model)
    assert (section.activation, section.labels) == (activation, tuple(names.values()))
