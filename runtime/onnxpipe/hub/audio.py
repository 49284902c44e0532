"""The manifest's `audio` and `ctc` sections, from preprocessor_config.json, vocab.json and config.json.

What each class does with its settings, and in what order, is checked against transformers 4.57.6.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from onnxpipe.errors import UnsupportedModel
from onnxpipe.hub.source import SourceModel
from onnxpipe.sections import Audio, Ctc, Mel

Settings = Mapping[str, Any]  # JSON of any shape

# Bytes that the attention of one layer may take: more sound than that is cut off. Eight times as much sound would take
# sixty-four times the memory.
_ATTENTION_BYTES = 2**30
_KERNELS, _STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)


def audio_section(source: SourceModel) -> Audio:
    """How the model's sound is made: see `extracted_audio`. Raises UnsupportedModel as that does."""
    settings = source.read_json("preprocessor_config.json") or {}
    kind = str(settings.get("feature_extractor_type") or "Wav2Vec2FeatureExtractor")
    return extracted_audio(source.name, kind, settings, source.config)


def extracted_audio(name: str, kind: str, settings: Settings, config: Settings) -> Audio:
    """How a feature extractor of the class `kind` with these settings makes the sound of the model `name`.

    Raises UnsupportedModel for an extractor we do not have, or that does not fit the model's config.
    """
    if kind not in _SECTIONS:
        names = ", ".join(sorted(known.removesuffix("FeatureExtractor") for known in _SECTIONS))
        raise UnsupportedModel(f"{name}: feature extractor {kind} is not supported; supported are: {names}")
    try:
        return _SECTIONS[kind](settings, config)
    except (ValueError, TypeError, AttributeError) as error:
        raise UnsupportedModel(f"{name}: the settings of its {kind} are not supported ({error})") from error


def takes_mask(source: SourceModel) -> bool:
    """Whether a model was trained with a mask, and with it answers padded sound as it does the sound alone."""
    settings = source.read_json("preprocessor_config.json") or {}
    return bool(settings.get("return_attention_mask")) and source.config.get("feat_extract_norm") == "layer"


def convolutions(config: Settings) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Kernels and strides of the convolutions that samples become frames by."""
    return tuple(config.get("conv_kernel", _KERNELS)), tuple(config.get("conv_stride", _STRIDES))


def ctc_section(source: SourceModel) -> Ctc:
    """How frames become text, from the tokenizer's files, and how samples become frames, from the model's.

    Raises UnsupportedModel for a model without such a tokenizer, with one vocabulary per language (adapters), or whose
    frames are not those of its convolutions alone.
    """
    settings = source.read_json("tokenizer_config.json") or {}
    vocabulary = source.read_json("vocab.json")
    if not isinstance(vocabulary, dict):
        raise UnsupportedModel(f"{source.name}: no vocab.json, which a model that spells has its tokens in")
    if settings.get("target_lang") is not None or any(isinstance(part, dict) for part in vocabulary.values()):
        raise UnsupportedModel(f"{source.name}: a vocabulary for each language is not supported")
    if source.config.get("add_adapter"):
        raise UnsupportedModel(f"{source.name}: an adapter behind the encoder is not supported")
    tokens = {int(number): token for token, number in vocabulary.items()}
    tokens |= {int(number): token for token, number in (source.read_json("added_tokens.json") or {}).items()}
    added = settings.get("added_tokens_decoder") or {}
    tokens |= {int(number): token["content"] for number, token in added.items()}
    said = {} if added else source.read_json("special_tokens_map.json") or {}
    unknown, blank = (_content({**settings, **said}, role) for role in ("unk_token", "pad_token"))
    return Ctc(
        vocabulary=tuple(tokens.get(number, unknown) for number in range(source.config.get("vocab_size", 32))),
        blank=blank,
        delimiter=_content(settings, "word_delimiter_token", "|"),
        space=_content(settings, "replace_word_delimiter_char", " "),
        lower_case=bool(settings.get("do_lower_case", False)),
        clean_up_spaces=bool(settings.get("clean_up_tokenization_spaces", False)),
        frame_samples=math.prod(convolutions(source.config)[1]),
    )


def _content(settings: Settings, role: str, default: str | None = None) -> str:
    token = settings.get(role, default or {"unk_token": "<unk>", "pad_token": "<pad>"}.get(role))
    return str(token["content"] if isinstance(token, Mapping) else token)


def _waveform(settings: Settings, config: Settings) -> Audio:
    kernels, strides = convolutions(config)
    fewest = functools.reduce(
        lambda length, layer: (length - 1) * layer[1] + layer[0], [*zip(kernels, strides, strict=True)][::-1], 1
    )
    # (heads, frames, frames) of float32
    frames = math.isqrt(_ATTENTION_BYTES // (4 * config.get("num_attention_heads", 12)))
    return Audio(
        sampling_rate=settings.get("sampling_rate", 16_000),
        normalize=settings.get("do_normalize", True),
        min_samples=fewest,
        max_samples=frames * math.prod(strides),
    )


def _spectrogram(settings: Settings, config: Settings) -> Audio:
    frames, bins = settings.get("max_length", 1024), settings.get("num_mel_bins", 128)
    wanted = config.get("max_length", 1024), config.get("num_mel_bins", 128)
    if (frames, bins) != wanted:
        raise ValueError(f"{frames} frames of {bins} bins, where the model takes {wanted[0]} of {wanted[1]}")
    rate = settings.get("sampling_rate", 16_000)
    levels = {"mean": settings.get("mean", -4.2677393), "std": settings.get("std", 4.5689974) * 2}
    return Audio(
        sampling_rate=rate,
        mel=Mel(
            bins=bins,
            fft_length=512,
            remove_offset=True,
            preemphasis=0.97,
            periodic=False,
            scale="kaldi",
            min_frequency=20.0,
            max_frequency=float(rate // 2),
            triangles="mel",
            floor=1.192092955078125e-07,
        ),
        frames=frames,
        **(levels if settings.get("do_normalize", True) else {}),
    )


def _log_mel(settings: Settings, _: Settings) -> Audio:
    rate, length = settings.get("sampling_rate", 16_000), settings.get("n_fft", 400)
    return Audio(
        sampling_rate=rate,
        samples=settings.get("chunk_length", 30) * rate,
        mel=Mel(
            bins=settings.get("feature_size", 80),
            frame_length=length,
            hop_length=settings.get("hop_length", 160),
            fft_length=length,
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


_SECTIONS: dict[str, Callable[[Settings, Settings], Audio]] = {
    "ASTFeatureExtractor": _spectrogram,
    "Wav2Vec2FeatureExtractor": _waveform,
    "WhisperFeatureExtractor": _log_mel,
}
