"""Text to `input_ids`: encoding, pairs and truncation. The only door to the tokenizers library.

The tokenizer never changes after loading: truncation and padding are switched off once and done in numpy, because
switching them per call, as transformers does, makes concurrent callers fail ("Already borrowed").
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tokenizers
from numpy.typing import NDArray

from onnxpipe.batching import Row
from onnxpipe.bundle import Graph, Text
from onnxpipe.errors import BundleError, InvalidInput, UnsupportedModel

Side = Literal["left", "right"]
Truncation = Literal["longest_first", "only_first", "only_second", "do_not_truncate"]


@dataclasses.dataclass(frozen=True)
class Encoding:
    """The tokens of one text or pair, special tokens included: ids and type ids (T,), and how many were cut off."""

    ids: NDArray[np.int64]
    type_ids: NDArray[np.int64]
    cut: int

    def row(self, graph: Graph) -> Row:
        """The inputs the graph wants, each (T,) int64.

        Raises InvalidInput for no tokens at all, as an empty text has where the tokenizer adds no special ones.
        """
        if not self.ids.size:
            raise InvalidInput("the text has no tokens: expected at least one character that this model reads")
        row = {"input_ids": self.ids, "attention_mask": np.ones_like(self.ids), "token_type_ids": self.type_ids}
        return {tensor.name: row[tensor.name] for tensor in graph.inputs}


class Tokenizer:
    """A tokenizer.json with the limits of one model. Immutable; safe to use from several threads.

    Raises BundleError when the file cannot be read.
    """

    def __init__(self, file: Path, text: Text) -> None:
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises plain Exception
            raise BundleError(f"{file}: tokenizers {tokenizers.__version__} cannot read it ({error})") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.text = text

    def encode(
        self,
        text: str,
        pair: str | None = None,
        *,
        truncation: Truncation = "longest_first",
        side: Side | None = None,
    ) -> Encoding:
        """Tokens of a text, or of a text and its pair, cut to the model's limit.

        Special tokens are never cut. `longest_first` shortens the longer of a pair, as the tokenizers library does.
        Raises InvalidInput when nothing may be cut and the text is too long, or when it is not valid Unicode.
        """
        raw = self._encode(text, pair)
        length = len(raw)
        limit = self.text.max_tokens
        ids = np.array(raw.ids, dtype=np.int64)
        type_ids = np.array(raw.type_ids, dtype=np.int64)
        if limit is None or length <= limit:
            return Encoding(ids, type_ids, 0)
        if truncation == "do_not_truncate":
            raise InvalidInput(
                f"the text has {length} tokens, the model's limit is {limit}; shorten it or allow truncation"
            )
        keep = _kept(raw, limit, truncation, side or self.text.truncation_side)
        return Encoding(ids[keep], type_ids[keep], length - len(keep))

    def count_prompt(self, prompt: str) -> int:
        """Tokens of a prompt as they stand before a text: special ones included, but not one that closes it."""
        raw = self._encode(prompt, None)
        count: int = len(raw) - sum(raw.special_tokens_mask[-1:])
        return count

    def _encode(self, text: str, pair: str | None) -> Any:  # tokenizers.Encoding, whose stubs lack most members
        try:
            return self._tokenizer.encode(text, pair)
        except Exception as error:  # a lone surrogate reaches the library's conversion as a TypeError or worse
            if any(0xD800 <= ord(character) <= 0xDFFF for character in text + (pair or "")):
                raise InvalidInput("the text is not valid Unicode: it holds half of a surrogate pair") from None
            raise InvalidInput(f"the tokenizer cannot encode the text ({error})") from error


def check_inputs(graph: Graph, model_id: str) -> None:
    """Raise UnsupportedModel when a graph wants an input that `Encoding.row` does not give."""
    given = {"input_ids", "attention_mask", "token_type_ids"}
    if unknown := [tensor.name for tensor in graph.inputs if tensor.name not in given]:
        raise UnsupportedModel(f"{model_id}: the graph wants {unknown[0]!r}; text gives {', '.join(sorted(given))}")


def _kept(raw: Any, limit: int, truncation: Truncation, side: Side) -> NDArray[np.intp]:
    """Positions that stay: every special token, and of each text as many as fit, from its start (side right) or end."""
    sequences = np.array([-1 if sequence is None else sequence for sequence in raw.sequence_ids])
    first, second = np.flatnonzero(sequences == 0), np.flatnonzero(sequences == 1)
    special = np.flatnonzero(sequences == -1)
    sizes = _fit(len(first), len(second), limit - len(special), truncation)
    kept = [special]
    for positions, size in zip((first, second), sizes, strict=True):
        kept.append(positions[:size] if side == "right" else positions[len(positions) - size :])
    return np.sort(np.concatenate(kept))


def _fit(first: int, second: int, room: int, truncation: Truncation) -> tuple[int, int]:
    """How many tokens of each text fit into `room` (tokenizers 0.23, truncate_encodings)."""
    if room < 0:
        raise InvalidInput("the special tokens alone are more than the model's limit")
    if truncation == "longest_first":
        short, long = min(first, second), max(first, second)
        long = short if short > room else max(short, room - short)
        if short + long > room:
            short = room // 2
            long = short + room % 2
        return (short, long) if first <= second else (long, short)
    sizes = (room - second, second) if truncation == "only_first" else (first, room - first)
    # at least one token of the text that is cut must stay
    if sizes[0 if truncation == "only_first" else 1] < 1:
        raise InvalidInput(f"truncation {truncation!r} cannot make the pair fit: the other text alone is too long")
    return sizes
