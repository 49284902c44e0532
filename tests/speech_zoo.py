"""Tiny random Whispers in hub layout, with tokens as the real ones have them, and heads bent to tell times."""

import base64
import dataclasses
import json
from pathlib import Path

import torch
import transformers
from transformers.models.whisper.tokenization_whisper import bytes_to_unicode

from generation_zoo import WHISPER, draw

LANGUAGES = ("en", "zh", "de", "fr", "ja", "ru")
TASKS = ("translate", "transcribe")
_WORDS = 700  # of the real ranks: bytes and the first merges
_POSITIONS = 64
_BENT = 6.0  # so far that no state leans the other way


@dataclasses.dataclass(frozen=True)
class Whisper:
    """A model to draw, with windows of so many `seconds`: the real ones' 30 take nine times as much attention.

    `timely` is how much likelier times are, `steady` how much a later time costs, `ends` how much likelier an end is.
    """

    ranks: str
    multilingual: bool = True
    seconds: int = 10
    timely: float = 0.0
    steady: float = 0.02
    ends: float = 4.0


SPEECH_HEAD = "ForSpeechSeq2Seq"
WHISPERS = {
    "multilingual": Whisper("multilingual"),
    "english": Whisper("gpt2", multilingual=False),
    "thirty seconds": Whisper("multilingual", seconds=30),
}


def write_whisper(name: str, folder: Path, ranks: Path, **config: object) -> Path:
    """Write a model into `folder`; `ranks` is the folder of the real vocabularies, `config` goes over its own."""
    kind = WHISPERS[name]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(kind, folder, ranks / f"{kind.ranks}.tiktoken")
    tokenizer.save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=kind.seconds).save_pretrained(folder)
    ids = tokenizer.get_vocab()
    end, start, silent = (ids[f"<|{token}|>"] for token in ("endoftext", "startoftranscript", "notimestamps"))
    model = draw(
        WHISPER,
        vocab_size=silent + 1502,
        max_source_positions=50 * kind.seconds,
        max_target_positions=_POSITIONS,
        d_model=32,
        decoder_layers=2,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        **config,
    )
    _bend(model, kind, silent + 1, end)
    model.generation_config = transformers.GenerationConfig(
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        max_length=_POSITIONS,
        max_initial_timestamp_index=50,
        no_timestamps_token_id=silent,
        prev_sot_token_id=ids["<|startofprev|>"],
        suppress_tokens=[1, 2, 7, *range(start, silent)],  # the real ones leave the languages out
        begin_suppress_tokens=[220, end],
        alignment_heads=[[0, 1], [1, 0], [1, 3]],
        is_multilingual=kind.multilingual,
        **_told(kind, ids),
    )
    model.save_pretrained(folder, safe_serialization=True)
    return folder


def make_tokenizer(kind: Whisper, folder: Path, ranks: Path) -> transformers.WhisperTokenizerFast:
    """The first of the real tokens, and special ones behind them in the real order."""
    letters = bytes_to_unicode()
    lines = ranks.read_text().splitlines()[:_WORDS]
    words = ["".join(letters[byte] for byte in base64.b64decode(line.split()[0])) for line in lines]
    marks = ["translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps"]
    special = [f"<|{name}|>" for name in ("endoftext", "startoftranscript", *LANGUAGES, *marks)]
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    vocabulary.write_text(json.dumps({token: number for number, token in enumerate([*words, special[0]])}))
    merges.write_text("#version: 0.2\n")
    tokenizer = transformers.WhisperTokenizerFast(
        str(vocabulary), str(merges), unk_token=special[0], bos_token=special[0], eos_token=special[0]
    )
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    tokenizer.add_tokens([f"<|{step * 0.02:.2f}|>" for step in range(1501)])
    tokenizer.set_prefix_tokens(predict_timestamps=False)
    return tokenizer


def _told(kind: Whisper, ids: dict[str, int]) -> dict[str, object]:
    if not kind.multilingual:
        return {"forced_decoder_ids": [[1, ids["<|notimestamps|>"]]]}
    return {
        "lang_to_id": {f"<|{code}|>": ids[f"<|{code}|>"] for code in LANGUAGES},
        "task_to_id": {task: ids[f"<|{task}|>"] for task in TASKS},
        "forced_decoder_ids": [[1, None], [2, ids["<|transcribe|>"]]],
    }


def _bend(model: transformers.PreTrainedModel, kind: Whisper, first: int, end: int) -> None:
    """Make times likelier, early ones most, and ends: along a direction that all states share."""
    generator = torch.Generator().manual_seed(7)
    direction = torch.nn.functional.normalize(torch.randn(model.config.d_model, generator=generator), dim=0)
    decoder = model.model.decoder
    with torch.no_grad():
        decoder.layer_norm.bias += _BENT * direction
        steps = torch.arange(1501, dtype=torch.float32)
        likelier = torch.zeros(model.config.vocab_size)
        likelier[first:] = kind.timely - kind.steady * steps
        likelier[end] = kind.ends
        embedding = decoder.embed_tokens.weight
        embedding += (likelier / _BENT - embedding @ direction)[:, None] * direction
