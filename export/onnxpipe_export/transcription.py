"""How a model writes down speech, for the manifest: the tokens that tell languages, tasks and times.

They come from generation_config.json; where older models lack them, from the tokens' own names, which never changed,
and from the list of tokens that these models force.
"""

from collections.abc import Mapping
from typing import Any

from onnxpipe.errors import UnsupportedModel
from onnxpipe.generation.speech_options import SpeechParameters
from onnxpipe.sections import Transcription
from onnxpipe_export.loaded import Loaded

_OPEN, _CLOSE = "<|", "|>"
# what is only in models of speech
_SPEECH = (
    "language",
    "task",
    "temperature",
    "compression_ratio_threshold",
    "logprob_threshold",
    "no_speech_threshold",
    "condition_on_prev_tokens",
)
# English-only models have one token less than the first multilingual ones
_ENGLISH_VOCABULARY = 51864


def transcription_section(loaded: Loaded) -> Transcription:
    """How the model writes down speech. Raises UnsupportedModel when it has no tokens for times."""
    generation, config, tokenizer = loaded.model.generation_config, loaded.model.config, loaded.tokenizer
    silent = getattr(generation, "no_timestamps_token_id", None) or _id(tokenizer, "notimestamps")
    if silent is None:
        raise UnsupportedModel(f"{loaded.source.name}: it has no <|notimestamps|> token, so it is no model of speech")
    if generation.eos_token_id is None:
        raise UnsupportedModel(f"{loaded.source.name}: its files name no token that ends a text (eos_token_id)")
    languages, tasks = _languages(generation, config, tokenizer), _tasks(generation, tokenizer)
    precision = loaded.feature_extractor.chunk_length / config.max_source_positions
    return Transcription(
        start=int(generation.decoder_start_token_id or config.decoder_start_token_id),
        languages=languages,
        names=_names(languages),
        tasks=tasks if languages else {},
        no_timestamps=int(silent),
        no_speech=int(silent) - 1,
        previous=getattr(generation, "prev_sot_token_id", None) or _id(tokenizer, "startofprev"),
        max_initial_timestamp=getattr(generation, "max_initial_timestamp_index", None),
        window_seconds=float(loaded.feature_extractor.chunk_length),
        time_precision=precision,
        alignment_heads=tuple((int(layer), int(head)) for layer, head in _heads(generation)),
        median_filter_width=config.median_filter_width,
        defaults=_defaults(generation, config, languages, tasks),
    )


def _heads(generation: Any) -> list[list[int]]:  # of a transformers generation config
    return getattr(generation, "alignment_heads", None) or []


def _id(tokenizer: Any, name: str) -> int | None:  # a tokenizer of transformers
    """The id of a special token, None where the vocabulary does not have it."""
    number: int | None = tokenizer.get_vocab().get(f"{_OPEN}{name}{_CLOSE}")
    return number


def _languages(generation: Any, config: Any, tokenizer: Any) -> dict[str, int]:
    """The tokens of languages by their codes; none where the model knows but one."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    listed: Mapping[str, int] | None = getattr(generation, "lang_to_id", None)
    if not getattr(generation, "is_multilingual", listed is not None or config.vocab_size > _ENGLISH_VOCABULARY):
        return {}
    if listed:
        return {token.removeprefix(_OPEN).removesuffix(_CLOSE): int(number) for token, number in listed.items()}
    found = {code: _id(tokenizer, code) for code in LANGUAGES}
    return {code: number for code, number in found.items() if number is not None and number < config.vocab_size}


def _tasks(generation: Any, tokenizer: Any) -> dict[str, int]:
    listed: Mapping[str, int] | None = getattr(generation, "task_to_id", None)
    if listed:
        return {name: int(number) for name, number in listed.items()}
    found = {name: _id(tokenizer, name) for name in ("transcribe", "translate")}
    return {name: number for name, number in found.items() if number is not None}


def _names(languages: Mapping[str, int]) -> dict[str, str]:
    """The English names of languages, the usual ones first."""
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    return {name: code for name, code in TO_LANGUAGE_CODE.items() if code in languages}


def _defaults(generation: Any, config: Any, languages: Mapping[str, int], tasks: Mapping[str, int]) -> dict[str, Any]:
    """What the model's files say beyond the parameters of all models that write; forced tokens are their older form."""
    said = {name: getattr(generation, name, None) for name in _SPEECH}
    if said["temperature"] == 1.0:  # transformers' own default
        del said["temperature"]
    forced = getattr(generation, "forced_decoder_ids", None) or getattr(config, "forced_decoder_ids", None) or []
    if said["language"] is None and said["task"] is None:
        numbers = {number for _, number in forced}
        said |= {"language": _named(languages, numbers), "task": _named(tasks, numbers)}
    known = {name: value for name, value in said.items() if value is not None}
    SpeechParameters(**known)  # what no request could say, no model can
    return known


def _named(tokens: Mapping[str, int], numbers: set[int]) -> str | None:
    return next((name for name, number in tokens.items() if number in numbers), None)
