"""Tiny random models that write text, in hub layout: the models of `generation_zoo` with their family's own tokenizer.

Tokenizers are trained to the files that a family has on the hub; those that transformers has in Python only are written
by their own class.
"""

import dataclasses
import functools
import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers
import transformers
from tokenizers import models, normalizers, pre_tokenizers, trainers
from transformers.convert_slow_tokenizer import convert_slow_tokenizer

from generation_zoo import CAUSAL, SEQ2SEQ, Kind, draw
from zoo import _byte_level_bpe

Tokenizer = Any  # fast or slow, of transformers
Train = Callable[[Iterable[str], Path], Tokenizer]

_PIECES = 1200
_MAX_TOKENS = 48


@dataclasses.dataclass(frozen=True)
class WriterFamily:
    """A model, what makes its tokenizer, the tokens that its configs name by their ids, and further defaults of its."""

    kind: Kind
    train: Train
    tokens: Mapping[str, str] = dataclasses.field(default_factory=dict)
    generation: Mapping[str, object] = dataclasses.field(default_factory=dict)


def build_writer(family: str, folder: Path, corpus: Iterable[str], **config: object) -> Path:
    """Write a model of a family into `folder`; `config` goes over its own."""
    row = WRITERS[family]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = row.train(corpus, folder)
    tokenizer.save_pretrained(folder)
    names = ("pad_token_id", "bos_token_id", "eos_token_id")
    ids = {name: getattr(tokenizer, name) for name in names if getattr(tokenizer, name, None) is not None}
    ids |= {name: tokenizer.convert_tokens_to_ids(token) for name, token in row.tokens.items()}
    own = {name: number for name, number in ids.items() if not name.startswith("forced_")}
    model = draw(row.kind, vocab_size=len(tokenizer), **own, **config)
    model.generation_config = transformers.GenerationConfig(**ids, **row.generation)
    model.save_pretrained(folder, safe_serialization=True)
    return folder


def _lines(corpus: Iterable[str]) -> list[str]:
    return [line for text in corpus for line in text.splitlines()]


def _pieces(corpus: Iterable[str], file: Path, **settings: object) -> str:
    """A sentencepiece model of some text."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_lines(corpus)),
        model_prefix=str(file.with_suffix("")),
        minloglevel=2,
        **{"vocab_size": _PIECES, **settings},
    )
    file.with_suffix(".vocab").unlink()
    file.with_suffix(".model").rename(file)
    return str(file)


def _numbered(file: str) -> list[str]:
    model = sentencepiece.SentencePieceProcessor(model_file=file)
    return [model.id_to_piece(number) for number in range(model.get_piece_size())]


def _write_vocabulary(tokens: Iterable[str], folder: Path) -> str:
    file = folder / "vocab.json"
    file.write_text(json.dumps({token: number for number, token in enumerate(dict.fromkeys(tokens))}), encoding="utf-8")
    return str(file)


def byte_level(
    corpus: Iterable[str], folder: Path, *, cls: Callable[..., Tokenizer], special: list[str], **settings: object
) -> Tokenizer:
    """A byte-level tokenizer, as GPT-2's and those after it."""
    return cls(**_byte_level_bpe(corpus, folder, special=special), model_max_length=_MAX_TOKENS, **settings)


def from_backend(
    corpus: Iterable[str], folder: Path, *, cls: Callable[..., Tokenizer], special: list[str]
) -> Tokenizer:
    """The same for classes that read nothing but tokenizer.json."""
    files = _byte_level_bpe(corpus, folder, special=special)
    made = tokenizers.ByteLevelBPETokenizer.from_file(files["vocab_file"], files["merges_file"])
    return cls(tokenizer_object=made._tokenizer, model_max_length=_MAX_TOKENS)


def pieces(
    corpus: Iterable[str], folder: Path, *, cls: Callable[..., Tokenizer], file: str, special: Mapping[str, object]
) -> Tokenizer:
    """A tokenizer over a sentencepiece model."""
    model = _pieces(corpus, folder / file, **special)
    made = None
    if cls in (transformers.T5TokenizerFast, transformers.LlamaTokenizerFast):
        # as released: made by the classes themselves, they forget the space before a text (4.57.6)
        made = convert_slow_tokenizer(cls.slow_tokenizer_class(model))
    return cls(vocab_file=model, tokenizer_object=made, model_max_length=_MAX_TOKENS)


def marian(corpus: Iterable[str], folder: Path, *, languages: tuple[str, ...] = ()) -> Tokenizer:
    """A model for each side, and a vocabulary of both; a few pieces of the source are missing in it."""
    texts = list(corpus)
    source = _pieces(texts[::2], folder / "source.spm")
    target = _pieces(texts[1::2], folder / "target.spm")
    known = [piece for number, piece in enumerate(_numbered(source)) if number % 40]
    codes = [f">>{language}<<" for language in languages]
    vocabulary = _write_vocabulary(["</s>", "<unk>", *codes, *known, *_numbered(target), "<pad>"], folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it recommends a package that it has no use for
        return transformers.MarianTokenizer(
            source, target, vocabulary, source_lang="en", target_lang="roa" if languages else "de"
        )


def m2m100(corpus: Iterable[str], folder: Path) -> Tokenizer:
    """A vocabulary that lacks a few pieces of the model."""
    model = _pieces(corpus, folder / "sentencepiece.bpe.model")
    known = [piece for number, piece in enumerate(_numbered(model)[3:]) if number % 40]
    vocabulary = _write_vocabulary(["<s>", "<pad>", "</s>", "<unk>", *known], folder)
    codes = transformers.models.m2m_100.tokenization_m2m_100.FAIRSEQ_LANGUAGE_CODES["m2m100"]
    return transformers.M2M100Tokenizer(
        vocabulary, model, additional_special_tokens=[f"__{code}__" for code in codes], model_max_length=_MAX_TOKENS
    )


def blenderbot_small(corpus: Iterable[str], folder: Path) -> Tokenizer:
    """A vocabulary that lacks a few pieces of the merges."""
    suffix = "</w>"
    made = tokenizers.Tokenizer(models.BPE(unk_token="__unk__", end_of_word_suffix=suffix))
    made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.WhitespaceSplit()
    made.train_from_iterator(
        _lines(corpus),
        trainers.BpeTrainer(vocab_size=_PIECES, end_of_word_suffix=suffix, limit_alphabet=300, show_progress=False),
    )
    model = json.loads(made.to_str())["model"]
    merges = [" ".join(merge) for merge in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    known = [piece for number, piece in enumerate(model["vocab"]) if number % 40 != 7]
    spelled = [piece.removesuffix(suffix) if piece.endswith(suffix) else f"{piece}@@" for piece in known]
    vocabulary = _write_vocabulary(["__null__", "__start__", "__end__", "__unk__", *spelled], folder)
    return transformers.BlenderbotSmallTokenizer(vocabulary, str(folder / "merges.txt"), model_max_length=_MAX_TOKENS)


_GPT2 = functools.partial(byte_level, cls=transformers.GPT2TokenizerFast, special=["<|endoftext|>"])
_LLAMA_PIECES = {
    "model_type": "bpe",
    "byte_fallback": True,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
}
_GEMMA_PIECES = {**_LLAMA_PIECES, "add_dummy_prefix": False, "pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3}
_LLAMA = functools.partial(pieces, cls=transformers.LlamaTokenizerFast, file="tokenizer.model", special=_LLAMA_PIECES)
_GEMMA = functools.partial(pieces, cls=transformers.GemmaTokenizerFast, file="tokenizer.model", special=_GEMMA_PIECES)
_QWEN = functools.partial(byte_level, cls=transformers.Qwen2TokenizerFast, special=["<|endoftext|>", "<|im_end|>"])
_T5_PIECES = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
_T5 = functools.partial(pieces, cls=transformers.T5TokenizerFast, file="spiece.model", special=_T5_PIECES)
_XLM = {"file": "sentencepiece.bpe.model", "special": {}}
_BEAMS = {"num_beams": 4, "early_stopping": True}
_END_FIRST = {"decoder_start_token_id": "</s>"}

WRITERS = {
    "gpt2": WriterFamily(CAUSAL["gpt2"], _GPT2),
    "gpt_neo": WriterFamily(CAUSAL["gpt_neo"], _GPT2),
    "gpt_neox": WriterFamily(
        CAUSAL["gpt_neox"],
        functools.partial(from_backend, cls=transformers.GPTNeoXTokenizerFast, special=["<|endoftext|>"]),
    ),
    "opt": WriterFamily(
        CAUSAL["opt"],
        functools.partial(
            byte_level,
            cls=transformers.GPT2TokenizerFast,
            special=["<s>", "<pad>", "</s>", "<unk>"],
            bos_token="</s>",
            eos_token="</s>",
            pad_token="<pad>",
            unk_token="</s>",
        ),
    ),
    "bloom": WriterFamily(
        CAUSAL["bloom"],
        functools.partial(from_backend, cls=transformers.BloomTokenizerFast, special=["<unk>", "<s>", "</s>", "<pad>"]),
    ),
    **{name: WriterFamily(CAUSAL[name], _LLAMA) for name in ("llama", "mistral", "phi3")},
    **{name: WriterFamily(CAUSAL[name], _QWEN) for name in ("qwen2", "qwen3", "smollm3")},
    **{name: WriterFamily(CAUSAL[name], _GEMMA) for name in ("gemma", "gemma2", "gemma3")},
    "granite": WriterFamily(CAUSAL["granite"], _GPT2),
    "bart": WriterFamily(
        SEQ2SEQ["bart"],
        functools.partial(
            byte_level, cls=transformers.BartTokenizerFast, special=["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        ),
        _END_FIRST | {"forced_bos_token_id": "<s>", "forced_eos_token_id": "</s>"},
        _BEAMS | {"no_repeat_ngram_size": 3},
    ),
    "pegasus": WriterFamily(
        SEQ2SEQ["pegasus"],
        functools.partial(
            pieces,
            cls=transformers.PegasusTokenizerFast,
            file="spiece.model",
            special={"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
        ),
        {"decoder_start_token_id": "<pad>", "forced_eos_token_id": "</s>"},
        {"num_beams": 8, "length_penalty": 0.6},
    ),
    "marian": WriterFamily(SEQ2SEQ["marian"], marian, {"decoder_start_token_id": "<pad>"}, {"num_beams": 4}),
    "marian, several targets": WriterFamily(
        SEQ2SEQ["marian"],
        functools.partial(marian, languages=("fra", "ron", "zho_Hans")),
        {"decoder_start_token_id": "<pad>"},
    ),
    "m2m_100": WriterFamily(SEQ2SEQ["m2m_100"], m2m100, _END_FIRST, _BEAMS),
    "nllb": WriterFamily(
        SEQ2SEQ["m2m_100"], functools.partial(pieces, cls=transformers.NllbTokenizerFast, **_XLM), _END_FIRST
    ),
    "mbart": WriterFamily(
        SEQ2SEQ["mbart"],
        functools.partial(pieces, cls=transformers.MBartTokenizerFast, **_XLM),
        {"decoder_start_token_id": "ro_RO"},
    ),
    "mbart-50": WriterFamily(
        SEQ2SEQ["mbart"],
        functools.partial(pieces, cls=transformers.MBart50TokenizerFast, **_XLM),
        _END_FIRST | {"forced_eos_token_id": "</s>"},
    ),
    "blenderbot-small": WriterFamily(
        SEQ2SEQ["blenderbot-small"],
        blenderbot_small,
        {"decoder_start_token_id": "__start__", "forced_eos_token_id": "__end__"},
        {"num_beams": 10, "min_length": 5, "no_repeat_ngram_size": 3},
    ),
    # as many layers on both sides: else `generate` of transformers 4.57.6 fails
    **{
        name: WriterFamily(
            dataclasses.replace(SEQ2SEQ[name], config={**SEQ2SEQ[name].config, "num_decoder_layers": 2}),
            _T5,
            {"decoder_start_token_id": "<pad>"},
        )
        for name in ("t5", "mt5")
    },
}
# the heads they have, as the auto classes name them
WRITER_HEADS = ("ForCausalLM", "ForSeq2SeqLM")
