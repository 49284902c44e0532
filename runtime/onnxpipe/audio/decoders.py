"""Files to mono samples at their own rate: libsndfile for most kinds, FFmpeg for the others where PyAV is installed.

The one door to soundfile and av. Reference: librosa 0.11 `load`, which decodes to float32 and averages the channels.
"""

import contextlib
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from onnxpipe.arrays import Floats
from onnxpipe.errors import InvalidInput, MalformedAudio, UnsupportedMedia, UnsupportedModel

# Samples of each channel that are decoded at a time.
PIECE = 2**16

# Lengths beyond this are what libsndfile says when the file does not tell.
_UNKNOWN = 2**48

# How files begin that libsndfile does not read, and the one demuxer of FFmpeg that each is then given to: some others
# of its hundreds open further files or addresses that a file names.
_DEMUXERS = (
    (4, b"ftyp", "mov"),  # m4a, mp4, 3gp, 3g2
    (0, b"\x1a\x45\xdf\xa3", "matroska"),  # webm, mka
    (0, b"#!AMR", "amr"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),  # wma
    (0, b"wvpk", "wv"),
    (0, b"\x0b\x77", "ac3"),
    (0, b"OggS", "ogg"),  # Speex, FLAC or a film in it
)
_OGG_CODECS = (b"\x01vorbis", b"OpusHead")  # what libsndfile reads of it


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file says of itself before it is decoded; `frames` (samples of one channel) is None when it does not."""

    rate: int
    channels: int
    frames: int | None


class FileDecoder:
    """The content of an audio file: its header, read at once, and its samples.

    A file that no installed decoder is for raises UnsupportedMedia when PyAV would read it, else MalformedAudio.
    """

    def __init__(self, source: bytes | Path) -> None:
        self._source = source
        demuxer = _find_demuxer(source)
        self._demuxer = None
        if demuxer in (None, "ogg"):
            try:
                self.header = _sound_file_header(source)
            except MalformedAudio:
                if demuxer is None:
                    raise
                self._demuxer = demuxer
        else:
            self._demuxer = demuxer
        if self._demuxer is not None:
            self.header = _ffmpeg_header(source, self._demuxer)

    def pieces(self) -> Iterator[Floats]:
        """The mean of the channels, piece by piece; decoding begins anew with each call."""
        if self._demuxer is None:
            return _sound_file_pieces(self._source)
        return _ffmpeg_pieces(self._source, self._demuxer, self.header.rate)


def mix(samples: Floats) -> Floats:
    """The mean (n,) of channels (n, channels), in librosa's order of adding."""
    if samples.shape[1] == 1:
        return samples[:, 0]
    mono: Floats = samples.T.mean(axis=0)
    return mono


def _find_demuxer(source: bytes | Path) -> str | None:
    if isinstance(source, Path):
        with source.open("rb") as file:
            head = file.read(64)
    else:
        head = source[:64]
    if head.startswith(b"OggS") and any(codec in head for codec in _OGG_CODECS):
        return None
    for offset, magic, demuxer in _DEMUXERS:
        if head[offset:].startswith(magic):
            return demuxer
    # a frame of AAC differs from one of MP3 in the two bits of the layer
    return "aac" if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0 else None


@contextlib.contextmanager
def _open_sound_file(source: bytes | Path) -> Iterator[Any]:  # a soundfile.SoundFile: an extra, without types here
    """The file opened by libsndfile. Whatever goes wrong inside is InvalidInput."""
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: it is there, but libsndfile is not
        raise UnsupportedModel(missing_extra("soundfile")) from None
    try:
        with soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else str(source)) as file:
            yield file
    # TypeError: of a name that ends in .raw soundfile wants to be told everything
    except (soundfile.SoundFileError, TypeError) as error:
        raise MalformedAudio(_malformed(error)) from None


def _sound_file_header(source: bytes | Path) -> Header:
    with _open_sound_file(source) as file:
        return Header(file.samplerate, file.channels, file.frames if file.frames < _UNKNOWN else None)


def _sound_file_pieces(source: bytes | Path) -> Iterator[Floats]:
    with _open_sound_file(source) as file:
        # soundfile seeks to where it is after every read of a file that can, and the next frame of an MP3 then differs
        file.seekable = lambda: False
        # piece by piece, not as many as the header claims
        while len(samples := file.read(PIECE, dtype="float32", always_2d=True)):
            yield mix(samples)


@contextlib.contextmanager
def _open_ffmpeg(source: bytes | Path, demuxer: str) -> Iterator[tuple[Any, Any]]:
    """The container and its first stream of sound, opened by FFmpeg. Whatever goes wrong inside is InvalidInput."""
    try:
        import av
    except ImportError:
        raise UnsupportedMedia(
            "audio of this kind (m4a, aac, webm, amr, wma, ...) takes PyAV, which is not installed: "
            "pip install 'onnxpipe[audio-av]', or send FLAC, WAV, MP3 or Ogg"
        ) from None
    try:
        with (
            io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file,
            av.open(file, format=demuxer, metadata_errors="ignore") as container,
        ):
            if not container.streams.audio:
                raise MalformedAudio("the file has no sound in it, only pictures or other data")
            yield container, container.streams.audio[0]
    except InvalidInput:
        raise
    # decoders fed with hostile bytes may raise anything of these
    except (av.FFmpegError, ValueError, IndexError, OSError) as error:
        raise MalformedAudio(_malformed(error)) from None


def _ffmpeg_header(source: bytes | Path, demuxer: str) -> Header:
    with _open_ffmpeg(source, demuxer) as (container, stream):
        # the first frame knows better than the container: AAC may have twice the rate and channels that it declares
        frame = next(container.decode(stream), None)
        if frame is None or not frame.sample_rate:
            raise MalformedAudio("the audio is empty or corrupt: not one frame of it can be decoded")
        seconds = stream.duration * stream.time_base if stream.duration and stream.time_base else None
        if seconds is None and container.duration:
            seconds = container.duration / 1e6
        frames = None if seconds is None or seconds <= 0 else round(seconds * frame.sample_rate)
        return Header(frame.sample_rate, frame.layout.nb_channels, frames)


def _ffmpeg_pieces(source: bytes | Path, demuxer: str, rate: int) -> Iterator[Floats]:
    with _open_ffmpeg(source, demuxer) as (container, stream):
        for frame in container.decode(stream):
            if frame.sample_rate != rate:
                raise MalformedAudio(f"the audio changes its rate from {rate} to {frame.sample_rate} Hz midway")
            yield mix(_frame_samples(frame))


def _frame_samples(frame: Any) -> Floats:
    """The samples (n, channels) of an av.AudioFrame, integers scaled to [-1, 1)."""
    array = frame.to_ndarray()
    samples = array.T if frame.format.is_planar else array.reshape(-1, frame.layout.nb_channels)
    return scale(samples)


def scale(samples: Any) -> Floats:  # an array of any real type
    """Samples as float32; integers become fractions of their type's range, as libsndfile reads them."""
    if samples.dtype.kind == "f":
        floats: Floats = samples.astype(np.float32, copy=False)
        return floats
    middle = np.iinfo(samples.dtype).max + 1
    if samples.dtype.kind == "u":
        middle //= 2
        samples = samples.astype(np.int64) - middle
    scaled: Floats = samples.astype(np.float32) / np.float32(middle)
    return scaled


def missing_extra(package: str) -> str:
    """What to say when a package of the `audio` extra is not installed."""
    return f"audio needs {package}, which is not installed: pip install 'onnxpipe[audio]'"


def _malformed(error: Exception) -> str:
    # what libsndfile or FFmpeg says without the path: it is the caller's own, or the server's
    said = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    reason = said.partition("\n")[0].rstrip(". ")[:200] or type(error).__name__
    return f"the audio is corrupt, truncated or of an unknown kind ({reason}); expected FLAC, WAV, MP3, Ogg or the like"
