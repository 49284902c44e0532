"""How text is written: what a request may say, what the model's own files say, and what follows from both.

`GenerationParameters` is what may be said, None where nothing was; `resolve` lays a request over a model's defaults and
gives `GenerationOptions`, the only place where the last defaults stand.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from onnxpipe.errors import InvalidInput
from onnxpipe.generation.watermark import WatermarkOptions
from onnxpipe.records import FieldError, Record, parameter, read, show

EarlyStopping = bool | Literal["never"]

_EOS = "A token, or several, that ends a text."
# What makes the choice of tokens random when a request names it.
SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
_TOKEN_LISTS = ("suppress_tokens", "begin_suppress_tokens")
# Rows that one input may take: each has scores for the whole vocabulary, and keys and values of its own.
_MAX_ROWS = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationParameters(Record):
    """Parameters of one request for text, or of a model's defaults; None means that nothing was said."""

    do_sample: bool | None = parameter(
        None,
        description="Draw tokens at random rather than take the best. Absent: true when a temperature, top_k, top_p, "
        "min_p, typical_p, epsilon_cutoff or eta_cutoff is given, else as the model is set.",
    )
    temperature: float | None = parameter(
        None, ge=0, le=100, description="Scores are divided by it before a token is drawn; 0 takes the best token."
    )
    top_k: int | None = parameter(None, ge=1, description="Draw among this many of the best tokens. Absent: all.")
    top_p: float | None = parameter(
        None, gt=0, le=1, description="Draw among the best tokens whose probabilities add up to it; 1 is off."
    )
    typical_p: float | None = parameter(
        None, gt=0, le=1, description="Draw among the most typical tokens that add up to this probability; 1 is off."
    )
    min_p: float | None = parameter(
        None, ge=0, le=1, description="Draw among tokens at least this many times as likely as the best."
    )
    epsilon_cutoff: float | None = parameter(
        None, ge=0, lt=1, description="Draw among tokens of at least this probability; 0 is off."
    )
    eta_cutoff: float | None = parameter(
        None, ge=0, lt=1, description="As epsilon_cutoff, lower where the model is unsure; 0 is off."
    )
    seed: int | None = parameter(
        None, ge=0, le=2**64 - 1, description="The same seed draws the same text. Absent: another one each time."
    )
    num_beams: int | None = parameter(
        None, ge=1, le=_MAX_ROWS, description="Texts that beam search follows at once; 1: no beams."
    )
    num_beam_groups: int | None = parameter(
        None, ge=1, description="Groups of beams that avoid each other's tokens (diverse beam search)."
    )
    diversity_penalty: float | None = parameter(
        None, ge=0, description="What a token costs that an earlier group has chosen in the same step."
    )
    length_penalty: float | None = parameter(
        None, description="Beam scores are divided by length to this power: above 0 prefers longer texts."
    )
    early_stopping: EarlyStopping | None = parameter(
        None,
        description="When beam search ends: true, as soon as there are num_beams texts; false, when a better one is "
        'unlikely; "never", when none can come.',
    )
    num_return_sequences: int | None = parameter(
        None, ge=1, le=10, aliases=("n",), description="How many texts come back for one input."
    )
    best_of: int | None = parameter(
        None,
        ge=1,
        le=_MAX_ROWS,
        description="Draw this many texts and return those with the highest mean log probability.",
    )
    repetition_penalty: float | None = parameter(
        None, gt=0, le=100, description="Tokens that have occurred, in the prompt too, become less likely; 1 is off."
    )
    encoder_repetition_penalty: float | None = parameter(
        None, gt=0, le=100, description="Above 1, tokens of the input become more likely; 1 is off."
    )
    frequency_penalty: float | None = parameter(
        None, ge=-2, le=2, description="What a token's score loses for each time it was generated."
    )
    presence_penalty: float | None = parameter(
        None, ge=-2, le=2, description="What the score of a token loses that was generated at all."
    )
    no_repeat_ngram_size: int | None = parameter(
        None, ge=0, description="No sequence of this many tokens occurs twice; 0 is off."
    )
    encoder_no_repeat_ngram_size: int | None = parameter(
        None, ge=0, description="No sequence of this many tokens of the input occurs; 0 is off."
    )
    bad_words_ids: tuple[tuple[int, ...], ...] | None = parameter(None, description="Token sequences that never occur.")
    min_length: int | None = parameter(
        None, ge=0, description="Fewest tokens of the text; those of the prompt count where the model continues it."
    )
    min_new_tokens: int | None = parameter(None, ge=0, description="Fewest generated tokens; before min_length.")
    max_length: int | None = parameter(
        None, ge=1, description="Most tokens of the text; those of the prompt count where the model continues it."
    )
    max_new_tokens: int | None = parameter(
        None,
        ge=1,
        aliases=("max_tokens", "max_completion_tokens"),
        description="Most generated tokens; before max_length.",
    )
    max_time: float | None = parameter(None, ge=0, le=120, description="Seconds after which the text ends where it is.")
    stop: str | tuple[str, ...] | None = parameter(
        None, aliases=("stop_strings", "stop_sequences"), description="Texts that end the answer where they occur."
    )
    eos_token_id: int | tuple[int, ...] | None = parameter(None, description=_EOS)
    pad_token_id: int | None = parameter(None, ge=0, description="The token that fills shorter rows.")
    bos_token_id: int | None = parameter(None, ge=0, description="The token that begins a text.")
    decoder_start_token_id: int | None = parameter(None, ge=0, description="The decoder's first token.")
    forced_bos_token_id: int | None = parameter(None, ge=0, description="The token after the decoder's first.")
    forced_eos_token_id: int | tuple[int, ...] | None = parameter(
        None, description="The token at the place where max_length ends the text."
    )
    suppress_tokens: tuple[int, ...] | None = parameter(None, description="Tokens that never occur.")
    begin_suppress_tokens: tuple[int, ...] | None = parameter(None, description="Tokens that do not come first.")
    sequence_bias: tuple[tuple[tuple[int, ...] | float, ...], ...] | None = parameter(
        None, description="Pairs of a token sequence and what is added to the score of its last token."
    )
    logit_bias: Mapping[str, float] | None = parameter(
        None, description="What is added to the score of a token, by its number; -100 to 100."
    )
    exponential_decay_length_penalty: tuple[float, ...] | None = parameter(
        None, description="A number of tokens, and a factor by which the end becomes more likely after as many."
    )
    min_eos_p: float | None = parameter(
        None, gt=0, le=1, description="The text ends when its end has at least this probability."
    )
    watermark: bool | WatermarkOptions | None = parameter(
        None, aliases=("watermarking_config",), description="Mark the text as generated; true or the mark's settings."
    )
    renormalize_logits: bool | None = parameter(
        None, description="Turn scores back into log probabilities after all changes (matters to beams)."
    )
    remove_invalid_values: bool | None = parameter(
        None, description="Replace what is not a number in the model's scores."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for low, high in (("min_length", "max_length"), ("min_new_tokens", "max_new_tokens")):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise FieldError(low, f"expected at most `{high}`, which is {most}; given {least}")
        if "" in _as_tuple(self.stop):
            raise FieldError("stop", "expected texts of at least one character, given an empty one")
        for name, ids in self.token_ids().items():
            if any(token < 0 for token in ids):
                raise FieldError(name, f"expected token ids from 0, given {show(min(ids))}")
        _check_pairs(self)

    def token_ids(self) -> dict[str, tuple[int, ...]]:
        """All token ids that are named, by field. Raises FieldError where keys of `logit_bias` are no numbers."""
        single = ("eos_token_id", "forced_eos_token_id", "forced_bos_token_id", *_TOKEN_LISTS)
        named: dict[str, tuple[int, ...]] = {name: _as_tuple(getattr(self, name)) for name in single}
        named["bad_words_ids"] = tuple(token for word in self.bad_words_ids or () for token in word)
        named["sequence_bias"] = tuple(token for sequence in _biases(self.sequence_bias) for token in sequence)
        try:
            named["logit_bias"] = tuple(int(token) for token in self.logit_bias or ())
        except ValueError:
            raise FieldError("logit_bias", f"expected token ids as names, given {show(self.logit_bias)}") from None
        return named


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """Settled options; the field names are those of `GenerationParameters`, which describes them.

    Token ids are tuples; None means that there is no limit or no such token. What cannot act together is switched off:
    without sampling the fields that shape a distribution have their neutral values.
    """

    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    typical_p: float = 1.0
    min_p: float = 0.0
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0
    seed: int | None = None
    num_beams: int = 1
    num_beam_groups: int = 1
    diversity_penalty: float = 0.0
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = False
    num_return_sequences: int = 1
    best_of: int | None = None
    repetition_penalty: float = 1.0
    encoder_repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    encoder_no_repeat_ngram_size: int = 0
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    min_length: int = 0
    min_new_tokens: int = 0
    max_length: int | None = None
    model_max_length: int | None = None
    max_new_tokens: int | None = None
    default_new_tokens: int = 100
    max_time: float | None = None
    stop: tuple[str, ...] = ()
    eos_token_ids: tuple[int, ...] = ()
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    decoder_start_token_id: int | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_ids: tuple[int, ...] = ()
    suppress_tokens: tuple[int, ...] = ()
    begin_suppress_tokens: tuple[int, ...] = ()
    sequence_bias: Mapping[tuple[int, ...], float] = dataclasses.field(default_factory=dict)
    logit_bias: Mapping[int, float] = dataclasses.field(default_factory=dict)
    exponential_decay_length_penalty: tuple[int, float] | None = None
    min_eos_p: float | None = None
    watermark: WatermarkOptions | None = None
    renormalize_logits: bool = False
    remove_invalid_values: bool = False

    @property
    def rows(self) -> int:
        """Rows of a batch that one input takes at most."""
        return self.num_beams if self.num_beams > 1 else max(self.num_return_sequences, self.best_of or 1)

    def total_length(self, prompt_length: int, capacity: int | None = None) -> int:
        """Most tokens of a row, those of the prompt (the decoder's, where there is an encoder) included.

        `capacity` is what the model can hold. A `max_length` that the model brings gives way to a longer prompt; raises
        InvalidInput for one that was asked for, and for a prompt that leaves no room for a token.
        """
        if self.max_new_tokens is not None:
            total = prompt_length + self.max_new_tokens
        elif self.max_length is not None:
            if self.max_length <= prompt_length:
                raise FieldError(
                    "max_length",
                    f"expected more than the {prompt_length} tokens of the prompt, which count, given "
                    f"{self.max_length}; `max_new_tokens` does not count them",
                )
            total = self.max_length
        elif self.model_max_length is not None and self.model_max_length > prompt_length:
            total = self.model_max_length
        else:
            total = prompt_length + self.default_new_tokens
        if capacity is not None and capacity <= prompt_length:
            raise InvalidInput(
                f"the prompt has {prompt_length} tokens and the model holds {capacity}: no room for more; shorten it"
            )
        return total if capacity is None else min(total, capacity)


def read_defaults(config: Mapping[str, object], task: Mapping[str, object] | None = None) -> GenerationParameters:
    """A model's own defaults: its generation_config.json, and over it its task_specific_params for the task.

    Values that mean "off" in transformers count as unsaid; unknown names are ignored. Raises FieldError.
    """
    said = {name: value for name, value in {**config, **(task or {})}.items() if value is not None}
    for name, off in (("top_k", 0), ("top_p", 0), ("typical_p", 0), ("max_time", 0)):
        if said.get(name) == off:
            del said[name]
    for name in _TOKEN_LISTS:  # -1 is Whisper's and others' way to say "none"
        if isinstance(said.get(name), list | tuple):
            said[name] = [token for token in said[name] if token != -1]  # type: ignore[attr-defined] # a list, as checked
    return read(GenerationParameters, said, ignore_unknown=True)


def resolve(
    given: GenerationParameters | Mapping[str, object],
    model: GenerationParameters | None = None,
    *,
    default_new_tokens: int = 100,
) -> GenerationOptions:
    """The request's parameters over the model's defaults over the library's.

    `default_new_tokens` counts where neither says a maximum. A length in the request replaces both of the model's
    (`max_length`, `max_new_tokens`, and so for the minimum); `max_new_tokens` wins only over a `max_length` beside it.
    Raises FieldError for parameters that cannot be together.
    """
    given = read(GenerationParameters, given)
    model = model or GenerationParameters()
    values = {
        field.name: value
        for field in dataclasses.fields(GenerationParameters)
        if (value := getattr(given, field.name)) is not None or (value := getattr(model, field.name)) is not None
    }
    _settle_lengths(values, given, model)
    _settle_sampling(values, given, model)
    _settle_beams(values, given)
    for plural in ("eos_token_id", "forced_eos_token_id"):
        values[f"{plural}s"] = _as_tuple(values.pop(plural, None))
    values["stop"] = _as_tuple(values.get("stop"))
    values["sequence_bias"] = _biases(values.get("sequence_bias"))
    values["logit_bias"] = {int(token): bias for token, bias in values.get("logit_bias", {}).items()}
    if decay := values.get("exponential_decay_length_penalty"):
        values["exponential_decay_length_penalty"] = (int(decay[0]), decay[1])
    mark = values.get("watermark")
    values["watermark"] = (mark if isinstance(mark, WatermarkOptions) else WatermarkOptions()) if mark else None
    return GenerationOptions(default_new_tokens=default_new_tokens, **values)


def _settle_lengths(values: dict[str, Any], given: GenerationParameters, model: GenerationParameters) -> None:
    for total, new in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
        source = given if getattr(given, total) is not None or getattr(given, new) is not None else model
        for name in (total, new):
            values.pop(name, None)
            if getattr(source, name) is not None:
                values[name] = getattr(source, name)
        if new in values:
            values.pop(total, None)
    if given.max_length is None and "max_length" in values:
        values["model_max_length"] = values.pop("max_length")


def _settle_sampling(values: dict[str, Any], given: GenerationParameters, model: GenerationParameters) -> None:
    asked = given.do_sample
    if asked is None:
        asked = bool(model.do_sample) or any(getattr(given, name) is not None for name in SAMPLING)
    values["do_sample"] = asked and values.get("temperature") != 0
    if not values["do_sample"]:
        for name in SAMPLING:
            values.pop(name, None)


def _settle_beams(values: dict[str, Any], given: GenerationParameters) -> None:
    """Checks of what belongs together. A request that sets the beams is not held to the model's groups of them."""
    if given.num_beams is not None and given.num_beam_groups is None:
        values.pop("num_beam_groups", None)
    beams, groups = values.get("num_beams", 1), values.get("num_beam_groups", 1)
    if groups == 1 and given.diversity_penalty is None:
        values.pop("diversity_penalty", None)
    penalty = values.get("diversity_penalty", 0)
    count, best_of = values.get("num_return_sequences", 1), values.get("best_of")
    drawn = values["do_sample"]
    if beams % groups:
        raise FieldError("num_beam_groups", f"expected a divisor of `num_beams`, which is {beams}; given {groups}")
    if groups > 1 and drawn:
        raise FieldError("num_beam_groups", "groups of beams cannot sample; set `do_sample` to false or leave one out")
    if (groups > 1) != (penalty > 0):
        raise FieldError("diversity_penalty", "expected a number > 0 together with `num_beam_groups` > 1, or neither")
    if beams > 1 and count > beams:
        raise FieldError("num_return_sequences", f"expected at most `num_beams`, which is {beams}; given {count}")
    if beams == 1 and count > 1 and not drawn:
        raise FieldError(
            "num_return_sequences",
            f"without sampling or beams all {count} are the same; set `do_sample` or `num_beams`",
        )
    if best_of is not None and best_of > 1 and (not drawn or beams > 1):
        raise FieldError("best_of", "expected sampling without beams; set `do_sample` to true and `num_beams` to 1")
    if best_of is not None and best_of < count:
        raise FieldError("best_of", f"expected at least `num_return_sequences`, which is {count}; given {best_of}")


def _check_pairs(given: GenerationParameters) -> None:
    for sequence in given.bad_words_ids or ():
        if not sequence:
            raise FieldError("bad_words_ids", "expected sequences of at least one token, given an empty one")
    for pair in given.sequence_bias or ():
        if len(pair) != 2 or not isinstance(pair[0], tuple) or not pair[0] or not isinstance(pair[1], float):
            raise FieldError("sequence_bias", f"expected pairs of a list of tokens and a number, given {show(pair)}")
    for bias in (given.logit_bias or {}).values():
        if not -100 <= bias <= 100:
            raise FieldError("logit_bias", f"expected numbers from -100 to 100, given {show(bias)}")
    decay = given.exponential_decay_length_penalty
    if decay is not None and (len(decay) != 2 or decay[0] < 0 or decay[0] % 1 or decay[1] <= 0):
        raise FieldError("exponential_decay_length_penalty", f"expected a count and a factor, given {show(decay)}")


def _as_tuple(value: Any) -> tuple[Any, ...]:  # of token ids or texts
    """A tuple of none, one or several."""
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def _biases(pairs: Any) -> dict[tuple[int, ...], float]:  # the checked value of `sequence_bias`
    # a malformed pair is reported by `_check_pairs`
    return {pair[0]: pair[1] for pair in pairs or () if len(pair) == 2 and isinstance(pair[0], tuple)}
