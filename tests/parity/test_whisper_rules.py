"""The parts that Whisper's texts and times are made of, each beside its function in transformers 4.57.6."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="parity needs the export extra")
import torch
import transformers
from transformers.models.whisper.generation_whisper import (
    WhisperGenerationMixin,
    _dynamic_time_warping,
    _median_filter,
)
from transformers.models.whisper.tokenization_whisper import (
    _combine_tokens_into_words,
    _find_longest_common_sequence,
)

from onnxpipe.audio.features import FeatureReader
from onnxpipe.audio.recording import Microphone
from onnxpipe.audio.waveform import Audio
from onnxpipe.bundle import Graph, Tensor
from onnxpipe.generation.alignment import median_filter, warp
from onnxpipe.generation.confidence import compression_ratio
from onnxpipe.generation.merging import merge
from onnxpipe.generation.timestamps import timestamp_rules
from onnxpipe.generation.words import split_words
from onnxpipe.sections import Audio as AudioSection
from onnxpipe.sections import Mel, Transcription
from speech_tokens import make_tokenizer, read_ranks

SEEDS = range(12)


@pytest.mark.parametrize("seed", SEEDS)
def test_paths_are_the_references(seed):
    draws = np.random.default_rng(seed)
    # whole numbers make ties
    costs = draws.integers(0, 3, draws.integers(1, 30, 2)).astype(np.float32) * (1 if seed % 2 else draws.random())
    for found, expected in zip(warp(costs), _dynamic_time_warping(costs.astype(np.float64)), strict=True):
        assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("shape", [(2, 3, 40), (1, 2, 4), (1, 2, 3), (3, 1, 8)])
def test_medians_are_the_references(shape):
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    assert median_filter(values, 7).tolist() == _median_filter(torch.from_numpy(values), 7).tolist()


@pytest.mark.parametrize("seed", SEEDS)
def test_what_may_follow_is_what_may_in_the_reference(seed):
    draws = np.random.default_rng(seed)
    section = Transcription(start=50, no_timestamps=52, no_speech=51, max_initial_timestamp=4)
    config = transformers.GenerationConfig(eos_token_id=49, no_timestamps_token_id=52, max_initial_timestamp_index=4)
    processor = transformers.WhisperTimeStampLogitsProcessor(config, begin_index=3)
    ours = timestamp_rules(section, 3, 49)
    for length in range(12):
        tokens = draws.integers(0, 80, (4, 3 + length))
        tokens[:, 3:] = np.where(draws.random((4, length)) < 0.5, np.sort(draws.integers(53, 73, (4, length))), 7)
        scores = draws.normal(0, 2, (4, 80)).astype(np.float32)
        with np.errstate(invalid="ignore"):
            found = ours(tokens, scores)
        expected = processor(torch.from_numpy(tokens), torch.from_numpy(scores)).numpy()
        assert (found == expected).all()


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_overlapping_parts_become_what_they_do_in_the_reference(seed, timed):
    draws = np.random.default_rng(seed)
    parts = [draws.integers(0, 4, draws.integers(1, 14)).tolist() for _ in range(draws.integers(1, 5))]
    spans = [[tuple(pair) for pair in np.sort(draws.random((len(part), 2)).round(1)).tolist()] for part in parts]
    found = merge(list(zip(parts, spans if timed else [[]] * len(parts), strict=True)))
    if timed:
        expected = _find_longest_common_sequence(parts, spans)
        assert (found[0], found[1]) == (expected[0], [tuple(span) for span in expected[1]])
    else:
        assert found[0] == _find_longest_common_sequence(parts)


@pytest.fixture(scope="module")
def tokenizers(test_data, tmp_path_factory):
    """Ours and the reference's over the first real tokens."""
    folder = tmp_path_factory.mktemp("words")
    words = read_ranks(test_data / "audio/whisper/multilingual.tiktoken", 3000)
    own = make_tokenizer(words, ["<|endoftext|>"], folder, times=0)
    reference = transformers.WhisperTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), clean_up_tokenization_spaces=False
    )
    return own, reference


@pytest.mark.parametrize("language", ["english", "chinese"])
@pytest.mark.parametrize("seed", SEEDS)
def test_words_are_the_references(tokenizers, seed, language):
    own, reference = tokenizers
    # a few tokens of many bytes each that are no characters, and punctuation
    ids = np.random.default_rng(seed).integers(0, 3000 if seed % 2 else 200, 40).tolist()
    code = {"english": "en", "chinese": "zh"}[language]
    try:
        words, _, places = _combine_tokens_into_words(reference, ids, language)
    except IndexError:  # bytes at the end of a text that are no character, which it looks for behind it
        pytest.skip("the reference fails on these tokens")
    found = split_words(own, ids, code)
    assert [(word.text, list(word.places)) for word in found] == list(zip(words, places, strict=True))


def test_repetition_is_measured_as_in_the_reference():
    ids = np.random.default_rng(0).integers(0, 9, 80)
    expected = WhisperGenerationMixin._retrieve_compression_ratio(torch.from_numpy(ids), 51865)
    assert compression_ratio(ids, 51865) == expected


def microphone():
    section = AudioSection(
        sampling_rate=16_000,
        samples=80_000,
        mel=Mel(bins=80, centered=True, equal_areas=True, log="log10"),
        drop_last=True,
        dynamic_range=8.0,
        mean=-4.0,
        std=4.0,
        bins_first=True,
    )
    tensor = Tensor(name="input_features", dtype="float32", shape=("sources", 80, 500))
    return Microphone(section, FeatureReader(section, Graph(inputs=(tensor,), outputs=(tensor,))), "model")


@pytest.mark.parametrize("count", [1, 159, 160, 16_000, 79_999, 80_000, 80_159, 80_160, 200_123, 480_001])
def test_windows_of_a_recording_are_those_of_its_whole_spectrum(count):
    extractor = transformers.WhisperFeatureExtractor(chunk_length=5)
    samples = np.random.default_rng(count).normal(0, 0.1, count).astype(np.float32)
    samples[count // 2 :] *= 0.01
    recording = microphone().record(Audio.read({"array": samples, "sampling_rate": 16_000}))
    long = count > 80_000
    whole = extractor(
        samples, sampling_rate=16_000, truncation=not long, padding="longest" if long else "max_length"
    ).input_features[0]
    assert recording.frames == (count // 160 if long else -(-count // 160))
    for begin in range(0, recording.frames, 212):
        expected = np.zeros((80, 500), np.float32)
        part = whole[:, begin : begin + 500]
        expected[:, : part.shape[1]] = part
        assert np.abs(recording.window(begin) - expected).max() < 1e-4


@pytest.mark.parametrize("name", ["silero_test.mp3", "uberi_audio-stereo-24-bit-44100Hz.flac"])
def test_a_recording_whose_energies_are_not_kept_is_listened_to_again(test_data, monkeypatch, name):
    file = str(test_data / "audio/speech" / name)
    kept = microphone().record(Audio.read(file))
    monkeypatch.setattr("onnxpipe.audio.recording._KEPT_BYTES", 0)
    again = microphone().record(Audio.read(file))
    assert kept.frames == again.frames
    for begin in range(0, kept.frames, 480):
        assert (kept.window(begin) == again.window(begin)).all()
