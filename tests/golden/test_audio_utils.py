"""Facts about spectra recorded by transformers' own tests, and the filters that Whisper's release carries.

Not asked: decibels, which no model here takes; the chroma of music; spectra of a recording that is not at hand.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from onnxpipe.audio.mel import hann_window, hertz_to_mel, mel_filters, power_spectrum, split_frames
from onnxpipe.sections import Mel


def recorded(test_data: Path, name: str) -> dict:
    return json.loads((test_data / "golden" / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("scale", ["htk", "slaney", "kaldi"])
def test_frequencies_have_the_recorded_mels(scale: str, test_data: Path) -> None:
    pairs = np.array(recorded(test_data, "audio_utils.json")["hertz_to_mel"][scale])
    np.testing.assert_allclose(hertz_to_mel(pairs[:, 0], scale), pairs[:, 1], rtol=1e-5)


def test_filters_equal_the_recorded(test_data: Path) -> None:
    cases = recorded(test_data, "audio_utils_auto.json")["mel_filter_banks"]
    assert len(cases) == 4
    for case in cases:
        given = case["params"]
        # Kaldi's has no use for the last frequency, which transformers counted only later
        count, is_kaldi = given["num_frequency_bins"], given["mel_scale"] == "kaldi"
        length = 2 * count if is_kaldi else 2 * (count - 1)
        mel = Mel(
            bins=given["num_mel_filters"],
            frame_length=length,
            fft_length=length,
            scale=given["mel_scale"],
            min_frequency=float(given["min_frequency"]),
            max_frequency=float(given["max_frequency"]),
            triangles="mel" if given.get("triangularize_in_mel_space") else "hertz",
            equal_areas=given["norm"] == "slaney",
        )
        weights = mel_filters(mel, given["sampling_rate"])[:count]
        np.testing.assert_allclose(weights, case["expected"], atol=case["atol"], err_msg=case["name"])


def test_the_window_equals_the_recorded(test_data: Path) -> None:
    expected = recorded(test_data, "audio_utils.json")["window_hann_periodic_16"]
    np.testing.assert_allclose(hann_window(16, periodic=True), expected, atol=1e-8)


def test_the_spectrum_of_a_click_is_the_recorded(test_data: Path) -> None:
    facts = recorded(test_data, "audio_utils.json")["spectrogram_impulse"]
    window = np.pad(hann_window(12, periodic=True), 2)
    mel = Mel(bins=2, frame_length=16, hop_length=4, fft_length=16, centered=True)
    for case in facts["cases"]:
        samples = np.zeros(case["n"], np.float32)
        samples[case["at"]] = case["value"]
        magnitudes = np.sqrt(power_spectrum(split_frames(samples, mel), window, mel)).T
        assert list(magnitudes.shape) == case["shape"]
        np.testing.assert_allclose(magnitudes, [case["row"]] * len(magnitudes), atol=1e-6)


def test_spectra_have_the_recorded_shapes(test_data: Path) -> None:
    facts = recorded(test_data, "audio_utils.json")["spectrogram_shapes"]
    samples = np.zeros(facts["n_samples"], np.float32)
    for case in facts["cases"]:
        length = case.get("fft_length") or case["frame_length"]
        mel = Mel(
            bins=2,
            frame_length=case["frame_length"],
            hop_length=case["hop"],
            fft_length=length,
            centered=case.get("center", True),
        )
        window = np.ones(case["frame_length"])
        frequencies, frames = case["shape"]
        if "mel" in case or not case.get("onesided", True):  # of mel bins, or with what the other half says again
            frequencies = length // 2 + 1
        assert power_spectrum(split_frames(samples, mel), window, mel).shape == (frames, frequencies), case


@pytest.mark.parametrize("bins", [80, 128])
def test_filters_are_those_that_whisper_carries(bins: int, test_data: Path) -> None:
    expected = np.load(test_data / "audio/whisper/mel_filters.npz")[f"mel_{bins}"]
    given = mel_filters(Mel(bins=bins, centered=True, equal_areas=True), 16_000).T
    np.testing.assert_allclose(given, expected, atol=1e-8)
