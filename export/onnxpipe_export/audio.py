"""The manifest's `audio` section, read from a model's feature extractor, and the runtime's sound held against others'.

What each class does with its settings, and in what order, is checked against transformers 4.57.6.
"""

import functools
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onnxpipe.arrays import Floats
from onnxpipe.audio.features import FeatureReader
from onnxpipe.audio.mel import mel_filters
from onnxpipe.audio.waveform import Audio as Sound
from onnxpipe.bundle import Graph
from onnxpipe.errors import UnsupportedModel
from onnxpipe.media import decode_base64
from onnxpipe.sections import Audio, Mel
from onnxpipe_export.quiet import loading, quiet
from onnxpipe_export.source import SourceModel

Extractor = Any  # a feature extractor: transformers is untyped here

# Bytes that the attention of one layer may take: more sound than that is cut off. Eight times as much sound would take
# sixty-four times the memory.
_ATTENTION_BYTES = 2**30

# Beside the reference's features, which torch computes in single precision where it is installed.
_TOLERANCE = 1e-4


def load_feature_extractor(source: SourceModel) -> Extractor:
    """The feature extractor. Raises UnsupportedModel when there is none."""
    import transformers

    with loading("feature extractor", source.name):
        return transformers.AutoFeatureExtractor.from_pretrained(source.folder, trust_remote_code=False)


def audio_section(source: SourceModel, extractor: Extractor, config: Any) -> Audio:  # the model's config
    """How the model's sound is made. Raises UnsupportedModel for an extractor we do not have, or that does not fit."""
    kind = type(extractor).__name__
    if kind not in _SECTIONS:
        names = ", ".join(sorted(name.removesuffix("FeatureExtractor") for name in _SECTIONS))
        raise UnsupportedModel(f"{source.name}: feature extractor {kind} is not supported; supported are: {names}")
    try:
        return _SECTIONS[kind](extractor, config)
    except (ValueError, TypeError, AttributeError) as error:
        raise UnsupportedModel(f"{source.name}: the settings of its {kind} are not supported ({error})") from error


def _waveform(extractor: Extractor, config: Any) -> Audio:
    kernels, strides = config.conv_kernel, config.conv_stride
    fewest = functools.reduce(
        lambda length, layer: (length - 1) * layer[1] + layer[0], [*zip(kernels, strides, strict=True)][::-1], 1
    )
    # (heads, frames, frames) of float32
    frames = math.isqrt(_ATTENTION_BYTES // (4 * config.num_attention_heads))
    return Audio(
        sampling_rate=extractor.sampling_rate,
        normalize=extractor.do_normalize,
        min_samples=fewest,
        max_samples=frames * math.prod(strides),
    )


def _spectrogram(extractor: Extractor, config: Any) -> Audio:
    if (extractor.max_length, extractor.num_mel_bins) != (config.max_length, config.num_mel_bins):
        raise ValueError(
            f"{extractor.max_length} frames of {extractor.num_mel_bins} bins, where the model takes "
            f"{config.max_length} of {config.num_mel_bins}"
        )
    levels = {"mean": extractor.mean, "std": extractor.std * 2} if extractor.do_normalize else {}
    return Audio(
        sampling_rate=extractor.sampling_rate,
        mel=Mel(
            bins=extractor.num_mel_bins,
            fft_length=512,
            remove_offset=True,
            preemphasis=0.97,
            periodic=False,
            scale="kaldi",
            min_frequency=20.0,
            max_frequency=float(extractor.sampling_rate // 2),
            triangles="mel",
            floor=1.192092955078125e-07,
        ),
        frames=extractor.max_length,
        **levels,
    )


def _log_mel(extractor: Extractor, _: Any) -> Audio:
    return Audio(
        sampling_rate=extractor.sampling_rate,
        samples=extractor.n_samples,
        mel=Mel(
            bins=extractor.feature_size,
            frame_length=extractor.n_fft,
            hop_length=extractor.hop_length,
            fft_length=extractor.n_fft,
            centered=True,
            equal_areas=True,
            log="log10",
        ),
        drop_last=True,
        dynamic_range=8.0,
        mean=-4.0,
        std=4.0,
        bins_first=True,
    )


_SECTIONS: dict[str, Callable[[Extractor, Any], Audio]] = {
    "ASTFeatureExtractor": _spectrogram,
    "Wav2Vec2FeatureExtractor": _waveform,
    "WhisperFeatureExtractor": _log_mel,
}


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
