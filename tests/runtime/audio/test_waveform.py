import base64
import contextlib
import io
import wave
from pathlib import Path

import numpy as np
import pytest

from onnxpipe.audio.waveform import Audio, Limits
from onnxpipe.errors import InvalidInput, MalformedAudio, UnsupportedModel

soxr = pytest.importorskip("soxr", reason="needs the audio extra")
soundfile = pytest.importorskip("soundfile", reason="needs the audio extra")

DRAWS = np.random.default_rng(0)


def wav(samples, rate=16_000, subtype="PCM_16", kind="WAV"):
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, subtype=subtype, format=kind)
    return stream.getvalue()


def array(samples, rate=16_000):
    return {"array": samples, "sampling_rate": rate}


def tone(seconds=0.5, rate=16_000):
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def test_sixteen_bit_integers_become_fractions_of_their_range():
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", None))
        file.writeframes(np.array([0, 16384, -32768, 32767], "<i2").tobytes())
    assert Audio.read(stream.getvalue()).samples(16_000).tolist() == [0.0, 0.5, -1.0, 32767 / 32768]


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_any_bit_depth_gives_the_same_sound(subtype):
    given = Audio.read(wav(tone(), subtype=subtype)).samples(16_000)
    assert given.dtype == np.float32
    np.testing.assert_allclose(given, tone(), atol=0.02 if subtype in ("PCM_U8", "ULAW", "ALAW") else 1e-4)


@pytest.mark.parametrize(
    ("kind", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("AIFF", "PCM_16")]
)
def test_common_formats_are_read(kind, subtype):
    assert len(Audio.read(wav(tone(), kind=kind, subtype=subtype)).samples(16_000)) == 8000


def test_channels_are_averaged():
    channels = np.array([[0.5, 0.25], [-0.5, 0.0], [1.0, -1.0]], np.float32)
    assert Audio.read(wav(channels, subtype="FLOAT")).samples(16_000).tolist() == [0.375, -0.25, 0.0]


@pytest.mark.parametrize(("own", "length"), [(44_100, 16_000), (8_000, 88_200), (48_000, 14_700), (11_025, 64_000)])
def test_other_rates_are_resampled_to_the_length_rounded_up(own, length):
    assert len(Audio.read(array(np.zeros(44_100, np.float32), own)).samples(16_000)) == length
    assert len(Audio.read(array(np.zeros(1, np.float32), own)).samples(16_000)) == -(-16_000 // own)


def test_resampling_keeps_the_tone():
    given = Audio.read(array(tone(rate=44_100), 44_100)).samples(16_000)
    np.testing.assert_allclose(given[400:-400], tone()[400:-400], atol=1e-3)


@pytest.mark.parametrize("own", [8_000, 16_000, 22_050, 44_100])
@pytest.mark.parametrize("size", [1, 1000, 16_000, 10**6])
def test_blocks_are_of_one_size_and_together_the_whole(own, size):
    noise = DRAWS.standard_normal(70_000 if size > 1 else 2_000).astype(np.float32) / 4
    audio = Audio.read(wav(noise, own, "FLOAT"))
    blocks = [*audio.blocks(16_000, size)]
    assert {len(block) for block in blocks[:-1]} <= {size}
    assert 0 < len(blocks[-1]) <= size
    np.testing.assert_array_equal(np.concatenate(blocks), audio.samples(16_000))


def test_blocks_are_decoded_when_they_are_asked_for():
    damaged = np.zeros(300_000, np.float32)
    damaged[-1] = np.nan
    blocks = Audio.read(wav(damaged, subtype="FLOAT")).blocks(16_000, 16_000)
    assert len(next(blocks)) == 16_000
    with pytest.raises(InvalidInput, match="no sound"):
        list(blocks)


def test_a_sound_may_be_bytes_a_path_a_data_url_or_an_array(tmp_path):
    content = wav(tone())
    file = tmp_path / "tone.wav"
    file.write_bytes(content)
    url = f"data:audio/wav;base64,{base64.b64encode(content).decode()}"
    expected = Audio.read(content).samples(16_000)
    for given in (
        bytearray(content),
        memoryview(content),
        file,
        str(file),
        url,
        array(expected),
        {**array(0), "array": expected},
    ):
        np.testing.assert_array_equal(Audio.read(given).samples(16_000), expected)
    raw = {"raw": expected.tolist(), "sampling_rate": np.int64(16_000)}
    np.testing.assert_array_equal(Audio.read(raw).samples(16_000), expected)
    audio = Audio.read(content)
    assert Audio.read(audio) is audio


def test_arrays_may_have_channels_and_integers():
    both = np.array([[16384, -32768], [0, 0]], np.int16)
    assert Audio.read(array(both)).samples(16_000).tolist() == [0.25, -0.5]
    assert Audio.read(array(np.array([128, 0, 192], np.uint8))).samples(16_000).tolist() == [0.0, -1.0, 0.5]


def test_seconds_are_those_of_the_header():
    assert Audio.read(wav(tone(0.5, 44_100), 44_100)).seconds == 0.5
    assert Audio.read(array(np.zeros((2, 8_000)), 16_000)).seconds == 0.5


def test_a_header_that_lies_is_found_out(tmp_path):
    flac = bytearray(wav(tone(), kind="FLAC"))
    # the 36 bits of STREAMINFO that say how many samples there are
    flac[21] = flac[21] & 0xF0 | 0x0F
    flac[22:26] = b"\xff" * 4
    audio = Audio.read(bytes(flac), Limits(max_seconds=1e9, max_samples=10**12))
    assert audio.seconds is not None
    assert audio.seconds > 4e6
    assert len(audio.samples(16_000)) == 8000
    assert audio.seconds == 0.5
    with pytest.raises(InvalidInput, match=r"lasts \d+ s or more; at most 14400 s"):
        Audio.read(bytes(flac))


def test_a_wav_file_of_a_stream_whose_header_does_not_know_the_length_is_read():
    content = bytearray(wav(tone()))
    content[4:8] = content[40:44] = b"\xff" * 4
    assert len(Audio.read(bytes(content)).samples(16_000)) == 8000


def test_what_a_short_header_leaves_out_counts_towards_the_limits():
    class Endless:
        header = Audio.read(array(np.zeros(5)))._source.header

        def pieces(self):
            while True:
                yield np.zeros(2**16, np.float32)

    with pytest.raises(InvalidInput, match="lasts 61 s or more; at most 60 s"):
        Audio(Endless(), Limits(max_seconds=60)).samples(16_000)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_bytes": 100}, r"the audio has 16\d\d\d bytes; at most 100 are accepted"),
        ({"max_seconds": 0.25}, "the audio lasts 0 s or more; at most 0.25 s"),
        ({"max_samples": 7999}, "the audio has 8000 samples or more; at most 7999"),
        ({"min_rate": 22_050}, "the audio has 16000 samples a second; expected 22050 to"),
        ({"max_rate": 8_000}, "the audio has 16000 samples a second; expected 1000 to 8000"),
        ({"max_channels": 0}, "the audio has 1 channels; expected 1 to 0"),
    ],
)
def test_what_is_beyond_a_limit_is_refused_before_it_is_decoded(limits, message, tmp_path):
    content = wav(tone())
    file = tmp_path / "tone.wav"
    file.write_bytes(content)
    for source in (content, file):
        with pytest.raises(InvalidInput, match=message):
            Audio.read(source, Limits(**limits))


def test_compressed_silence_cannot_fill_the_memory(tmp_path):
    with soundfile.SoundFile(tmp_path / "bomb.flac", "w", 16_000, 1) as file:
        for _ in range(40):
            file.write(np.zeros(2**20, np.int16))
    assert (tmp_path / "bomb.flac").stat().st_size < 200_000
    audio = Audio.read(tmp_path / "bomb.flac")
    assert audio.seconds == 40 * 2**20 / 16_000
    with pytest.raises(InvalidInput, match="at most 600 s"):
        Audio.read(tmp_path / "bomb.flac", Limits(max_seconds=600))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no sound",
        b"RIFF",
        b"RIFF\xff\xff\xff\xffWAVEfmt ",
        b"OggS" + bytes(60),
        b"ID3" + bytes(50),
        b"fLaC",
        bytes(1000),
    ],
)
def test_bytes_that_are_no_sound_are_malformed(content):
    with pytest.raises(MalformedAudio, match=r"corrupt, truncated or of an unknown kind|not one|no sound in it"):
        Audio.read(content).samples(16_000)


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "WAV"])
@pytest.mark.parametrize("keep", [4, 30, 60, 200])
def test_files_cut_short_are_malformed_or_shorter(kind, keep):
    content = wav(tone(), kind=kind, subtype="VORBIS" if kind == "OGG" else "PCM_16")[:keep]
    with contextlib.suppress(MalformedAudio):
        assert len(Audio.read(content).samples(16_000)) < 8000


def test_any_byte_may_be_wrong_without_anything_but_an_error_of_ours():
    for kind, subtype in (("FLAC", "PCM_16"), ("WAV", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")):
        good = np.frombuffer(wav(tone(0.2), kind=kind, subtype=subtype), np.uint8)
        for _ in range(60):
            bad = good.copy()
            places = DRAWS.integers(0, min(len(bad), 400), 4)
            bad[places] = DRAWS.integers(0, 256, 4)
            try:
                samples = Audio.read(bad.tobytes(), Limits(max_seconds=60)).samples(16_000)
            except InvalidInput:
                continue
            assert np.isfinite(samples).all()


@pytest.mark.parametrize("samples", [[], np.zeros((1, 0)), np.zeros((0,), np.int16)])
def test_an_empty_sound_is_malformed(samples):
    with pytest.raises(MalformedAudio, match="the audio is empty"):
        Audio.read(array(samples))
    with pytest.raises(MalformedAudio, match="the audio is empty"):
        Audio.read(wav(np.zeros(0, np.float32)))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e30])
def test_numbers_that_are_no_sound_are_refused(wrong):
    samples = np.array([0.0, wrong, 0.0])
    with pytest.raises(InvalidInput, match="the audio holds samples that are no sound"):
        Audio.read(array(samples)).samples(16_000)
    with pytest.raises(InvalidInput, match="the audio holds samples that are no sound"):
        Audio.read(wav(samples, subtype="DOUBLE")).samples(8_000)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "expected audio as bytes, a path, a data: URL or an array with its rate, given int"),
        (np.zeros(4), r"given ndarray; an array needs its rate: \{\"array\": samples, \"sampling_rate\": 16000\}"),
        ({}, "expected an array with its rate, .* given nothing"),
        ({"array": [0.0]}, "expected an array with its rate, .* given array"),
        ({"sampling_rate": 16_000}, "given sampling_rate"),
        (array([0.0], 16_000.0), "expected an array with its rate"),
        (array([0.0], True), "expected an array with its rate"),
        (array([0.0], -5), "the audio has -5 samples a second"),
        (array([[1.0], [1.0, 2.0]]), "given lists of different lengths"),
        (array(["a"]), "of numbers, given one of <U1"),
        (array([1j]), "of numbers, given one of complex"),
        (array(np.zeros((1, 2, 3))), r"shape \(1, 2, 3\)"),
        (array(np.zeros((500, 2))), r"500 channels; expected 1 to 64, with an array \(channels, n\)"),
        ("no/such/file.wav", "no/such/file.wav: no such file"),
        (Path("/"), "no such file"),
        ("data:audio/wav;base64,!", "expected base64"),
    ],
)
def test_anything_but_a_sound_is_refused_and_named(given, message):
    with pytest.raises(InvalidInput, match=message):
        Audio.read(given)


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    monkeypatch.setitem(__import__("sys").modules, "soxr", None)
    with pytest.raises(UnsupportedModel, match=r"needs soundfile, .* pip install 'onnxpipe\[audio\]'"):
        Audio.read(b"RIFF")
    with pytest.raises(UnsupportedModel, match=r"needs soxr, .* pip install 'onnxpipe\[audio\]'"):
        Audio.read(array([0.0], 8_000)).samples(16_000)
    # an array at the model's rate needs neither
    assert Audio.read(array([0.5])).samples(16_000).tolist() == [0.5]
