"""How a model writes and translates, for the manifest: its defaults, its prefixes, its languages.

Defaults come from generation_config.json, or from config.json where older models have them, and from config.json's
`task_specific_params`. A tokenizer that can build inputs for translation names the languages; Marian's are in its
vocabulary, T5's are words before the text.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from onnxpipe.errors import InvalidInput, UnsupportedModel
from onnxpipe.generation.options import GenerationParameters, read_defaults
from onnxpipe.sections import Chat, Generation, SourcePart, Translation
from onnxpipe_export.generation.shapes import decoder_shape
from onnxpipe_export.loaded import Loaded

_NAMES = {field.name for field in dataclasses.fields(GenerationParameters)}
_PAIR = "translation_"  # begins the names of T5's parameters for a pair: translation_en_to_de
# Marian's token of a language, as in ">>fra<< How are you?"
_OPEN, _CLOSE = ">>", "<<"


def generation_section(loaded: Loaded, tasks: Sequence[str]) -> Generation:
    """How the model writes for the `tasks` it serves.

    Raises UnsupportedModel for defaults that no request could have, and for a decoder without a first token.
    """
    config = loaded.model.config
    specific = {name: values for name, values in (config.task_specific_params or {}).items() if values}
    section = Generation(
        defaults=_defaults(loaded),
        task_defaults={name: known for name, values in specific.items() if (known := _known(values))},
        prefixes=_prefixes(loaded.source.config, specific, tasks),
        decoder_prompt=_decoder_prompt(loaded) if config.is_encoder_decoder else (),
        max_length=decoder_shape(config).positions,
        reread_at=reread_at(config),
    )
    for task in (None, *section.task_defaults):
        try:
            read_defaults(section.defaults, section.task_defaults.get(task or ""))
        except InvalidInput as error:
            where = "generation_config.json" if task is None else f"task_specific_params of {task}"
            raise UnsupportedModel(f"{loaded.source.name}: its {where} cannot be followed ({error})") from error
    return section


def reread_at(config: Any) -> int | None:  # a transformers config, untyped here
    """The length at which transformers reads a text anew: of all models with longrope, only Phi-3's code does."""
    if config.model_type != "phi3" or not config.rope_scaling:
        return None
    return int(config.original_max_position_embeddings)


def chat_section(loaded: Loaded) -> Chat | None:
    """The model's chat templates; None when it has none."""
    templates = loaded.tokenizer.chat_template
    if not templates:
        return None
    return Chat(templates={"default": templates} if isinstance(templates, str) else dict(templates))


def _defaults(loaded: Loaded) -> dict[str, Any]:
    """What the model's files say, where they say it; transformers' own defaults stay unsaid."""
    generation = loaded.model.generation_config
    said = loaded.source.read_json("generation_config.json")
    stated = said if isinstance(said, dict) else loaded.source.config
    settled = generation.to_diff_dict()  # also what older models have elsewhere, such as in a decoder's own config
    settled |= {name: getattr(generation, name) for name in stated if name in _NAMES and hasattr(generation, name)}
    return _known(settled)


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters among some values, as plain data."""
    known = {name: value for name, value in values.items() if name in _NAMES and value is not None}
    bias = known.get("sequence_bias")
    if isinstance(bias, Mapping):  # transformers' form in memory: token sequences are the keys
        known["sequence_bias"] = [[list(tokens), number] for tokens, number in bias.items()]
    return known


def _prefixes(config: Mapping[str, Any], specific: Mapping[str, Any], tasks: Sequence[str]) -> dict[str, str]:
    """What goes before an input, by task; that of the whole model where a task has none of its own."""
    prefixes = {task: specific.get(task, {}).get("prefix") or config.get("prefix") for task in tasks}
    return {task: prefix for task, prefix in prefixes.items() if prefix}


def _decoder_prompt(loaded: Loaded) -> tuple[int, ...]:
    """The decoder's first token, which is that for the beginning of a text where no other is named."""
    generation = loaded.model.generation_config
    for token in (generation.decoder_start_token_id, generation.bos_token_id):
        if token is not None:
            return (int(token),)
    raise UnsupportedModel(
        f"{loaded.source.name}: neither decoder_start_token_id nor bos_token_id is set, so its decoder has nothing to "
        "begin with"
    )


def translation_section(loaded: Loaded) -> Translation:
    """The languages of the model and how it is told of them; for a single pair, the names its tokenizer has."""
    pairs = _pairs(loaded.model.config.task_specific_params or {})
    if pairs:
        source, target = next(iter(pairs)).split("_to_")
        return Translation(prefixes=pairs, default_source=source, default_target=target)
    tokenizer = loaded.tokenizer
    if hasattr(tokenizer, "_build_translation_inputs"):
        return _by_tokens(loaded, _languages(tokenizer))
    settings = loaded.source.read_json("tokenizer_config.json") or {}
    named = Translation(default_source=settings.get("source_lang"), default_target=settings.get("target_lang"))
    targets = {
        token.removeprefix(_OPEN).removesuffix(_CLOSE): number
        for token, number in sorted(tokenizer.get_vocab().items())
        if token.startswith(_OPEN) and token.endswith(_CLOSE)
    }
    if not targets:
        return named
    # for several languages: the name of their group, such as "roa", is no language
    default = named.default_target if named.default_target in targets else None
    return dataclasses.replace(named, languages=targets, template=("target", "text", "eos"), default_target=default)


def _pairs(specific: Mapping[str, Any]) -> dict[str, str]:
    """The words before a text, by pair ("en_to_de"), in the order of the file."""
    return {
        name.removeprefix(_PAIR): values["prefix"]
        for name, values in specific.items()
        if name.startswith(_PAIR) and "_to_" in name and (values or {}).get("prefix")
    }


def _languages(tokenizer: Any) -> dict[str, int]:  # a tokenizer of transformers
    """The languages of a multilingual tokenizer by the names that users have for them.

    NLLB's are special tokens without a list of their own: all that name a script, as in "eng_Latn".
    """
    listed: Mapping[str, int] | None = getattr(tokenizer, "lang_code_to_id", None)
    if listed:
        return dict(listed)
    tokens = tokenizer.additional_special_tokens
    return {token: tokenizer.convert_tokens_to_ids(token) for token in tokens if "_" in token.strip("_")}


def _by_tokens(loaded: Loaded, languages: dict[str, int]) -> Translation:
    """Of models that are told both languages by tokens: the source's stands where the tokenizer puts it."""
    tokenizer, generation = loaded.tokenizer, loaded.model.generation_config
    names = {number: name for name, number in languages.items()}
    marked = tokenizer.build_inputs_with_special_tokens([])  # language and end, in one order or the other
    first = bool(marked) and marked[0] in names
    template: tuple[SourcePart, ...] = ("source", "text", "eos") if first else ("text", "eos", "source")
    # mBART's first release: its decoder begins with the language; of all others it is what comes next
    start, forced = generation.decoder_start_token_id, generation.forced_bos_token_id
    begins = start in names
    return Translation(
        languages=languages,
        template=template,
        target="start" if begins else "forced",
        default_source=tokenizer.src_lang,
        default_target=names.get(start if begins else forced) or tokenizer.tgt_lang,
    )
