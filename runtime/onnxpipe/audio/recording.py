"""A recording as the windows of energies that a model hears, wherever each begins, however long it is.

What counts as silence is measured by the loudest moment of all, as transformers 4.57.6 WhisperFeatureExtractor does
without truncation. So a long recording is listened to once for that, and again for its windows; energies are kept from
the first time where they are few.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from onnxpipe.arrays import Floats
from onnxpipe.audio.features import FeatureReader, fit
from onnxpipe.audio.mel import MelSpectrum
from onnxpipe.audio.waveform import Audio
from onnxpipe.errors import UnsupportedModel
from onnxpipe.sections import Audio as AudioSection
from onnxpipe.sections import Mel

# energies that are kept: a quarter of an hour of them, with 80 bins
_KEPT_BYTES = 2**25


class Recording(Protocol):
    """What there is to hear: so many frames of sound."""

    frames: int

    def window(self, begin: int) -> Floats:
        """The energies (bins, frames) of the window that begins at a frame, zeros behind the end.

        None begins before the one that was asked for last.
        """


class Microphone:
    """Makes recordings of sound, as a model with windows of one length wants them. Safe to call from several threads.

    Raises UnsupportedModel when the model takes other things than energies in such windows.
    """

    def __init__(self, section: AudioSection, reader: FeatureReader, model_id: str) -> None:
        if section.mel is None or section.samples is None or not section.mel.centered or not section.bins_first:
            raise UnsupportedModel(f"{model_id}: its `audio` section is not that of a model that hears in windows")
        self.section = section
        self.rate = section.sampling_rate
        self.samples = section.samples  # of one window
        self.mel: Mel = section.mel
        self.frames = section.samples // section.mel.hop_length
        self._reader = reader
        # ends are mirrored where the recording ends
        self.spectrum = MelSpectrum(dataclasses.replace(section.mel, centered=False), section.sampling_rate)

    def hear(self, samples: Floats) -> Recording:
        """Samples (N,) that fit into one window, with silence behind them."""
        (energies,) = self._reader.row(samples).values()
        return ShortRecording(energies, min(-(-len(samples) // self.mel.hop_length), self.frames))

    def record(self, audio: Audio) -> Recording:
        """Audio of any length. Raises what it does when it cannot be decoded."""
        beginning = [*itertools.islice(audio.blocks(self.rate, self.samples), 2)]
        return self.hear(beginning[0]) if len(beginning) == 1 else LongRecording(self, audio)

    def scale(self, energies: Floats, loudest: float) -> Floats:
        """Energies (T, bins) as the model takes them, (bins, frames), where the loudest of all is known."""
        if self.section.dynamic_range is not None:
            energies = np.maximum(energies, np.float32(loudest - self.section.dynamic_range))
        scaled = (energies - np.float32(self.section.mean)) / np.float32(self.section.std)
        return np.ascontiguousarray(fit(scaled, self.frames).T)


class ShortRecording:
    """One window (bins, frames), `frames` of which are sound."""

    def __init__(self, energies: Floats, frames: int) -> None:
        self._energies = energies
        self.frames = frames

    def window(self, begin: int) -> Floats:
        """See Recording."""
        rest = np.zeros_like(self._energies)
        rest[:, : rest.shape[1] - begin] = self._energies[:, begin:]
        return rest


class LongRecording:
    """Audio of more than a window; of its energies only those of the window under way are in memory, or all of few."""

    def __init__(self, microphone: Microphone, audio: Audio) -> None:
        self._microphone, self._audio = microphone, audio
        self.frames, self._loudest = 0, -np.inf
        kept: list[Floats] = []
        for part in self._spectra():
            self.frames += len(part)
            self._loudest = max(self._loudest, float(part.max(initial=-np.inf)))
            kept.append(part)
            if self.frames * part.shape[1] * part.itemsize > _KEPT_BYTES:
                kept.clear()
        self._parts = iter(kept) if sum(map(len, kept)) == self.frames else self._spectra()
        self._waiting = np.zeros((0, microphone.mel.bins), np.float32)
        self._begin = 0  # the frame that `_waiting` begins with

    def window(self, begin: int) -> Floats:
        """See Recording."""
        end = begin + self._microphone.frames
        while self._begin + len(self._waiting) < end and (part := next(self._parts, None)) is not None:
            self._waiting = np.concatenate([self._waiting, part])
            passed = min(begin - self._begin, len(self._waiting))
            self._waiting, self._begin = self._waiting[passed:], self._begin + passed
        return self._microphone.scale(self._waiting[begin - self._begin : end - self._begin], self._loudest)

    def _spectra(self) -> Iterator[Floats]:
        """The energies (T, bins) of the whole, part by part: what they would be of all samples at once."""
        mel, spectrum = self._microphone.mel, self._microphone.spectrum
        half = mel.frame_length // 2
        waiting: Floats | None = None
        for block in self._audio.blocks(self._microphone.rate, self._microphone.samples):
            waiting = np.concatenate([block[half:0:-1] if waiting is None else waiting, block])
            energies = spectrum(waiting)
            yield energies
            waiting = waiting[len(energies) * mel.hop_length :]
        if waiting is not None:
            energies = spectrum(np.concatenate([waiting, waiting[-2 : -half - 2 : -1]]))
            yield energies[:-1] if self._microphone.section.drop_last else energies
