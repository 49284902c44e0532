"""How a recording is written down: what a request may say, and what follows from it for one model."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from onnxpipe.audio.chunks import Strides
from onnxpipe.errors import UnprocessableInput
from onnxpipe.generation.options import GenerationOptions, GenerationParameters
from onnxpipe.generation.writer import Writer
from onnxpipe.records import FieldError, Record, parameter, plain, read, show
from onnxpipe.sections import Transcription

Times = bool | Literal["word"]

_SHOWN = 12  # languages that a message lists


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechParameters(GenerationParameters):
    """Parameters of generation, and those of models that hear; None means that nothing was said."""

    temperature: float | tuple[float, ...] | None = parameter(  # type: ignore[assignment]  # one, or several to try
        None,
        ge=0,
        le=100,
        description="Scores are divided by it before a token is drawn; 0 takes the best token. Of several, each is "
        "tried when the text of the one before fails a threshold.",
    )
    language: str | None = parameter(
        None, description="The language that is spoken, by its code or its English name. Absent: as it is heard."
    )
    task: Literal["transcribe", "translate"] | None = parameter(
        None, description="Write down what is said, or translate it to English."
    )
    compression_ratio_threshold: float | None = parameter(
        None, gt=0, description="A text that can be compressed more than this repeats itself and is tried anew."
    )
    logprob_threshold: float | None = parameter(
        None, description="A text whose tokens have a smaller mean log probability is tried anew."
    )
    no_speech_threshold: float | None = parameter(
        None,
        ge=0,
        le=1,
        description="Where silence is more likely than this, and the text no better than logprob_threshold, nothing "
        "was said.",
    )
    condition_on_prev_tokens: bool | None = parameter(
        None, description="Whether what was said before is read before each window of a long recording."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for value in self.temperatures:
            if not 0 <= value <= 100:
                raise FieldError("temperature", f"expected numbers from 0 to 100, given {value:g}")
        if self.temperature == ():
            raise FieldError("temperature", "expected a number or several, given an empty list")

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Those to try, in turn; none where nothing was said."""
        if self.temperature is None:
            return ()
        return self.temperature if isinstance(self.temperature, tuple) else (self.temperature,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechOptions(Record):
    """What comes back of a recording, how it is cut, and how its text is written.

    Without `chunk_length_s` windows follow what was heard. `parameters` may be a mapping, whose unknown names count for
    nothing.
    """

    return_timestamps: Times = False
    return_language: bool = False
    chunk_length_s: float | None = parameter(None, ge=0, description="Seconds of overlapping windows.")
    stride_length_s: Strides = None
    parameters: SpeechParameters = SpeechParameters()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """How one model writes one recording down; `attempts` are the ways to try, the first that passes counts.

    `language` is a code, None where it has to be heard, or where the model knows but one.
    """

    attempts: tuple[GenerationOptions, ...]
    times: Times
    tells_times: bool
    language: str | None
    task: str
    compression_ratio_threshold: float | None
    logprob_threshold: float | None
    no_speech_threshold: float | None
    condition_on_prev_tokens: bool


def make_plan(writer: Writer, section: Transcription, options: SpeechOptions, *, long: bool) -> Plan:
    """The request's parameters over the model's defaults. Of a `long` recording times are told, whoever wants them.

    Raises FieldError for a language or a task that the model does not have, and UnprocessableInput for times of words
    where it does not tell.
    """
    given = options.parameters
    defaults = read(SpeechParameters, section.defaults, ignore_unknown=True)
    said = SpeechParameters(**{name: _either(given, defaults, name) for name in _OWN})
    if options.return_timestamps == "word" and not section.alignment_heads:
        raise UnprocessableInput(
            "this model cannot tell times of words: its files do not say which of its attention follows the sound "
            "(`alignment_heads` in generation_config.json); `return_timestamps`: true gives those of segments"
        )
    return Plan(
        attempts=_attempts(writer, given, defaults.temperatures),
        times=options.return_timestamps,
        tells_times=bool(options.return_timestamps) or long,
        language=_language(section, said.language),
        task=_task(section, said.task),
        compression_ratio_threshold=said.compression_ratio_threshold,
        logprob_threshold=said.logprob_threshold,
        no_speech_threshold=said.no_speech_threshold,
        condition_on_prev_tokens=bool(said.condition_on_prev_tokens),
    )


def _either(given: SpeechParameters, defaults: SpeechParameters, name: str) -> Any:  # of each field's type
    value = getattr(given, name)
    return getattr(defaults, name) if value is None else value


def _attempts(writer: Writer, given: SpeechParameters, defaults: tuple[float, ...]) -> tuple[GenerationOptions, ...]:
    """One text for each temperature. Above 0 it is drawn, without beams."""
    plainly = {name: value for name, value in plain(given).items() if name in _PLAIN and value is not None}
    plainly |= {"num_return_sequences": 1, "best_of": 1}  # one text comes back
    temperatures = given.temperatures or (() if given.do_sample is not None else defaults)
    if not temperatures:
        return (writer.options(read(GenerationParameters, plainly)),)
    drawn = {"do_sample": True, "num_beams": 1, "num_beam_groups": 1, "diversity_penalty": 0.0}
    return tuple(
        writer.options(
            read(GenerationParameters, plainly | ({"temperature": value, **drawn} if value else {"do_sample": False}))
        )
        for value in temperatures
    )


_PLAIN = {field.name for field in dataclasses.fields(GenerationParameters)} - {"temperature"}
_OWN = {field.name for field in dataclasses.fields(SpeechParameters)} - _PLAIN


def _language(section: Transcription, said: str | None) -> str | None:
    """The code of a language in any of its forms: "en", "English", "<|en|>"."""
    if said is None:
        return None
    lowered = said.lower().removeprefix("<|").removesuffix("|>")
    if not section.languages:
        if lowered in ("en", "english"):
            return None
        raise FieldError("language", f"this model knows English only, given {show(said)}")
    code = section.names.get(lowered, lowered)
    if code not in section.languages:
        listed = sorted(section.languages)
        more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
        raise FieldError("language", f"expected one of {', '.join(listed[:_SHOWN])}{more}, given {show(said)}")
    return code


def _task(section: Transcription, said: str | None) -> str:
    task = said or "transcribe"
    if task not in (section.tasks or ("transcribe",)):
        raise FieldError("task", f"this model can {', '.join(section.tasks or ('transcribe',))}, given {show(said)}")
    return task


def language_name(names: Mapping[str, str], code: str | None) -> str | None:
    """The English name of a language, by its code; None where there is none."""
    return next((name for name, named in names.items() if named == code), code)
