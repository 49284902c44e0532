import numpy as np
import pytest

from onnxpipe.audio.mel import MelSpectrum, hann_window, hertz_to_mel, mel_filters, mel_to_hertz, split_frames
from onnxpipe.errors import InvalidInput
from onnxpipe.sections import Mel

SCALES = ["slaney", "kaldi", "htk"]


@pytest.mark.parametrize("scale", SCALES)
def test_mels_and_hertz_are_each_others_inverse(scale):
    hertz = np.array([0.0, 20.0, 999.0, 1000.0, 1001.0, 8000.0])
    np.testing.assert_allclose(mel_to_hertz(hertz_to_mel(hertz, scale), scale), hertz, atol=1e-9)


def test_slaneys_scale_is_straight_below_a_kilohertz():
    assert hertz_to_mel(np.array([200.0, 1000.0, 6400.0]), "slaney").tolist() == pytest.approx([3, 15, 42])


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("triangles", ["hertz", "mel"])
def test_filters_are_triangles_that_sum_to_one_between_the_first_and_the_last_centre(scale, triangles):
    mel = Mel(bins=20, fft_length=1024, scale=scale, triangles=triangles)
    weights = mel_filters(mel, 16_000)
    assert weights.shape == (513, 20)
    assert (weights >= 0).all()
    peaks = weights.argmax(axis=0)
    assert (np.diff(peaks) > 0).all()
    np.testing.assert_allclose(weights[peaks[0] + 1 : peaks[-1]].sum(axis=1), 1, atol=1e-9)


def test_filters_of_equal_areas_have_equal_areas():
    weights = mel_filters(Mel(bins=20, fft_length=8192, frame_length=8192, equal_areas=True), 16_000)
    np.testing.assert_allclose(weights.sum(axis=0) * 16_000 / 8192, 1, rtol=0.01)


def test_a_periodic_window_goes_on_where_it_began():
    assert hann_window(4, periodic=True).tolist() == pytest.approx([0, 0.5, 1, 0.5])
    assert hann_window(5, periodic=False).tolist() == pytest.approx([0, 0.5, 1, 0.5, 0])


@pytest.mark.parametrize(("length", "frames"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (16_000, 98)])
def test_frames_are_whole(length, frames):
    made = split_frames(np.arange(length, dtype=np.float32), Mel(bins=8))
    assert made.shape == (frames, 400)
    assert made[:, 0].tolist() == [160 * index for index in range(frames)]


def test_centred_frames_mirror_the_ends():
    made = split_frames(
        np.arange(10, dtype=np.float32), Mel(bins=2, frame_length=4, hop_length=3, fft_length=4, centered=True)
    )
    assert made.tolist() == [[2, 1, 0, 1], [1, 2, 3, 4], [4, 5, 6, 7], [7, 8, 9, 8]]


def test_a_tone_is_loudest_in_its_own_bin():
    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)
    mel = Mel(bins=40, fft_length=512)
    energies = MelSpectrum(mel, 16_000)(tone)
    assert energies.shape == (98, 40)
    assert set(energies.argmax(axis=1)) == {mel_filters(mel, 16_000)[32].argmax()}


def test_silence_lies_on_the_floor():
    energies = MelSpectrum(Mel(bins=8, floor=1e-3, log="log10"), 16_000)(np.zeros(800, np.float32))
    assert energies.dtype == np.float32
    np.testing.assert_allclose(energies, np.full((3, 8), -3))


def test_a_constant_is_silence_once_the_offset_is_removed():
    energies = MelSpectrum(Mel(bins=8, floor=1e-3, log="log10", remove_offset=True), 16_000)(
        np.full(800, 0.5, np.float32)
    )
    np.testing.assert_allclose(energies, np.full((3, 8), -3))


def test_preemphasis_lifts_high_tones_above_low_ones():
    time = np.arange(4000) / 16_000
    low, high = (np.sin(2 * np.pi * hertz * time).astype(np.float32) for hertz in (200, 6000))
    plain, lifted = (MelSpectrum(Mel(bins=40, preemphasis=coefficient), 16_000) for coefficient in (0.0, 0.97))
    assert lifted(high).max() > plain(high).max()
    assert lifted(low).max() < plain(low).max() - 3


def test_a_transform_shorter_than_a_frame_is_refused():
    with pytest.raises(InvalidInput, match=r"`fft_length`: expected 400 \(`frame_length`\) or more, given 256"):
        Mel(bins=8, fft_length=256)
