"""What graphs take of sound, beside librosa 0.11 and the feature extractors of transformers 4.57.6."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from onnxpipe.audio.features import FeatureReader
from onnxpipe.audio.mel import MelSpectrum, mel_filters
from onnxpipe.audio.waveform import Audio
from onnxpipe.bundle import Graph, Tensor
from onnxpipe.errors import InvalidInput
from onnxpipe.sections import Mel

pytest.importorskip("optimum", reason="parity needs the export extra")
import librosa
import transformers

from onnxpipe_export.audio import audio_section
from onnxpipe_export.source import SourceModel

RATE = 16_000

# of AST's own filters, the lowest of which lie between two frequencies
pytestmark = pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")


def sound_files(test_data: Path) -> list[Path]:
    folders = (test_data / "audio/speech", test_data / "audio/formats")
    return sorted(file for folder in folders for file in folder.rglob("*.*") if file.is_file())


def load_by_librosa(file: Path, rate: int) -> np.ndarray | None:
    """None for a file that soundfile, which librosa asks first, does not read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # librosa's, about another reader it would try
            return librosa.load(file, sr=rate, mono=True)[0]
    except Exception:  # noqa: BLE001 - whatever its readers raise
        return None


@pytest.fixture(scope="module")
def speech(test_data: Path) -> list[np.ndarray]:
    """Recordings of all lengths, and silence."""
    files = [
        file for file in sorted((test_data / "audio/speech").iterdir()) if file.suffix in (".flac", ".mp3", ".ogg")
    ]
    whole = [Audio.read(file).samples(RATE) for file in files]
    minute = Audio.read(test_data / "audio/speech/silero_test.wav").samples(RATE)
    draws = np.random.default_rng(0)
    faint = (1e-4 * draws.standard_normal(30_000)).astype(np.float32)
    return [*whole, minute, np.zeros(20_000, np.float32), faint, minute[:700], np.full(5000, 0.25, np.float32)]


def test_waveforms_equal_librosas_to_the_bit(test_data: Path) -> None:
    compared = 0
    for file in sound_files(test_data):
        for rate in (16_000, 8_000, 44_100):
            expected = load_by_librosa(file, rate)
            if expected is None:
                continue
            given = Audio.read(file).samples(rate)
            # what libsndfile itself decodes differently from one time to the next, in the last bit of one MP3
            tolerance = 1e-9 if file.name == "silence-44-s-mpeg2.mp3" else 0.0
            np.testing.assert_allclose(given, expected, rtol=0, atol=tolerance, err_msg=file.name)
            compared += 1
    assert compared >= 3 * 45


def test_whatever_librosa_does_not_read_is_read_or_refused_by_name(test_data: Path) -> None:
    pytest.importorskip("av", reason="needs the audio-av extra")
    outcomes = {}
    for file in sound_files(test_data):
        if load_by_librosa(file, RATE) is None:
            try:
                outcomes[file.name] = len(Audio.read(file).samples(RATE))
            except InvalidInput as error:
                outcomes[file.name] = str(error)
    unread = {name for name, outcome in outcomes.items() if isinstance(outcome, str)}
    # no audio in them, broken on purpose by the tests they are from, or of a kind that FFmpeg refuses as well
    assert unread == {
        "adif.aac",
        "flac_application.flac",
        "id3v1v2-combined.mp3",
        "nero-chapters.m4b",
        "sample.oggtheora",
        "sample_bitrate.oggtheora",
        "variable-block.flac",
    }
    assert outcomes["api_inference_sample1.webm"] == pytest.approx(219_040, rel=0.001)


def test_what_ffmpeg_decodes_is_the_sound_that_libsndfile_decodes(test_data: Path) -> None:
    """The same recording in WebM and FLAC: lossy and a little later, so by the correlation of their loudness."""
    pytest.importorskip("av", reason="needs the audio-av extra")
    one, other = (
        Audio.read(test_data / f"audio/speech/api_inference_sample1.{kind}").samples(RATE)[:218_000]
        for kind in ("webm", "flac")
    )
    loudness = [np.abs(samples.reshape(-1, 2000)).mean(axis=1) for samples in (one, other)]
    assert np.corrcoef(*loudness)[0, 1] > 0.99


@pytest.mark.parametrize("bins", [40, 64, 80, 128])
@pytest.mark.parametrize("equal_areas", [True, False])
def test_slaneys_filters_equal_librosas(bins: int, equal_areas: bool) -> None:
    mel = Mel(bins=bins, fft_length=512, equal_areas=equal_areas)
    expected = librosa.filters.mel(sr=RATE, n_fft=512, n_mels=bins, norm="slaney" if equal_areas else None)
    np.testing.assert_allclose(mel_filters(mel, RATE).T, expected, atol=1e-7)


def test_htks_filters_equal_librosas() -> None:
    mel = Mel(bins=40, fft_length=512, scale="htk", min_frequency=100.0, max_frequency=4000.0)
    expected = librosa.filters.mel(sr=RATE, n_fft=512, n_mels=40, fmin=100, fmax=4000, htk=True, norm=None)
    np.testing.assert_allclose(mel_filters(mel, RATE).T, expected, atol=1e-7)


def test_log_mel_energies_equal_librosas(speech: list[np.ndarray]) -> None:
    spectrum = MelSpectrum(Mel(bins=80, centered=True, equal_areas=True, log="log10"), RATE)
    for samples in speech:
        expected = librosa.feature.melspectrogram(
            y=samples, sr=RATE, n_fft=400, hop_length=160, n_mels=80, pad_mode="reflect"
        )
        # librosa's transform is in single precision: compared are energies, not the logarithms of faint ones
        np.testing.assert_allclose(10 ** spectrum(samples).T, np.maximum(expected, 1e-10), rtol=1e-3, atol=1e-6)


def reader_of(extractor: object, config: object, *names: str) -> FeatureReader:
    section = audio_section(SourceModel(Path(), "acme/ears", None, {}), extractor, config)
    inputs = tuple(
        Tensor(name=name, dtype="int64" if name == "attention_mask" else "float32", shape=("b",)) for name in names
    )
    return FeatureReader(section, Graph(inputs=inputs, outputs=inputs))


@pytest.mark.parametrize("settings", [{}, {"do_normalize": False}, {"sampling_rate": 8_000}])
def test_samples_equal_those_of_wav2vec2s_extractor(settings: dict[str, object], speech: list[np.ndarray]) -> None:
    extractor = transformers.Wav2Vec2FeatureExtractor(**settings)
    reader = reader_of(extractor, transformers.Wav2Vec2Config(), "input_values")
    for samples in speech:
        (expected,) = extractor(samples, sampling_rate=extractor.sampling_rate)["input_values"]
        np.testing.assert_allclose(reader.row(samples)["input_values"], expected, atol=1e-6)


def test_a_padded_batch_with_masks_equals_wav2vec2s(speech: list[np.ndarray]) -> None:
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    reader = reader_of(extractor, transformers.Wav2Vec2Config(), "input_values", "attention_mask")
    expected = extractor(speech[:4], sampling_rate=RATE, padding=True, return_tensors="np")
    for samples, values, mask in zip(speech, *(expected[name] for name in expected), strict=False):
        row = reader.row(samples)
        np.testing.assert_allclose(row["input_values"], values[: len(samples)], atol=1e-6)
        assert row["attention_mask"].sum() == mask.sum() == len(samples)
        assert not values[len(samples) :].any()


@pytest.mark.parametrize("bins", [80, 128])
def test_log_mel_features_equal_whispers(bins: int, speech: list[np.ndarray]) -> None:
    extractor = transformers.WhisperFeatureExtractor(feature_size=bins)
    reader = reader_of(extractor, transformers.WhisperConfig(), "input_features")
    for samples in speech:
        padded = np.pad(samples[: 30 * RATE], (0, max(0, 30 * RATE - len(samples))))
        given = reader.row(samples)["input_features"]
        assert given.shape == (bins, 3000)
        # computed by numpy, as without torch; and as with it, in single precision
        np.testing.assert_allclose(given, extractor._np_extract_fbank_features(padded[None], "cpu")[0], atol=1e-5)
        np.testing.assert_allclose(given, extractor(samples, sampling_rate=RATE)["input_features"][0], atol=1e-4)


@pytest.mark.parametrize(
    "settings", [{}, {"do_normalize": False}, {"max_length": 300, "num_mel_bins": 64, "mean": -3.0, "std": 2.0}]
)
def test_filter_banks_equal_those_of_asts_extractor(settings: dict[str, object], speech: list[np.ndarray]) -> None:
    extractor = transformers.ASTFeatureExtractor(**settings)
    config = transformers.ASTConfig(
        **{name: settings[name] for name in ("max_length", "num_mel_bins") if name in settings}
    )
    reader = reader_of(extractor, config, "input_values")
    for samples in speech:
        (expected,) = extractor(samples, sampling_rate=RATE)["input_values"]
        # a tone of nothing but an offset is below single precision's noise, once it is removed
        np.testing.assert_allclose(reader.row(samples)["input_values"], expected, atol=1e-5)


def test_no_more_than_it_looks_at_is_decoded_for_ast(test_data: Path) -> None:
    extractor = transformers.ASTFeatureExtractor()
    reader = reader_of(extractor, transformers.ASTConfig(), "input_values")
    minute = Audio.read(test_data / "audio/speech/silero_test.wav")
    samples, _ = reader.read(minute)
    assert len(samples) == 1023 * 160 + 400
    (expected,) = extractor(minute.samples(RATE), sampling_rate=RATE)["input_values"]
    np.testing.assert_allclose(reader.row(samples)["input_values"], expected, atol=1e-5)
