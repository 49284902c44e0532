"""Byte-level tokenizers with the tokens of models that write down speech, without transformers."""

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers
from tokenizers import decoders, models

from onnxpipe.sections import Text
from onnxpipe.text.tokenizer import Tokenizer


def byte_letters() -> list[str]:
    """The letter that stands for each byte in a byte-level vocabulary: visible ones for themselves."""
    visible = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in visible else next(others)) for byte in range(256)]


def read_ranks(file: Path, count: int | None = None) -> list[bytes]:
    """The words of a tiktoken file, by rank."""
    lines = file.read_text().splitlines()[:count]
    return [base64.b64decode(line.split()[0]) if line[0] != "=" else b"" for line in lines]


def make_tokenizer(words: Iterable[bytes], special: Sequence[str], folder: Path, times: int = 1501) -> Tokenizer:
    """A tokenizer of the words, the special tokens behind them, and those for times behind the last of these."""
    letters = byte_letters()
    vocabulary = {"".join(letters[byte] for byte in word): number for number, word in enumerate(words)}
    made = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([tokenizers.AddedToken(token, special=True) for token in special])
    made.add_tokens([f"<|{step * 0.02:.2f}|>" for step in range(times)])
    made.save(str(folder / "tokenizer.json"))
    return Tokenizer(folder / "tokenizer.json", Text(tokenizer="tokenizer.json"))
