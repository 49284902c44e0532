"""Tiny random models in hub layout, made in the test run: real architectures, real tokenizers, no downloads.

A family's tokenizer is trained to the vocabulary files its models have on the hub; transformers' own class makes the
rest of it. Weights are drawn large enough that outputs depend on the inputs and have clear winners.
"""

import dataclasses
import functools
import json
import string
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import sentencepiece
import tokenizers
import torch
import transformers
from tokenizers import processors
from transformers import PreTrainedTokenizerFast as FastTokenizer

LABELS = ("sadness", "joy", "love", "anger", "fear")
TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC")
MAX_TOKENS = 64
_VOCABULARY = 1500
_ENCODER_HEADS = ("", "ForSequenceClassification", "ForMaskedLM", "ForTokenClassification", "ForQuestionAnswering")

Files = dict[str, str]  # a tokenizer class' arguments: what each vocabulary file is for -> its path


@dataclasses.dataclass(frozen=True)
class Family:
    """One kind of model: `train` writes vocabulary files into a folder, `tokenizer` reads them."""

    model_type: str
    train: Callable[[Iterable[str], Path], Files]
    tokenizer: Callable[..., FastTokenizer]
    config: Mapping[str, object]
    heads: tuple[str, ...] = _ENCODER_HEADS


def build_model(family: str, head: str, folder: Path, corpus: Iterable[str], **config: object) -> Path:
    """Write a model of a family into `folder`; `head` is a transformers auto class without its `AutoModel` prefix."""
    row = _ZOO[family]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = row.tokenizer(**row.train(corpus, folder), model_max_length=MAX_TOKENS)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(sum(map(ord, family + head)))
    settings = {"vocab_size": len(tokenizer), **_special_ids(tokenizer), **row.config, **config}
    labels = {"ForSequenceClassification": LABELS, "ForTokenClassification": TAGS}.get(head)
    if labels and not settings.keys() & {"num_labels", "id2label"}:
        settings |= {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    settings = transformers.AutoConfig.for_model(row.model_type, **settings)
    model = getattr(transformers, f"AutoModel{head}").from_config(settings)
    _draw_weights(model)
    model.eval().save_pretrained(folder, safe_serialization=True)
    return folder


def families(head: str) -> tuple[str, ...]:
    """The families that have models with a head."""
    return tuple(name for name, row in _ZOO.items() if head in row.heads)


def _special_ids(tokenizer: FastTokenizer) -> dict[str, int | None]:
    roles = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
    return {role: getattr(tokenizer, role) for role in roles}


def _draw_weights(model: torch.nn.Module) -> None:
    """Normal weights, wide in embeddings, which are normalised next, and in the layer that answers: the last."""
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    wide = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    for module in layers[:-1]:
        torch.nn.init.normal_(module.weight, std=0.2)
    for module in (*wide, layers[-1]):
        torch.nn.init.normal_(module.weight, std=1.0)


def _wordpiece(corpus: Iterable[str], folder: Path, *, special: list[str], lowercase: bool = True) -> Files:
    tokenizer = tokenizers.BertWordPieceTokenizer(lowercase=lowercase)
    tokenizer.train_from_iterator(
        corpus,
        vocab_size=_VOCABULARY,
        limit_alphabet=400,
        initial_alphabet=list(string.digits + string.ascii_letters + string.punctuation),
        special_tokens=special,
        show_progress=False,
    )
    return {"vocab_file": tokenizer.save_model(str(folder))[0]}


def _byte_level_bpe(corpus: Iterable[str], folder: Path, *, special: list[str]) -> Files:
    tokenizer = tokenizers.ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(corpus, vocab_size=_VOCABULARY, special_tokens=special, show_progress=False)
    return dict(zip(("vocab_file", "merges_file"), tokenizer.save_model(str(folder)), strict=True))


def _unigram(corpus: Iterable[str], folder: Path, *, file: str, **special: object) -> Files:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(line for text in corpus for line in text.splitlines()),
        model_prefix=str(folder / Path(file).stem),
        vocab_size=_VOCABULARY,
        minloglevel=2,
        **special,
    )
    (folder / f"{Path(file).stem}.vocab").unlink()
    return {"vocab_file": str(folder / file)}


def _modernbert_tokenizer(
    vocab_file: str, merges_file: str, **settings: object
) -> transformers.PreTrainedTokenizerFast:
    """ModernBERT has no tokenizer class of its own: what its tokenizer.json says."""
    tokenizer = tokenizers.ByteLevelBPETokenizer.from_file(vocab_file, merges_file, unicode_normalizer="nfc")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    roles = {f"{token.strip('[]').lower()}_token": token for token in _BERT_SPECIAL}
    roles["mask_token"] = tokenizers.AddedToken("[MASK]", lstrip=True, special=True)
    return FastTokenizer(
        tokenizer_object=tokenizer._tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        **roles,
        **settings,
    )


def add_sentence_transformers_files(
    folder: Path, *, pooling: dict[str, object], normalize: bool = True, prompts: dict[str, str] | None = None
) -> Path:
    """Turn a model folder into a sentence-transformers one, as that library laid models out from release 2 on."""
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    modules = [
        {
            "idx": index,
            "name": str(index),
            "path": "" if kind == "Transformer" else f"{index}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, kind in enumerate(kinds)
    ]
    _write(folder / "modules.json", modules)
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32, **pooling})
    _write(folder / "sentence_bert_config.json", {"max_seq_length": 48, "do_lower_case": False})
    if prompts:
        _write(folder / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": None})
    return folder


def _write(file: Path, content: object) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")


_BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_bert_wordpiece = functools.partial(_wordpiece, special=_BERT_SPECIAL)
_roberta_bpe = functools.partial(_byte_level_bpe, special=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])

_ALBERT_PIECES = {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "control_symbols": ["[CLS]", "[SEP]", "[MASK]"]}
_DEBERTA_PIECES = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3} | {
    f"{role}_piece": f"[{token}]" for role, token in {"pad": "PAD", "bos": "CLS", "eos": "SEP", "unk": "UNK"}.items()
}

_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_POSITIONS = {"max_position_embeddings": MAX_TOKENS}
# positions are counted from behind the padding token's id, 1
_SHIFTED_POSITIONS = {"max_position_embeddings": MAX_TOKENS + 2}
_NO_TYPES = {"type_vocab_size": 1}
_BART_SIZES = {"d_model": 32} | {
    f"{side}_{size}": number
    for side in ("encoder", "decoder")
    for size, number in {"layers": 2, "attention_heads": 4, "ffn_dim": 64}.items()
}

# as release 3: relative positions only, no token types
_DEBERTA_RELATIVE = {
    "type_vocab_size": 0,
    "position_biased_input": False,
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_buckets": 8,
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
}

_ZOO = {
    "bert": Family("bert", _bert_wordpiece, transformers.BertTokenizerFast, _SIZES | _POSITIONS),
    "bert-cased": Family(
        "bert",
        functools.partial(_bert_wordpiece, lowercase=False),
        functools.partial(transformers.BertTokenizerFast, do_lower_case=False),
        _SIZES | _POSITIONS,
    ),
    "distilbert": Family(
        "distilbert",
        _bert_wordpiece,
        transformers.DistilBertTokenizerFast,
        _POSITIONS | {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    ),
    "roberta": Family(
        "roberta", _roberta_bpe, transformers.RobertaTokenizerFast, _SIZES | _SHIFTED_POSITIONS | _NO_TYPES
    ),
    "xlm-roberta": Family(
        "xlm-roberta",
        functools.partial(_unigram, file="sentencepiece.bpe.model"),
        transformers.XLMRobertaTokenizerFast,
        _SIZES | _SHIFTED_POSITIONS | _NO_TYPES,
    ),
    "albert": Family(
        "albert",
        functools.partial(_unigram, file="spiece.model", **_ALBERT_PIECES),
        transformers.AlbertTokenizerFast,
        _SIZES | _POSITIONS | {"embedding_size": 16},
    ),
    "electra": Family(
        "electra", _bert_wordpiece, transformers.ElectraTokenizerFast, _SIZES | _POSITIONS | {"embedding_size": 16}
    ),
    "mpnet": Family(
        "mpnet",
        functools.partial(_wordpiece, special=["<s>", "<pad>", "</s>", "<unk>", "[UNK]", "<mask>"]),
        transformers.MPNetTokenizerFast,
        _SIZES | _SHIFTED_POSITIONS,
    ),
    "deberta-v2": Family(
        "deberta-v2",
        functools.partial(_unigram, file="spm.model", **_DEBERTA_PIECES),
        transformers.DebertaV2TokenizerFast,
        _SIZES | _POSITIONS | _DEBERTA_RELATIVE,
    ),
    # every second layer looks at no more than four neighbours on each side
    "modernbert": Family(
        "modernbert",
        functools.partial(_byte_level_bpe, special=_BERT_SPECIAL),
        _modernbert_tokenizer,
        _SIZES | _POSITIONS | {"local_attention": 8, "global_attn_every_n_layers": 2},
    ),
    "bart": Family(
        "bart",
        _roberta_bpe,
        transformers.BartTokenizerFast,
        _POSITIONS | _BART_SIZES,
        heads=("ForSequenceClassification",),
    ),
    # its own limit of 512 tokens, not MAX_TOKENS: tables are long; the range is that of the weights that score cells
    "tapas": Family(
        "tapas",
        functools.partial(_wordpiece, special=[*_BERT_SPECIAL, "[EMPTY]"]),
        lambda vocab_file, **_: transformers.TapasTokenizer(vocab_file),
        _SIZES | {"initializer_range": 1.0},
        heads=("ForTableQuestionAnswering",),
    ),
}
FAMILIES = tuple(name for name, row in _ZOO.items() if set(row.heads) == set(_ENCODER_HEADS))
