"""Tiny random models in hub layout, made in the test run: real architectures, real tokenizers, no downloads.

Weights are drawn large enough that outputs depend on the inputs and labels have clear winners.
"""

import json
import string
from collections.abc import Iterable
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LABELS = ("sadness", "joy", "love", "anger", "fear")
MAX_TOKENS = 64
_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}

FAMILIES = ("bert", "distilbert", "roberta")


def build_model(family: str, head: str, folder: Path, corpus: Iterable[str], **config: object) -> Path:
    """Write a model of a family into `folder`; `head` is a transformers auto class without its `AutoModel` prefix."""
    train, tokenizer_class = _TOKENIZERS[family]
    tokenizer = tokenizer_class(tokenizer_object=train(corpus), model_max_length=MAX_TOKENS)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(sum(map(ord, family + head)))
    settings = _CONFIGS[family](len(tokenizer)) | config
    if head == "ForSequenceClassification" and "num_labels" not in settings:
        settings |= {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}
    model = getattr(transformers, f"AutoModel{head}").from_config(transformers.AutoConfig.for_model(family, **settings))
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=1.0 if name.startswith(("classifier", "score")) else 0.15)
    model.eval().save_pretrained(folder, safe_serialization=True)
    return folder


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


def _wordpiece(corpus: Iterable[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(
        vocab_size=1500,
        special_tokens=special,
        initial_alphabet=list(string.digits + string.ascii_lowercase + string.punctuation),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def _byte_level_bpe(corpus: Iterable[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def _bert(vocab_size: int) -> dict[str, object]:
    return {"vocab_size": vocab_size, "max_position_embeddings": MAX_TOKENS, **_SIZES}


def _distilbert(vocab_size: int) -> dict[str, object]:
    sizes = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "seq_classif_dropout": 0.0}
    return {"vocab_size": vocab_size, "max_position_embeddings": MAX_TOKENS, **sizes}


def _roberta(vocab_size: int) -> dict[str, object]:
    special = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    return {
        "vocab_size": vocab_size,
        "max_position_embeddings": MAX_TOKENS + 2,
        "type_vocab_size": 1,
        **special,
        **_SIZES,
    }


_CONFIGS = {"bert": _bert, "distilbert": _distilbert, "roberta": _roberta}
# family -> (what trains its tokenizer, the transformers class that wraps it)
_TOKENIZERS = {
    "bert": (_wordpiece, transformers.BertTokenizerFast),
    "distilbert": (_wordpiece, transformers.DistilBertTokenizerFast),
    "roberta": (_byte_level_bpe, transformers.RobertaTokenizerFast),
}
