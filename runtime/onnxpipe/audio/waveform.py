"""Sound from bytes, paths, data: URLs and arrays: opened within limits, decoded to mono at the rate a model wants.

Reference: librosa 0.11 `load(sr=rate, mono=True)`: the mean of the channels, then soxr's high quality, as many samples
as the length times the ratio of the rates, rounded up. These are its numbers, to the bit. The one door to soxr.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats
from onnxpipe.audio.decoders import PIECE, FileDecoder, Header, missing_extra, scale
from onnxpipe.errors import InvalidInput, MalformedAudio, UnsupportedModel
from onnxpipe.media import Media

# Sound lies in [-1, 1], unscaled integers in some 2**31; the squares of larger numbers leave float32.
_LOUDEST = 2.0**60

_ARRAY_KEYS = ("array", "raw")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What audio may have, before it is decoded by its header and while it is by what comes out.

    `max_samples` are those of all channels at the file's own rate, for that is what decoding costs.
    """

    max_bytes: int = 2_000_000_000
    max_seconds: float = 4 * 3600.0
    max_samples: int = 2**32
    max_channels: int = 64
    min_rate: int = 1_000
    max_rate: int = 768_000


class Audio(Media):
    """Sound, opened but not yet decoded. For one thread at a time.

    `seconds` is how long it lasts: by its header, None where that does not tell, and exact once all of it was decoded.
    """

    kind: ClassVar[str] = "audio"

    def __init__(self, source: "FileDecoder | _ArrayDecoder", limits: Limits) -> None:
        self._source = source
        self._limits = limits
        header = source.header
        self.seconds = None if header.frames is None else header.frames / header.rate

    @classmethod
    def read(cls, source: object, limits: Limits = Limits()) -> "Audio":
        """The audio in bytes, at a path, in a data: URL, or an array with its rate.

        A string is a path unless it begins with "data:". An array comes as {"array": samples, "sampling_rate": 16000}
        ("raw" is another name of "array"), of shape (n,) or (channels, n), floats or integers.
        Raises MalformedAudio or UnsupportedMedia for files that cannot be read, InvalidInput for what is no audio or
        beyond a limit, UnsupportedModel when the `audio` extra is not installed.
        """
        if isinstance(source, cls):
            return source
        audio = cls(_open(cls.take(source), limits), limits)
        _check_header(audio._source.header, limits)
        return audio

    def samples(self, rate: int) -> Floats:
        """All of it, mono, at `rate` samples a second. Raises as `blocks` does."""
        return np.concatenate([*self._resampled(rate)])

    def blocks(self, rate: int, size: int) -> Iterator[Floats]:
        """The same in blocks of `size` samples, the last one shorter, each decoded when it is asked for.

        Raises MalformedAudio when the file is corrupt, truncated or empty, InvalidInput when it holds numbers that are
        no sound or more than the limits allow, whatever its header said.
        """
        waiting: list[Floats] = []
        length = 0
        for piece in self._resampled(rate):
            waiting.append(piece)
            length += len(piece)
            if length >= size:
                joined = np.concatenate(waiting)
                end = length - length % size
                yield from np.split(joined[:end], end // size)
                waiting, length = [joined[end:]], length - end
        if length:
            yield np.concatenate(waiting)

    def _resampled(self, rate: int) -> Iterator[Floats]:
        own = self._source.header.rate
        if own == rate:
            yield from self._decoded()
            return
        stream = _open_resampler(own, rate)
        read = written = 0
        for piece in self._decoded():
            read += len(piece)
            resampled = stream.resample_chunk(np.ascontiguousarray(piece))
            written += len(resampled)
            yield resampled
        rest = stream.resample_chunk(np.zeros(0, np.float32), last=True)
        # the ratio first, as the reference computes it
        missing = math.ceil(read * (rate / own)) - written
        yield np.pad(rest[:missing], (0, max(0, missing - len(rest))))

    def _decoded(self) -> Iterator[Floats]:
        header, limits = self._source.header, self._limits
        frames = 0
        for piece in self._source.pieces():
            frames += len(piece)
            _check_length(frames, header, limits)
            # written so that NaN does not pass
            if len(piece) and not np.abs(piece).max() < _LOUDEST:
                raise InvalidInput("the audio holds samples that are no sound: NaN, infinity or beyond any loudness")
            yield piece
        if not frames:
            raise MalformedAudio("the audio is empty: there is not one sample in it")
        self.seconds = frames / header.rate


class _ArrayDecoder:
    """Samples that are in memory, as a FileDecoder has those of a file."""

    def __init__(self, samples: NDArray[Any], rate: int) -> None:
        self._samples = samples
        self.header = Header(rate, samples.shape[0], samples.shape[1])

    def pieces(self) -> Iterator[Floats]:
        """The mean of the channels, piece by piece."""
        for begin in range(0, self.header.frames or 0, PIECE):
            yield scale(self._samples[:, begin : begin + PIECE]).mean(axis=0)


def _open_resampler(own: int, rate: int) -> Any:  # a soxr.ResampleStream: an extra, imported where it is needed
    try:
        import soxr
    except ImportError:
        raise UnsupportedModel(missing_extra("soxr")) from None
    return soxr.ResampleStream(own, rate, 1, dtype="float32", quality="HQ")


def _open(source: object, limits: Limits) -> FileDecoder | _ArrayDecoder:
    if isinstance(source, bytes):
        Audio.check_bytes(len(source), limits.max_bytes)
        return FileDecoder(source)
    if isinstance(source, Path):
        return Audio.open_path(source, limits.max_bytes, FileDecoder)
    if isinstance(source, Mapping):
        return _from_array(source)
    hint = '; an array needs its rate: {"array": samples, "sampling_rate": 16000}'
    raise InvalidInput(
        "expected audio as bytes, a path, a data: URL or an array with its rate, "
        f"given {type(source).__name__}{hint if isinstance(source, np.ndarray) else ''}"
    )


def _from_array(source: Mapping[Any, Any]) -> _ArrayDecoder:
    given, rate = next((source[key] for key in _ARRAY_KEYS if key in source), None), source.get("sampling_rate")
    if given is None or isinstance(rate, bool) or not isinstance(rate, int | np.integer):
        raise InvalidInput(
            'expected an array with its rate, such as {"array": samples, "sampling_rate": 16000}, '
            f"given {', '.join(map(str, source)) or 'nothing'}"
        )
    try:
        array = np.asarray(given)
    except ValueError:
        raise InvalidInput(
            "expected an array (n,) or (channels, n) of samples, given lists of different lengths"
        ) from None
    if array.dtype.kind not in "iuf" or array.ndim not in (1, 2):
        raise InvalidInput(
            f"expected an array (n,) or (channels, n) of numbers, given one of {array.dtype} and shape {array.shape}"
        )
    return _ArrayDecoder(array if array.ndim == 2 else array[None], int(rate))


def _check_header(header: Header, limits: Limits) -> None:
    if not limits.min_rate <= header.rate <= limits.max_rate:
        raise InvalidInput(
            f"the audio has {header.rate} samples a second; expected {limits.min_rate} to {limits.max_rate}"
        )
    if not 1 <= header.channels <= limits.max_channels:
        raise InvalidInput(
            f"the audio has {header.channels} channels; expected 1 to {limits.max_channels}, with an array "
            "(channels, n)"
        )
    if header.frames is not None:
        if header.frames < 1:
            raise MalformedAudio("the audio is empty: there is not one sample in it")
        _check_length(header.frames, header, limits)


def _check_length(frames: int, header: Header, limits: Limits) -> None:
    if frames > limits.max_seconds * header.rate:
        raise InvalidInput(
            f"the audio lasts {frames / header.rate:.0f} s or more; at most {limits.max_seconds:g} s are accepted"
        )
    if frames * header.channels > limits.max_samples:
        raise InvalidInput(
            f"the audio has {frames * header.channels} samples or more; at most {limits.max_samples} are accepted"
        )
