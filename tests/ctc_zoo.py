"""Tiny random models that spell out speech, in hub layout with their feature extractor and vocabulary.

Weights are drawn for frames that are sure of different tokens: spoken parts of a recording get other letters than
silent ones.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import torch
import transformers

from audio_zoo import BUCKETS, SIZES, STABLE, draw_layer

CTC_HEAD = "ForCTC"
LETTERS = "ETAONIHSRDLUMWCFGYPBVK'XJQZ"
# as facebook/wav2vec2-base-960h has it
VOCABULARY = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, **{c: i for i, c in enumerate(LETTERS, 5)}}


@dataclasses.dataclass(frozen=True)
class CtcFamily:
    """One kind of model: sizes of the tiny config, and whether padded rows need a mask."""

    model_type: str
    config: Mapping[str, object]
    mask: bool


_SIZES = SIZES | {"vocab_size": len(VOCABULARY)}

CTC_ZOO = {
    "wav2vec2": CtcFamily("wav2vec2", _SIZES, mask=False),
    "wav2vec2-stable": CtcFamily("wav2vec2", _SIZES | STABLE, mask=True),
    "hubert": CtcFamily("hubert", _SIZES, mask=False),
    "hubert-stable": CtcFamily("hubert", _SIZES | STABLE, mask=True),
    "wavlm": CtcFamily("wavlm", _SIZES | BUCKETS, mask=False),
    "wavlm-stable": CtcFamily("wavlm", _SIZES | STABLE | BUCKETS, mask=True),
    "data2vec-audio": CtcFamily(
        "data2vec-audio", _SIZES | {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 9}, mask=True
    ),
}


def build_ctc_model(family: str, folder: Path, **config: object) -> Path:
    """Write a model of a family into `folder`; `tokenizer` holds other settings of its vocabulary."""
    row = CTC_ZOO[family]
    config = dict(config)
    tokenizer, vocabulary = config.pop("tokenizer", {}), config.pop("vocabulary", VOCABULARY)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "vocab.json"
    file.write_text(json.dumps(vocabulary), encoding="utf-8")
    words = transformers.Wav2Vec2CTCTokenizer(str(file), **tokenizer)
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=row.mask)
    transformers.Wav2Vec2Processor(extractor, words).save_pretrained(folder)
    torch.manual_seed(sum(map(ord, family)))
    drawn = transformers.AutoConfig.for_model(row.model_type, **{**row.config, **config})
    model = transformers.AutoModelForCTC.from_config(drawn).eval()
    draw_ctc_weights(model)
    model.save_pretrained(folder, safe_serialization=True)
    return folder


@torch.no_grad()
def draw_ctc_weights(model: torch.nn.Module) -> None:
    """Matrices and kernels of about unit gain, and a last layer whose scores are far apart."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv1d):
            draw_layer(module, 1.5)
    # what the last layer sees of a sound that comes and goes: its changes decide, the blank and the space often
    swell = torch.sin(torch.arange(64_000) / 3000).abs() * torch.randn(1, 64_000)
    hidden = model.base_model(swell).last_hidden_state[0]
    head = model.lm_head
    head.weight.copy_(torch.randn_like(head.weight) * 4 / hidden.shape[1] ** 0.5 / hidden.std(dim=0))
    head.bias.copy_(-head.weight @ hidden.mean(dim=0))
    head.bias[0] += 5.0
    head.bias[4] += 4.5
