"""automatic-speech-recognition: what is said in a recording, and when.

Models: those that spell out each frame of sound (Wav2Vec2, HuBERT, WavLM, data2vec-audio), and those that write down
what they hear (Whisper). Reference: transformers 4.57.6 AutomaticSpeechRecognitionPipeline, given what librosa 0.11
decodes. Differences: recordings of any length are cut where a model needs that, `return_timestamps` true means words
where a model spells, and windows without strides lose no time.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from onnxpipe.audio.chunks import Strides
from onnxpipe.audio.speller import LONGEST_SECONDS, Speller
from onnxpipe.audio.transcript import Transcript
from onnxpipe.audio.waveform import Audio
from onnxpipe.batching import Row
from onnxpipe.errors import UnprocessableInput
from onnxpipe.pipeline import Model, Pipeline, Work
from onnxpipe.records import FieldError, Record, parameter, read
from onnxpipe.session import Arrays

if TYPE_CHECKING:
    from onnxpipe.generation.speech import SpeechWriter
    from onnxpipe.generation.speech_options import SpeechOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters(Record):
    """What comes back beside the text, how long recordings are cut, and how models that write do it."""

    return_timestamps: bool | Literal["word", "char"] = parameter(
        False,
        description="Whether the text's parts come back with their times: words, or characters where a model spells. "
        "True: the model's own parts.",
    )
    return_language: bool = parameter(
        False, description="Whether the parts come back with their language, where a model hears it."
    )
    chunk_length_s: float | None = parameter(
        None,
        ge=0,
        le=LONGEST_SECONDS,
        description="Seconds of the windows that a recording is cut into. Absent or 0: as the model needs it.",
    )
    stride_length_s: Strides = parameter(
        None,
        description="Seconds that windows overlap their neighbours by, or two numbers, for the one before and the one "
        "behind. Absent: a sixth of a window.",
    )
    language: str | None = parameter(
        None, description="The language that is spoken, by its code or its English name. Absent: as it is heard."
    )
    task: Literal["transcribe", "translate"] | None = parameter(
        None, description="Write down what is said, or translate it to English."
    )
    generation_parameters: Mapping[str, Any] | None = parameter(
        None,
        aliases=("generate_kwargs", "generate_parameters", "generate"),
        description="Parameters of generation, for models that write: temperature, num_beams, max_new_tokens, ...",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        strides = self.stride_length_s
        if isinstance(strides, tuple) and len(strides) != 2:
            raise FieldError("stride_length_s", f"expected a number or two of them, given {len(strides)}")
        if strides is not None and min(strides if isinstance(strides, tuple) else (strides,)) < 0:
            raise FieldError("stride_length_s", f"expected numbers >= 0, given {strides}")


_OF_WRITING = ("language", "task", "generation_parameters")


class AutomaticSpeechRecognition(Pipeline[Audio, Parameters, Transcript]):
    """The text of a recording, with its parts and their times in seconds where they were asked for.

    >>> onnxpipe.load("speller")("six-two.wav", return_timestamps="word")
    Transcript(text='six two', chunks=[Chunk(text='six', timestamp=(0.0, 0.28), language=None), ...])
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        writes = model.bundle.manifest.transcription is not None
        self._hears = _speech_writer(model) if writes else Speller(model, lambda rows: self.infer(rows))

    def preprocess(self, inputs: Audio, parameters: Parameters) -> Work[Transcript]:
        """The recording's first window, or nothing where a model writes: it runs its own steps in the end.

        Raises UnprocessableInput for parts that a model cannot tell.
        """
        hears = self._hears
        if not isinstance(hears, Speller):
            options = _speech_options(parameters)
            return Work((), lambda _: hears.transcribe(inputs, options))
        if parameters.return_language:
            raise UnprocessableInput("`return_language`: this model spells out sound and does not tell languages")
        ignored = ", ".join(f"`{name}`" for name in _OF_WRITING if getattr(parameters, name))
        return hears.work(
            inputs,
            unit="word" if parameters.return_timestamps is True else parameters.return_timestamps or None,
            seconds=parameters.chunk_length_s or None,
            strides=parameters.stride_length_s,
            warnings=(f"this model spells out sound and writes nothing: {ignored} changed nothing",) if ignored else (),
        )

    def infer(self, rows: Sequence[Row]) -> Iterator[tuple[int, Arrays]]:
        """Each row's index and outputs; models that write have none, and no graph to run them."""
        return super().infer(rows) if rows else iter(())


def _speech_writer(model: Model) -> "SpeechWriter":
    # here, not above, and below too: models that spell must not pay for what writes
    from onnxpipe.generation.speech import SpeechWriter

    return SpeechWriter(model)


def _speech_options(parameters: Parameters) -> "SpeechOptions":
    """The parameters as models that write take them, `language` and `task` over those among `generation_parameters`.

    Raises FieldError for a wrong one, UnprocessableInput for characters.
    """
    from onnxpipe.generation.speech_options import SpeechOptions, SpeechParameters

    if parameters.return_timestamps == "char":
        raise UnprocessableInput("`return_timestamps`: this model tells times of words at best, given 'char'")
    try:
        inner = {name: value for name, value in (parameters.generation_parameters or {}).items() if value is not None}
        generation = read(SpeechParameters, inner, ignore_unknown=True)
    except FieldError as error:
        raise error.inside("generation_parameters") from None
    beside = {name: value for name in ("language", "task") if (value := getattr(parameters, name)) is not None}
    return SpeechOptions(
        return_timestamps=parameters.return_timestamps,
        return_language=parameters.return_language,
        chunk_length_s=parameters.chunk_length_s,
        stride_length_s=parameters.stride_length_s,
        parameters=dataclasses.replace(generation, **beside),
    )
