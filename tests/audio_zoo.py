"""Tiny random audio classifiers in hub layout, with the feature extractor their family has on the hub.

Weights are drawn for outputs that depend on the sound: by fan-in, and a last layer that decides.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
import transformers

AUDIO_HEAD = "ForAudioClassification"
LABELS = ("yes", "no", "up", "down", "left", "right", "stop")


@dataclasses.dataclass(frozen=True)
class AudioFamily:
    """One kind of model: sizes of the tiny config, and the feature extractor's class and settings."""

    model_type: str
    config: Mapping[str, object]
    extractor: str = "Wav2Vec2FeatureExtractor"
    settings: Mapping[str, object] = dataclasses.field(default_factory=dict)


# of wav2vec2 and its relatives
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
STABLE = {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}
BUCKETS = {"num_buckets": 32, "max_bucket_distance": 80}
_SIZES = SIZES | {"classifier_proj_size": 16}
_MASK = {"return_attention_mask": True}
_TRANSFORMER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}

AUDIO_ZOO = {
    "wav2vec2-classifier": AudioFamily("wav2vec2", _SIZES),
    "wav2vec2-stable-classifier": AudioFamily("wav2vec2", _SIZES | STABLE, settings=_MASK),
    "wav2vec2-weighted-classifier": AudioFamily(
        "wav2vec2", _SIZES | {"use_weighted_layer_sum": True}, settings={"do_normalize": False}
    ),
    "hubert-classifier": AudioFamily("hubert", _SIZES),
    "wavlm-classifier": AudioFamily("wavlm", _SIZES | BUCKETS),
    "wavlm-stable-classifier": AudioFamily("wavlm", _SIZES | STABLE | BUCKETS, settings=_MASK),
    "data2vec-audio-classifier": AudioFamily(
        "data2vec-audio",
        _SIZES | {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 9},
        settings=_MASK,
    ),
    "ast": AudioFamily(
        "audio-spectrogram-transformer",
        _TRANSFORMER | {"max_length": 128, "num_mel_bins": 32},
        "ASTFeatureExtractor",
        {"max_length": 128, "num_mel_bins": 32},
    ),
    "whisper-classifier": AudioFamily(
        "whisper",
        {
            "d_model": 32,
            "encoder_layers": 2,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "decoder_layers": 1,
            "decoder_attention_heads": 2,
            "decoder_ffn_dim": 64,
            "vocab_size": 100,
            "classifier_proj_size": 16,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 3,
        },
        "WhisperFeatureExtractor",
    ),
}


def build_audio_classifier(family: str, folder: Path, **config: object) -> Path:
    """Write a model of a family into `folder`."""
    row = AUDIO_ZOO[family]
    folder.mkdir(parents=True, exist_ok=True)
    getattr(transformers, row.extractor)(**row.settings).save_pretrained(folder)
    torch.manual_seed(sum(map(ord, family)))
    settings = {**row.config, **config}
    if not settings.keys() & {"num_labels", "id2label"}:
        settings |= {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}
    model = transformers.AutoModelForAudioClassification.from_config(
        transformers.AutoConfig.for_model(row.model_type, **settings)
    )
    draw_weights(model)
    model.eval().save_pretrained(folder, safe_serialization=True)
    return folder


@torch.no_grad()
def draw_weights(model: torch.nn.Module) -> None:
    """Matrices and kernels of about unit gain."""
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv1d | torch.nn.Conv2d)]
    for module in layers:
        # the mean over time leaves little of what differs
        draw_layer(module, 1.5 if module is not layers[-1] else 12.0)


@torch.no_grad()
def draw_layer(module: torch.nn.Module, gain: float) -> None:
    """A matrix or kernel of a gain, and a small bias."""
    weight = module.weight.detach().clone()
    drawn = torch.randn_like(weight) * (gain / weight[0].numel() ** 0.5)
    if hasattr(module, "parametrizations"):  # weight norm
        module.weight = drawn
    else:
        module.weight.copy_(drawn)
    if module.bias is not None:
        module.bias.normal_(std=0.1)
