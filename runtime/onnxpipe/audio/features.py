"""Sound to the numbers a graph takes, as the manifest's `audio` section says: normalised samples or mel energies.

Reference: transformers 4.57.6 Wav2Vec2FeatureExtractor, and WhisperFeatureExtractor and ASTFeatureExtractor as they
compute without torch and torchaudio.
"""

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats
from onnxpipe.audio.mel import MelSpectrum
from onnxpipe.audio.waveform import Audio as Sound
from onnxpipe.batching import Row
from onnxpipe.bundle import Graph, Manifest
from onnxpipe.errors import UnsupportedModel
from onnxpipe.sections import Audio

_MASK = "attention_mask"


class FeatureReader:
    """Makes rows of mono samples for a graph. Safe to call from several threads."""

    def __init__(self, audio: Audio, graph: Graph) -> None:
        self._audio = audio
        self._spectrum = None if audio.mel is None else MelSpectrum(audio.mel, audio.sampling_rate)
        dtypes = {tensor.name: np.dtype(tensor.dtype) for tensor in graph.inputs}
        self._name = next(name for name in dtypes if name != _MASK)
        self._dtype = dtypes[self._name]
        self._mask_dtype = dtypes.get(_MASK)

    def read(self, sound: Sound) -> tuple[Floats, bool]:
        """The samples of a sound that the model looks at, and whether it would look at more if it could.

        No more than these are decoded. Raises InvalidInput as `Audio.blocks` does.
        """
        rate, size = self._audio.sampling_rate, self._enough()
        if size is None:
            return sound.samples(rate), False
        blocks = sound.blocks(rate, size)
        samples = next(blocks)
        return samples, size == self._audio.max_samples and next(blocks, None) is not None

    def _enough(self) -> int | None:
        """After how many samples nothing changes any more, or can; None when all of them count."""
        mel, audio = self._audio.mel, self._audio
        if mel is None or audio.frames is None or mel.centered or audio.dynamic_range is not None:
            return audio.samples or audio.max_samples
        return audio.samples or mel.hop_length * (audio.frames - 1) + mel.frame_length

    def row(self, samples: Floats) -> Row:
        """The graph's input of samples (N,), and where it has it `attention_mask` with ones where there is sound.

        That is (N,) for samples as they are, else (frames, bins) or (bins, frames).
        """
        values = fit(samples, self._audio.samples)
        values = fit(values, max(len(values), self._audio.min_samples))
        if self._audio.normalize:
            values = normalize_samples(values, min(len(samples), len(values)))
        if self._spectrum is not None:
            values = self._energies(values, self._spectrum)
        row = {self._name: np.ascontiguousarray(values, dtype=self._dtype)}
        if self._mask_dtype is None:
            return row
        mask: NDArray[np.generic] = np.arange(len(values)) < max(len(samples), self._audio.min_samples)
        return {**row, _MASK: mask.astype(self._mask_dtype)}

    def _energies(self, samples: Floats, spectrum: MelSpectrum) -> Floats:
        audio = self._audio
        energies = spectrum(samples)
        if audio.drop_last:
            energies = energies[:-1]
        if audio.dynamic_range is not None and energies.size:
            energies = np.maximum(energies, energies.max() - np.float32(audio.dynamic_range))
        energies = (fit(energies, audio.frames) - np.float32(audio.mean)) / np.float32(audio.std)
        return energies.T if audio.bins_first else energies


def require_audio(manifest: Manifest) -> Audio:
    """The manifest's `audio` section. Raises UnsupportedModel when the model takes no sound."""
    if manifest.audio is None:
        raise UnsupportedModel(f"{manifest.id} takes no audio; it serves: {', '.join(manifest.tasks)}")
    return manifest.audio


def normalize_samples(samples: Floats, length: int) -> Floats:
    """Samples (N,) with mean 0 and variance 1, those from `length` on 0 and not counted."""
    sound = samples[:length]
    normalized = np.zeros_like(samples)
    normalized[:length] = (sound - sound.mean()) / np.sqrt(sound.var() + np.float32(1e-7))
    return normalized


def fit(values: Floats, length: int | None) -> Floats:
    """`values` cut or padded with zeros to `length` along the first axis; as they are when that is None."""
    if length is None or len(values) == length:
        return values
    if len(values) > length:
        return values[:length]
    return np.pad(values, [(0, length - len(values)), *[(0, 0)] * (values.ndim - 1)])
