"""The manifest's `text` and `embedding` sections, from the files of a tokenizer and of sentence-transformers.

What is left unsaid there is what transformers 4.57.6 takes for it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnxpipe.errors import UnsupportedModel
from onnxpipe.hub.source import SourceModel
from onnxpipe.sections import Embedding, Pooling, Text

TOKENIZER = "tokenizer.json"

_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_BRACKETS = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]"} | {
    "mask_token": "[MASK]"
}
_ANGLES = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>"} | {
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
_ENDS = {"bos_token": "[CLS]", "eos_token": "[SEP]"}
# A tokenizer's class without its ending -> the special tokens it has unless its files say others. The classes' names
# begin as the model types do, but for the signs in them.
DEFAULT_TOKENS: Mapping[str, Mapping[str, str]] = {
    "albert": {**_BRACKETS, **_ENDS, "unk_token": "<unk>", "pad_token": "<pad>"},
    "bart": _ANGLES,
    "bert": _BRACKETS,
    "camembert": _ANGLES,
    "convbert": _BRACKETS,
    "debertav2": {**_BRACKETS, **_ENDS},
    "distilbert": _BRACKETS,
    "electra": _BRACKETS,
    "mobilebert": _BRACKETS,
    "mpnet": {**_ANGLES, "unk_token": "[UNK]"},
    "roberta": _ANGLES,
    "squeezebert": _BRACKETS,
    "xlmroberta": _ANGLES,
}
# families whose positions are counted from behind the padding token's id
_SHIFTED = (
    "camembert",
    "data2vec-text",
    "longformer",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
)
_SHIFT = 2  # the padding token's id is 1 in all of them unless the config says another

# how 1_Pooling/config.json spells the poolings: as `pooling_mode` since release 5.7, before that as one switch
# `pooling_mode_*` each, which were concatenated in this order
_POOLINGS: dict[str, Pooling] = {
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weighted_mean",
    "lasttoken": "last_token",
}
_SWITCHES = {"cls": "cls_token", "max": "max_tokens", "mean": "mean_tokens", "weightedmean": "weightedmean_tokens"}
_KNOWN_MODULES = {"Transformer", "Pooling", "Normalize"}


def text_section(source: SourceModel) -> Text:
    """How text becomes tokens: limits, special tokens, and sentence-transformers' limit and prompts where there are."""
    settings = source.read_json("tokenizer_config.json") or {}
    limits = [settings.get("model_max_length"), _positions(source.config)]
    prompts: dict[str, Any] = {}
    if source.read_json("modules.json") is not None:
        limits.append((source.read_json("sentence_bert_config.json") or {}).get("max_seq_length"))
        prompts = source.read_json("config_sentence_transformers.json") or {}
    known = [int(limit) for limit in limits if limit and limit < 10**6]
    return Text(
        tokenizer=TOKENIZER,
        max_tokens=min(known, default=None),
        truncation_side=settings.get("truncation_side", "right"),
        special_tokens=special_tokens(source),
        clean_up_spaces=bool(settings.get("clean_up_tokenization_spaces", False)),
        prompts=prompts.get("prompts") or {},
        default_prompt=prompts.get("default_prompt_name"),
    )


def special_tokens(source: SourceModel) -> dict[str, str]:
    """Tokens by role: what the files say over what the tokenizer's class has."""
    settings = source.read_json("tokenizer_config.json") or {}
    said = dict(settings)
    if "added_tokens_decoder" not in settings:  # with it, transformers does not look into the older file
        said |= source.read_json("special_tokens_map.json") or {}
    kind = str(settings.get("tokenizer_class") or source.config.get("model_type", "")).removesuffix("Fast")
    kind = kind.removesuffix("Tokenizer").lower().replace("-", "").replace("_", "")
    tokens = {**DEFAULT_TOKENS.get(kind, {}), **{role: said[role] for role in _ROLES if role in said}}
    return {
        role: str(token["content"] if isinstance(token, Mapping) else token) for role, token in tokens.items() if token
    }


def pads(source: SourceModel) -> dict[str, int | None]:
    """What fills the inputs of a shorter row. Raises UnsupportedModel when there is no tokenizer.json."""
    token = special_tokens(source).get("pad_token")
    settings = source.read_json("tokenizer_config.json") or {}
    number = None if token is None else _token_id(_read_tokenizer(source), token)
    return {"input_ids": number or 0, "token_type_ids": int(settings.get("pad_token_type_id", 0))}


def write_tokenizer(source: SourceModel, folder: Path) -> None:
    """Write tokenizer.json into `folder`, without truncation or padding of its own.

    A sentence-transformers model that asks for lower-casing gets it as a first normaliser, as that library does.
    """
    tokenizer = {**_read_tokenizer(source), "truncation": None, "padding": None}
    if (source.read_json("sentence_bert_config.json") or {}).get("do_lower_case"):
        steps = [{"type": "Lowercase"}, *([tokenizer["normalizer"]] if tokenizer.get("normalizer") else [])]
        tokenizer["normalizer"] = {"type": "Sequence", "normalizers": steps}
    (folder / TOKENIZER).write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")


def embedding_section(source: SourceModel) -> Embedding:
    """How the model's sentence vectors are made.

    Without sentence-transformers files: the hidden states of all tokens, and a mean where one vector is needed, which
    is what sentence-transformers does with such a model. Raises UnsupportedModel for modules we do not have.
    """
    modules = source.read_json("modules.json")
    if modules is None:
        return Embedding(pooling=("mean",), keep_tokens=True)
    kinds = {module["type"].rpartition(".")[2]: module for module in modules}
    if unknown := kinds.keys() - _KNOWN_MODULES:
        raise UnsupportedModel(
            f"{source.name}: sentence-transformers module {min(unknown)} is not supported; "
            f"supported are {', '.join(sorted(_KNOWN_MODULES))}"
        )
    if "Pooling" not in kinds:
        return Embedding(pooling=("mean",), keep_tokens=True, normalize="Normalize" in kinds)
    config = source.read_json(f"{kinds['Pooling']['path']}/config.json") or {}
    return Embedding(
        pooling=_poolings(config, source),
        include_prompt=config.get("include_prompt", True),
        normalize="Normalize" in kinds,
    )


def _poolings(config: dict[str, Any], source: SourceModel) -> tuple[Pooling, ...]:
    mode = config.get("pooling_mode")
    modes = [mode] if isinstance(mode, str) else mode
    if modes is None:
        modes = [name for name in _POOLINGS if config.get(f"pooling_mode_{_SWITCHES.get(name, name)}")] or ["mean"]
    if unknown := [name for name in modes if name not in _POOLINGS]:
        raise UnsupportedModel(f"{source.name}: pooling {unknown[0]!r} is not supported")
    return tuple(_POOLINGS[name] for name in modes)


def _positions(config: Mapping[str, Any]) -> int | None:
    """Tokens that a model was made for, where its config says so."""
    size = config.get("max_position_embeddings")
    if not size:
        return None
    kind = config.get("model_type")
    if kind not in _SHIFTED:
        return int(size)
    padding = None if kind == "mpnet" else config.get("pad_token_id")
    return int(size) - (_SHIFT if padding is None else int(padding) + 1)


def _read_tokenizer(source: SourceModel) -> dict[str, Any]:
    tokenizer = source.read_json(TOKENIZER)
    if not isinstance(tokenizer, dict):
        raise UnsupportedModel(
            f"{source.name}: no {TOKENIZER}, and other vocabularies are not read here; `onnxpipe export` converts them"
        )
    return tokenizer


def _token_id(tokenizer: Mapping[str, Any], token: str) -> int | None:
    """The number of a token in a tokenizer.json, among the added ones or in its model's vocabulary."""
    for added in tokenizer.get("added_tokens") or []:
        if added["content"] == token:
            return int(added["id"])
    vocabulary = tokenizer["model"].get("vocab") or {}
    if isinstance(vocabulary, list):  # pairs of a piece and its score
        return next((number for number, (piece, _) in enumerate(vocabulary) if piece == token), None)
    return vocabulary.get(token)
