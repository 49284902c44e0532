"""Requests of any length: texts of so many tokens, pictures of so many pixels, sound of so many seconds."""

import base64
import dataclasses
import io
import wave
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxpipe.errors import InvalidInput
from onnxpipe.generation.pipeline import WritingPipeline
from onnxpipe.pipeline import AnyPipeline

# tokens that are written to a request of a model that writes
NEW_TOKENS = 24

_PASSAGE = (
    "The harbour was quiet when the ferry came in. Two boys sold oranges from a wooden cart, and an old dog slept in "
    "the shade of the customs house. Nobody had told the captain that the market would be closed on a Tuesday, so his"
    " crew carried forty crates of glass bottles up the hill for nothing. By noon the sun stood high over the roofs; "
    "the baker pulled down his shutters, the clerk of the shipping company went home for lunch, and only the clock on"
    " the tower of Saint Anne, which had been wrong since the winter, kept on striking. In the evening it rained a "
    "little. People sat under the arches, drank tea with mint, and talked about the price of fish, the new railway to"
    " Lisbon, and a letter from Canada that Maria Oliveira had read aloud to her whole street. "
)
_TURN = 11  # words
_QUESTION = "Who read the letter?"
_LABELS = ["travel", "sport"]
_TOKEN_LENGTHS = (16, 64, 256)
_PIXEL_LENGTHS = (224, 640)
_SECOND_LENGTHS = (1, 5, 15)

_READ_IN_WINDOWS = ("question-answering",)

# parameters of golden requests that are there to make their answers short
_GOLDEN_ONLY = ("max_new_tokens", "targets", "threshold", "top_k")


@dataclasses.dataclass(frozen=True)
class Request:
    """What a pipeline is called with; `size` is how long it really is, in the unit of its kind."""

    inputs: Any  # of the task's own type
    parameters: Mapping[str, Any]
    size: int


class Requests:
    """Requests to a task by length; `unit` says of what."""

    def __init__(self, pipeline: AnyPipeline, task: str) -> None:
        self._pipeline = pipeline
        self._task = task
        manifest = pipeline.model.bundle.manifest
        self._golden = next((golden for golden in manifest.golden if golden.task == task), None)
        self.unit = {"image": "pixels", "audio": "seconds"}.get(pipeline.media_kind() or "", "tokens")
        if task == "table-question-answering":
            self.unit = "requests"
        longest = manifest.text.max_tokens if manifest.text else None
        self._longest = longest if self.unit == "tokens" and task not in _READ_IN_WINDOWS else None
        self.lengths: tuple[int, ...] = {
            "pixels": _PIXEL_LENGTHS,
            "seconds": _SECOND_LENGTHS,
            "tokens": tuple(length for length in _TOKEN_LENGTHS if longest is None or length <= longest) or (longest,),
            "requests": (1,),
        }[self.unit]  # type: ignore[assignment] # `longest` is a number where it is taken

    def make(self, length: int, number: int = 0) -> Request:
        """A request of about that length, never longer; another one for each `number`. Raises InvalidInput."""
        if length < 1:
            raise InvalidInput(f"--lengths: expected integers >= 1, given {length}")
        if self._longest is not None and length > self._longest:
            raise InvalidInput(f"--lengths: the model reads at most {self._longest} tokens, given {length}")
        if self.unit == "pixels":
            return Request(_picture(length, number), self._parameters(), length)
        if self.unit == "seconds":
            return Request(self._sound(length, number), self._parameters(), length)
        if self.unit == "requests":
            if self._golden is None:
                raise InvalidInput(f"the bundle has no golden request of {self._task} to measure with; give --data")
            return Request(self._golden.inputs, self._parameters(), 1)
        text, size = fit_text(self._count_tokens, length, number)
        return Request(self._of_text(text), self._parameters(), size)

    def _parameters(self) -> dict[str, Any]:
        golden = self._golden.parameters if self._golden else {}
        parameters = {name: value for name, value in golden.items() if name not in _GOLDEN_ONLY}
        if self._task == "zero-shot-classification":
            parameters["candidate_labels"] = _LABELS
        if isinstance(self._pipeline, WritingPipeline):
            parameters |= {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS}
        return parameters

    def _of_text(self, text: str) -> Any:  # of the task's own type
        mask = self._pipeline.model.tokenizer.special("mask_token")
        made: dict[str, Callable[[], Any]] = {
            "question-answering": lambda: {"question": _QUESTION, "context": text},
            "sentence-similarity": lambda: {"source_sentence": text, "sentences": [text]},
            "fill-mask": lambda: f"{text} {mask}",
            "conversational": lambda: {"text": text},
        }
        return made.get(self._task, lambda: text)()

    def _count_tokens(self, text: str) -> int:
        encoding = self._pipeline.model.tokenizer.encode(text)
        around = {"question-answering": f"{_QUESTION} ", "fill-mask": " ."}.get(self._task)
        extra = 0
        if around is not None:
            extra = len(self._pipeline.model.tokenizer.encode(around).ids) - 1
        return len(encoding.ids) + encoding.cut + extra

    def _sound(self, seconds: int, number: int) -> bytes:
        """The golden request's sound over and over, or else a changing tone."""
        audio = self._pipeline.model.bundle.manifest.audio
        rate = audio.sampling_rate if audio else 16000
        samples = _golden_sound(self._golden.inputs, rate) if self._golden else None
        if samples is None:
            samples = _tone(rate)
        return _wav(np.resize(np.roll(samples, -number * rate // 7), seconds * rate), rate)


def fit_text(count: Callable[[str], int], length: int, number: int = 0) -> tuple[str, int]:
    """The longest beginning of a passage of at most `length` tokens as `count` counts them, and how many it has.

    `number` turns the passage. At least one word comes back, however many tokens it has.
    """
    words = _PASSAGE.split()
    turn = _TURN * number % len(words)
    passage = text = " ".join([*words[turn:], *words[:turn]]) + " "
    while count(text) <= length:
        text += text
    low, high = len(passage.split(" ")[0]), len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if count(text[:middle]) <= length:
            low = middle
        else:
            high = middle - 1
    return text[:low], count(text[:low])


def _picture(edge: int, number: int) -> bytes:
    """A JPEG file of soft colours under a little noise."""
    draws = np.random.default_rng(number)
    coarse = draws.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize((edge, edge), Image.Resampling.BICUBIC), np.float32)
    pixels = np.clip(soft + draws.normal(0, 6, soft.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def _tone(rate: int) -> NDArray[np.int16]:
    moments = np.arange(4 * rate) / rate
    pitch = 160 + 60 * np.sin(2 * np.pi * 0.7 * moments)
    wavering = sum(np.sin(2 * np.pi * part * np.cumsum(pitch) / rate) / part for part in (1, 2, 3, 5))
    loudness = 0.5 + 0.5 * np.sin(2 * np.pi * 3.1 * moments)
    return (6000 * np.asarray(wavering) * loudness).astype(np.int16)


def _golden_sound(source: object, rate: int) -> NDArray[np.int16] | None:
    """The samples of a WAV file in a data: URL, if that is what it is and its rate is right."""
    if not isinstance(source, str) or not source.startswith("data:audio/wav;base64,"):
        return None
    with wave.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as file:
        if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, rate):
            return None
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.int16)


def _wav(samples: NDArray[np.int16], rate: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(rate)
        stream.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()
