"""Texts from texts beside transformers 4.57.6, through whole bundles: tokenizers, prefixes, languages and defaults.

The reference is `generate` over the model's own tokenizer, as its pipelines call it. Random models write anything, so
texts are compared with all their special tokens left out and nothing else changed.
"""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="parity needs the export extra")
import torch
import transformers

import onnxpipe

SEQ2SEQ, CAUSAL = "ForSeq2SeqLM", "ForCausalLM"
TEXTS = [
    "All human beings are born free and equal in dignity and rights.",
    "How are you?",
    "Toutes les personnes naissent libres.",
    "a",
    "The tower is 324 metres tall, about the same height as an 81-storey building, and the tallest in Paris.",
    "Numbers: 1, 22, 333 and 4444!",
    "Freiheit, Gleichheit,\nBrüderlichkeit",
    "  spaces  before and after  ",
    "what's up, they're here, it isn't",
    "すべての人間は自由",
]
SHORT = [text for text in TEXTS if len(text) < 60]  # within the 64 tokens that the models hold
SETTINGS: list[dict[str, Any]] = [
    {"max_new_tokens": 12, "num_beams": 1},
    {"max_new_tokens": 8, "num_beams": 3, "num_return_sequences": 2},
]


@pytest.fixture(autouse=True)
def quiet():
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(level)


class Reference:
    """The model and tokenizer of a folder."""

    def __init__(self, folder: Path, head: str) -> None:
        auto = getattr(transformers, f"AutoModel{head}")
        self.model = auto.from_pretrained(folder, attn_implementation="eager").eval()
        slow = self.model.config.model_type == "blenderbot-small"  # whose fast class is wrong for its own files
        loader = transformers.BlenderbotSmallTokenizer if slow else transformers.AutoTokenizer
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a library that Marian's tokenizer can do without
            self.tokenizer = loader.from_pretrained(folder)

    def write(self, text: str, given: Mapping[str, Any], **more: Any) -> list[str]:
        inputs = self.tokenizer(text, return_tensors="pt", truncation=self.model.config.is_encoder_decoder)
        inputs.pop("token_type_ids", None)
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            rows = self.model.generate(
                **inputs, do_sample=False, use_model_defaults=False, **self.defaults(), **given, **more
            )
        begin = 0 if self.model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
        return [self.decode(row, begin) for row in rows]

    def defaults(self) -> dict[str, Any]:
        """What the model's own files say and a request does not: tokens that begin, end and are forced."""
        said = self.model.generation_config.to_diff_dict()
        names = ("eos_token_id", "pad_token_id", "bos_token_id", "decoder_start_token_id", "forced_eos_token_id")
        return {name: said[name] for name in (*names, "forced_bos_token_id", "bad_words_ids") if name in said}

    def decode(self, row: Any, begin: int) -> str:
        whole = self.tokenizer.decode(row, skip_special_tokens=True)
        if not begin:
            return whole
        prompt = self.tokenizer.decode(row[:begin], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return self.tokenizer.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=False)[len(prompt) :]


@pytest.mark.parametrize("given", SETTINGS, ids=["greedy", "beams"])
@pytest.mark.parametrize("family", ["bart", "pegasus", "t5", "mt5", "marian", "blenderbot-small"])
def test_rewritten_texts_are_those_of_the_reference(
    family: str, given: dict[str, Any], tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path]
) -> None:
    reference = Reference(tiny_model(family, SEQ2SEQ), SEQ2SEQ)
    pipeline = onnxpipe.load(tiny_bundle(family, SEQ2SEQ), task="text2text-generation")
    found = [[item.generated_text for item in texts] for texts in pipeline(SHORT, **given)]
    expected = [reference.write(text, given) for text in SHORT]
    # Blenderbot's mark of an unfinished word stays at the end of the reference's texts
    assert found == [[text.removesuffix("@@") for text in texts] for texts in expected]


@pytest.mark.parametrize("family", ["gpt2", "opt", "bloom", "llama", "qwen2", "gemma", "gpt_neox"])
def test_continued_texts_are_those_of_the_reference(
    family: str, tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path]
) -> None:
    reference = Reference(tiny_model(family, CAUSAL), CAUSAL)
    pipeline = onnxpipe.load(tiny_bundle(family, CAUSAL))
    found = [texts[0].generated_text for texts in pipeline(SHORT, **SETTINGS[0])]
    assert found == [reference.write(text, SETTINGS[0])[0] for text in SHORT]


@pytest.mark.parametrize(
    ("family", "source", "target"),
    [("m2m_100", 0, 1), ("m2m_100", 1, 2), ("nllb", 0, 1), ("nllb", 2, 0), ("mbart-50", 0, 1), ("mbart-50", 1, 0)],
)
def test_translations_between_languages_are_those_of_the_reference(
    family: str, source: int, target: int, tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path]
) -> None:
    reference = Reference(tiny_model(family, SEQ2SEQ), SEQ2SEQ)
    pipeline = onnxpipe.load(tiny_bundle(family, SEQ2SEQ), task="translation")
    languages = list(pipeline.model.bundle.manifest.translation.languages)
    names = {"src_lang": languages[source], "tgt_lang": languages[target]}
    found = [texts[0].translation_text for texts in pipeline(TEXTS, **names, **SETTINGS[0])]
    reference.tokenizer.src_lang = names["src_lang"]
    token = pipeline.model.bundle.manifest.translation.languages[names["tgt_lang"]]
    assert found == [reference.write(text, SETTINGS[0], forced_bos_token_id=token)[0] for text in TEXTS]


def test_t5_translates_and_summarizes_behind_its_prefixes(
    tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path]
) -> None:
    specific = {
        "summarization": {"prefix": "summarize: ", "max_length": 20, "num_beams": 2},
        "translation_en_to_de": {"prefix": "translate English to German: ", "max_length": 12},
        "translation_en_to_fr": {"prefix": "translate English to French: ", "max_length": 12},
    }
    reference = Reference(tiny_model("t5", SEQ2SEQ, task_specific_params=specific), SEQ2SEQ)
    bundle = tiny_bundle("t5", SEQ2SEQ, task_specific_params=specific)
    summarize, translate = (onnxpipe.load(bundle, task=task) for task in ("summarization", "translation"))
    for text in TEXTS:
        assert [item.summary_text for item in summarize(text)] == reference.write(
            f"summarize: {text}", {"max_length": 20, "num_beams": 2}
        )
        assert [item.translation_text for item in translate(text)] == reference.write(
            f"translate English to German: {text}", {"max_length": 12}
        )
        assert [item.translation_text for item in translate(text, src_lang="en", tgt_lang="fr")] == reference.write(
            f"translate English to French: {text}", {"max_length": 12}
        )
