"""The manifest's `audio` section, of a model's feature extractor, and the runtime's sound held against others'."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxpipe.arrays import Floats
from onnxpipe.audio.features import FeatureReader
from onnxpipe.audio.mel import mel_filters
from onnxpipe.audio.waveform import Audio as Sound
from onnxpipe.bundle import Graph
from onnxpipe.errors import UnsupportedModel
from onnxpipe.hub.audio import extracted_audio
from onnxpipe.media import decode_base64
from onnxpipe.sections import Audio, Mel
from onnxpipe_export.quiet import loading, quiet
from onnxpipe_export.source import SourceModel

Extractor = Any  # a feature extractor: transformers is untyped here

# Beside the reference's features, which torch computes in single precision where it is installed.
_TOLERANCE = 1e-4


def load_feature_extractor(source: SourceModel) -> Extractor:
    """The feature extractor. Raises UnsupportedModel when there is none."""
    import transformers

    with loading("feature extractor", source.name):
        return transformers.AutoFeatureExtractor.from_pretrained(source.folder, trust_remote_code=False)


def audio_section(source: SourceModel, extractor: Extractor, config: Any) -> Audio:  # the model's config
    """How the model's sound is made. Raises UnsupportedModel for an extractor we do not have, or that does not fit."""
    return extracted_audio(source.name, type(extractor).__name__, vars(extractor), config.to_dict())


def check_sound(section: Audio, graph: Graph, extractor: Extractor, sounds: Sequence[str], name: str) -> None:
    """Raise UnsupportedModel unless the runtime's sound is librosa's and its features are transformers'.

    That is: waveforms, mixed and resampled, to the last bit; the filters of mel bins, where librosa has their scale;
    and features within what single precision does to the reference's.
    """
    mel, rate = section.mel, section.sampling_rate
    if (
        mel is not None
        and mel.scale == "slaney"
        and not np.allclose(mel_filters(mel, rate).T, _librosa_filters(mel, rate))
    ):
        raise UnsupportedModel(f"{name}: the mel filters differ from librosa's")
    reader = FeatureReader(section, graph)
    for number, given in enumerate(sounds):
        samples = Sound.read(given).samples(rate)
        if not np.array_equal(samples, _load_by_librosa(given, rate)):
            raise UnsupportedModel(f"{name}: sound {number} is decoded differently from librosa")
        with quiet():
            made = extractor(samples, sampling_rate=rate)[extractor.model_input_names[0]][0]
        apart = float(np.abs(next(iter(reader.row(samples).values())) - made).max())
        if not apart <= _TOLERANCE:
            raise UnsupportedModel(f"{name}: the features of sound {number} are off by {apart:.2g} from transformers'")


def _librosa_filters(mel: Mel, rate: int) -> Floats:
    from librosa.filters import mel as filter_bank

    weights: Floats = filter_bank(
        sr=rate,
        n_fft=mel.fft_length,
        n_mels=mel.bins,
        fmin=mel.min_frequency,
        fmax=mel.max_frequency,
        norm="slaney" if mel.equal_areas else None,
    )
    return weights


def _load_by_librosa(data_url: str, rate: int) -> Floats:
    import librosa

    with quiet():  # about modules of Python that another of its readers takes
        samples: Floats = librosa.load(io.BytesIO(decode_base64(data_url)), sr=rate, mono=True)[0]
    return samples
