"""Mel spectra of sound: the scales, the triangular filters, and the energy that sound has in each of them over time.

Reference: transformers 4.57.6 `audio_utils` (`mel_filter_bank`, `window_function`, `spectrogram`), which follows
librosa and, for the Kaldi scale, torchaudio. Letters: N samples, T frames, F frequencies, M mel bins.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from onnxpipe.arrays import Floats
from onnxpipe.sections import Mel, MelScale

Doubles = NDArray[np.float64]

# Slaney's scale: a straight line, from 1 kHz on logarithmic.
_BREAK_HERTZ, _BREAK_MEL, _MEL_PER_HERTZ = 1000.0, 15.0, 3.0 / 200.0
_MEL_PER_OCTAVE = 27.0 / np.log(6.4)

# The largest matrix product, multiplications, that OpenBLAS does without its threads, which would wait for each other
# where onnxruntime's keep the cores busy. What numpy makes of so few frames also stays in the processor's cache.
_PRODUCT = 2**18


def hertz_to_mel(hertz: Doubles, scale: MelScale) -> Doubles:
    """Frequencies on a mel scale."""
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + hertz / 700.0)
    if scale == "kaldi":
        return 1127.0 * np.log(1.0 + hertz / 700.0)
    above = _BREAK_MEL + np.log(np.maximum(hertz, _BREAK_HERTZ) / _BREAK_HERTZ) * _MEL_PER_OCTAVE
    return np.where(hertz >= _BREAK_HERTZ, above, hertz * _MEL_PER_HERTZ)


def mel_to_hertz(mels: Doubles, scale: MelScale) -> Doubles:
    """The frequencies of points on a mel scale."""
    if scale == "htk":
        return 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    if scale == "kaldi":
        return 700.0 * (np.exp(mels / 1127.0) - 1.0)
    above = _BREAK_HERTZ * np.exp((np.maximum(mels, _BREAK_MEL) - _BREAK_MEL) / _MEL_PER_OCTAVE)
    return np.where(mels >= _BREAK_MEL, above, mels / _MEL_PER_HERTZ)


def mel_filters(mel: Mel, sampling_rate: int) -> Doubles:
    """Weights (F, M) of each frequency in each bin: triangles from one centre to the next but one."""
    count = mel.fft_length // 2 + 1
    low, high = hertz_to_mel(np.array([mel.min_frequency, mel.max_frequency]), mel.scale)
    corners = np.linspace(low, high, mel.bins + 2)
    if mel.triangles == "mel":
        points = hertz_to_mel(np.arange(count) * np.float64(sampling_rate / mel.fft_length), mel.scale)
    else:
        corners = mel_to_hertz(corners, mel.scale)
        points = np.linspace(0, sampling_rate // 2, count)
    widths = np.diff(corners)
    distances = corners[None] - points[:, None]
    rising, falling = -distances[:, :-2] / widths[:-1], distances[:, 2:] / widths[1:]
    weights = np.maximum(0.0, np.minimum(rising, falling))
    return weights * (2.0 / (corners[2:] - corners[:-2])) if mel.equal_areas else weights


def hann_window(length: int, *, periodic: bool) -> Doubles:
    """A raised cosine; a periodic one would begin anew with the next sample."""
    return np.hanning(length + 1)[:-1] if periodic else np.hanning(length)


class MelSpectrum:
    """Computes log mel energies as a manifest's `mel` section says. Safe to call from several threads."""

    def __init__(self, mel: Mel, sampling_rate: int) -> None:
        self._mel = mel
        self._window = hann_window(mel.frame_length, periodic=mel.periodic)
        self._filters = mel_filters(mel, sampling_rate)
        self._step = max(1, _PRODUCT // self._filters.size)
        self._log: np.ufunc = np.log10 if mel.log == "log10" else np.log

    def __call__(self, samples: Floats) -> Floats:
        """Logarithms (T, M) of the energies of samples (N,). There are none of fewer samples than a frame has."""
        frames, step = split_frames(samples, self._mel), self._step
        energies = np.empty((len(frames), self._mel.bins), np.float32)
        for begin in range(0, len(frames), step):
            power = power_spectrum(frames[begin : begin + step], self._window, self._mel)
            energies[begin : begin + step] = self._log(np.maximum(self._mel.floor, power @ self._filters))
        return energies


def split_frames(samples: Floats, mel: Mel) -> Floats:
    """Frames (T, frame_length) of samples (N,): a view, or when `centered` one of the samples with mirrored ends."""
    if mel.centered:
        samples = np.pad(samples, mel.frame_length // 2, mode="reflect")
    if len(samples) < mel.frame_length:
        return np.empty((0, mel.frame_length), np.float32)
    return sliding_window_view(samples, mel.frame_length)[:: mel.hop_length]


def power_spectrum(frames: Floats, window: Doubles, mel: Mel) -> Doubles:
    """Squared magnitudes (T, F) of frames. In double precision: quiet frequencies beside loud ones need it."""
    values = frames.astype(np.float64)
    if mel.remove_offset:
        values -= values.mean(axis=1, keepdims=True)
    if mel.preemphasis:
        values[:, 1:] -= mel.preemphasis * values[:, :-1]
        values[:, 0] *= 1 - mel.preemphasis
    values *= window
    spectrum = np.fft.rfft(values, mel.fft_length)
    power: Doubles = spectrum.real**2 + spectrum.imag**2
    return power
