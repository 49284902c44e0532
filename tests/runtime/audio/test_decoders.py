import contextlib
import io
import sys

import numpy as np
import pytest

from onnxpipe.audio.decoders import FileDecoder, mix, scale
from onnxpipe.errors import MalformedAudio, UnsupportedMedia

pytest.importorskip("soundfile", reason="needs the audio extra")


def encode(container, codec, samples, rate=16_000, layout="mono"):
    """A file that FFmpeg makes of samples (channels, n)."""
    av = pytest.importorskip("av", reason="needs the audio-av extra")
    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as file:
        track = file.add_stream(codec, rate=rate, layout=layout, bit_rate=64_000)
        resampler = av.AudioResampler(track.codec_context.format, layout, rate, frame_size=track.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32), "fltp", layout)
        frame.sample_rate = rate
        for resampled in (*resampler.resample(frame), *resampler.resample(None)):
            file.mux(track.encode(resampled))
        file.mux(track.encode(None))
    return stream.getvalue()


def tone(rate=16_000):
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)[None]


def decode(content):
    return np.concatenate([*FileDecoder(content).pieces()])


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [
        ("ipod", "aac", 44_100),
        ("mp4", "alac", 16_000),
        ("adts", "aac", 16_000),
        ("webm", "libopus", 48_000),
        ("asf", "wmav2", 44_100),
        ("ac3", "ac3", 44_100),
        ("wv", "wavpack", 16_000),
    ],
)
def test_kinds_that_libsndfile_does_not_read_are_read_by_ffmpeg(container, codec, rate):
    decoder = FileDecoder(encode(container, codec, tone(rate), rate))
    assert (decoder.header.rate, decoder.header.channels) == (rate, 1)
    samples = np.concatenate([*decoder.pieces()])
    assert len(samples) == pytest.approx(rate, rel=0.15)  # lossy ones have a delay
    loudest = np.abs(np.fft.rfft(samples, rate)).argmax()
    assert loudest == pytest.approx(440, abs=2)
    assert np.abs(samples[rate // 4 : rate // 2]).max() == pytest.approx(0.5, abs=0.05)  # away from the ends


def test_channels_are_averaged_by_ffmpeg_too():
    both = np.concatenate([tone(), np.zeros_like(tone())])
    np.testing.assert_allclose(decode(encode("mp4", "alac", both, layout="stereo")), tone()[0] / 2, atol=1e-4)


@pytest.mark.parametrize(
    "head", [b"\0\0\0\x20ftypM4A ", b"\x1a\x45\xdf\xa3", b"#!AMR\n", b"\xff\xf1", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"]
)
def test_without_pyav_its_kinds_are_refused_and_its_extra_named(head, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UnsupportedMedia, match=r"pip install 'onnxpipe\[audio-av\]', or send FLAC, WAV, MP3 or Ogg"):
        FileDecoder(head + bytes(100))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        b"OggS" + bytes(24) + b"\x01vorbis" + bytes(40),
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xfb\x90\x64" + bytes(100),
    ],
)
def test_without_pyav_anything_else_is_malformed(content, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MalformedAudio):
        decode(content)


def test_damaged_files_of_ffmpegs_kinds_are_malformed():
    good = np.frombuffer(encode("ipod", "aac", tone(44_100), 44_100), np.uint8)
    draws = np.random.default_rng(0)
    whole = []
    for _ in range(40):
        bad = good.copy()
        bad[draws.integers(0, len(bad), 30)] = draws.integers(0, 256, 30)
        with contextlib.suppress(MalformedAudio):
            whole.append(decode(bad.tobytes()))
    assert len(whole) < 4  # another release of FFmpeg may put up with a few
    assert all(np.isfinite(samples).all() for samples in whole)


def test_playlists_and_other_files_that_name_files_are_never_opened(tmp_path):
    secret = tmp_path / "secret.wav"
    for content in (
        f"#EXTM3U\n#EXTINF:1,\n{secret}\n",
        f"ffconcat version 1.0\nfile {secret}\n",
        "<?xml version='1.0'?><MPD/>",
    ):
        with pytest.raises(MalformedAudio):
            decode(content.encode())


def test_a_film_without_sound_is_malformed():
    av = pytest.importorskip("av", reason="needs the audio-av extra")
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as file:
        track = file.add_stream("mpeg4", rate=5)
        track.width = track.height = 64
        for _ in range(3):
            file.mux(track.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")))
        file.mux(track.encode(None))
    with pytest.raises(MalformedAudio, match="no sound in it, only pictures"):
        FileDecoder(stream.getvalue())


@pytest.mark.parametrize(
    ("dtype", "given"),
    [
        (np.int16, [0, -32768, 16384]),
        (np.int32, [0, -(2**31), 2**30]),
        (np.uint8, [128, 0, 192]),
        (np.float64, [0, -1, 0.5]),
    ],
)
def test_integers_become_fractions(dtype, given):
    scaled = scale(np.array(given, dtype))
    assert (scaled.dtype, scaled.tolist()) == (np.float32, [0.0, -1.0, 0.5])


def test_the_mean_of_many_channels():
    channels = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
    np.testing.assert_allclose(mix(channels), channels.mean(axis=1), atol=1e-6)
