"""The tasks that write text: one row each.

What a model is for is told by its architecture and by `task_specific_params` in its config.json; an encoder-decoder
model serves what it was not made for, too, as far as its files say how.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from onnxpipe.pipeline import AnyPipeline
from onnxpipe.verification.samples import TEXTS
from onnxpipe_export.recipe import TOKENS, Head, Recipe
from onnxpipe_export.source import SourceModel

_SEQ2SEQ = (
    "BartForConditionalGeneration",
    "PegasusForConditionalGeneration",
    "T5ForConditionalGeneration",
    "T5WithLMHeadModel",  # the same, as the first T5 models name it
)
_TRANSLATORS = ("MarianMTModel", "M2M100ForConditionalGeneration", "MBartForConditionalGeneration")
_TALKERS = ("BlenderbotSmallForConditionalGeneration",)
_DECODERS = ("ForCausalLM", "GPT2LMHeadModel")
# where a chat template lies
_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")
# greedy, and few: what was verified before is only recognised by them
_GOLDEN = {"do_sample": False, "num_beams": 1, "num_return_sequences": 1, "max_new_tokens": 5}


def _specific(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return config.get("task_specific_params") or {}


def _named(config: Mapping[str, Any], ends: tuple[str, ...]) -> bool:
    return any(str(name).endswith(ends) for name in config.get("architectures") or [])


def talks(config: Mapping[str, Any]) -> bool:
    """Whether a model was made for conversations: Blenderbot-small, or DialoGPT, whose parameters say so."""
    return _named(config, _TALKERS) or "conversational" in _specific(config)


def translates(config: Mapping[str, Any]) -> bool:
    """Whether a model is told languages: by tokens, or by words for pairs of them."""
    return _named(config, _TRANSLATORS) or any(name.startswith("translation_") for name in _specific(config))


def summarizes(config: Mapping[str, Any]) -> bool:
    """Whether a model was made for summaries: Pegasus, and those with parameters for them."""
    return _named(config, ("PegasusForConditionalGeneration",)) or "summarization" in _specific(config)


def is_summarizer(config: Mapping[str, Any]) -> bool:
    """Whether summaries come before all else a model does."""
    return summarizes(config) and not translates(config)


def seq2seq_tasks(source: SourceModel) -> tuple[str, ...]:
    """What an encoder-decoder model serves, whatever it was asked for."""
    told = {"conversational": talks, "translation": translates, "summarization": summarizes}
    return (*(task for task, holds in told.items() if holds(source.config)), "text2text-generation")


def decoder_tasks(source: SourceModel) -> tuple[str, ...]:
    """What a decoder alone serves: conversations too, where it has a template for them or was made for them."""
    settings = source.read_json("tokenizer_config.json") or {}
    chats = bool(settings.get("chat_template")) or any((source.folder / name).is_file() for name in _TEMPLATE_FILES)
    return ("text-generation", *(["conversational"] if chats or talks(source.config) else []))


def any_tasks(source: SourceModel) -> tuple[str, ...]:
    """What a model for conversations serves beside them."""
    return (decoder_tasks if source.architecture.endswith(_DECODERS) else seq2seq_tasks)(source)


def golden_pair(pipeline: AnyPipeline, _: object) -> Mapping[str, object]:
    """Parameters that also name the languages, where a model wants them named."""
    section = pipeline.model.bundle.manifest.translation
    names = list(section.languages) if section else []
    if section is None or not names or section.default_target is not None:
        return _GOLDEN
    source = {"src_lang": section.default_source or names[0]} if "source" in section.template else {}
    return {**_GOLDEN, **source, "tgt_lang": next(name for name in names if name != section.default_source)}


_WRITER = Recipe(
    task="text-generation",
    more_tasks=decoder_tasks,
    architectures=_DECODERS,
    sections=("text", "generation", "chat"),
    auto_class="AutoModelForCausalLM",
    exporter_task="text-generation",
    exporter="generation",
    judge="tokens",
    golden_parameters=_GOLDEN,
    tolerance=TOKENS,
    # texts are the same or not; log probabilities are not part of them
    golden_tolerance=dict.fromkeys(TOKENS, 0.0),
)
_SEQ2SEQ_HEAD = Head(auto_class="AutoModelForSeq2SeqLM", exporter_task="text2text-generation", outputs=("logits",))
_REWRITER = dataclasses.replace(
    _WRITER, task="text2text-generation", more_tasks=seq2seq_tasks, architectures=_SEQ2SEQ, **vars(_SEQ2SEQ_HEAD)
)

# the first that fits wins: from what few models are for to what all can do
GENERATION_RECIPES = (
    dataclasses.replace(
        _WRITER,
        task="conversational",
        more_tasks=any_tasks,
        architectures=(*_TALKERS, *_DECODERS),
        applies=talks,
        heads={"ForConditionalGeneration": _SEQ2SEQ_HEAD},
        golden={"text": TEXTS[0]},
    ),
    dataclasses.replace(_REWRITER, task="translation", architectures=_TRANSLATORS, golden_parameters=golden_pair),
    dataclasses.replace(_REWRITER, task="summarization", applies=is_summarizer),
    _REWRITER,
    _WRITER,
)
