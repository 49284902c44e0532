"""Text to `input_ids`: encoding, pairs and truncation. The only door to the tokenizers library.

The tokenizer never changes after loading: truncation and padding are switched off once and done in numpy, because
switching them per call, as transformers does, makes concurrent callers fail ("Already borrowed").
"""

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tokenizers
from numpy.typing import NDArray

from onnxpipe.batching import Row
from onnxpipe.bundle import Graph
from onnxpipe.errors import BundleError, InvalidInput, UnsupportedModel
from onnxpipe.records import show
from onnxpipe.sections import Text

Side = Literal["left", "right"]
# what clean-up replaces by what, in this order
SPACES = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)

Truncation = Literal["longest_first", "only_first", "only_second", "do_not_truncate"]


@dataclasses.dataclass(frozen=True)
class Encoding:
    """The tokens of one text or pair, or of a window of it, special tokens included.

    `ids` and `type_ids` are (T,); `cut` says how many tokens of the text are missing. What only some tasks need is made
    when it is asked for.
    """

    ids: NDArray[np.int64]
    type_ids: NDArray[np.int64]
    cut: int
    _raw: Any = None  # tokenizers.Encoding: its stubs lack most members
    _whole: "Encoding | None" = None  # what this is a part of: its arrays are made once for all parts
    _kept: NDArray[np.intp] | None = None  # positions in it of these tokens

    @functools.cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Where each token comes from (T, 2): start and end in characters of its own text; special tokens (0, 0)."""
        if self._whole is not None:
            return self._whole.offsets[self._kept]
        return np.array(self._raw.offsets, dtype=np.int64).reshape(-1, 2)

    @functools.cached_property
    def sequences(self) -> NDArray[np.int64]:
        """Which text each token belongs to (T,): 0 the first, 1 its pair, -1 a special token."""
        if self._whole is not None:
            return self._whole.sequences[self._kept]
        return _numbers(self._raw.sequence_ids)

    @functools.cached_property
    def words(self) -> NDArray[np.int64]:
        """The word of each token (T,), counted in its own text by the pre-tokenizer; -1 for special tokens."""
        if self._whole is not None:
            return self._whole.words[self._kept]
        return _numbers(self._raw.word_ids)

    @functools.cached_property
    def tokens(self) -> list[str]:
        """The tokens as the vocabulary spells them."""
        if self._whole is not None and self._kept is not None:
            return [self._whole.tokens[position] for position in self._kept]
        tokens: list[str] = self._raw.tokens
        return tokens

    def row(self, graph: Graph) -> Row:
        """The inputs the graph wants, each (T,) int64.

        Raises InvalidInput for no tokens at all, as an empty text has where the tokenizer adds no special ones.
        """
        if not self.ids.size:
            raise InvalidInput("the text has no tokens: expected at least one character that this model reads")
        row = {"input_ids": self.ids, "attention_mask": np.ones_like(self.ids), "token_type_ids": self.type_ids}
        return {tensor.name: row[tensor.name] for tensor in graph.inputs}

    def part(self, kept: NDArray[np.intp]) -> "Encoding":
        """The tokens at the positions `kept`."""
        return Encoding(self.ids[kept], self.type_ids[kept], len(self.ids) - len(kept), _whole=self, _kept=kept)


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
        special: bool = True,
    ) -> Encoding:
        """Tokens of a text, or of a text and its pair, cut to the model's limit.

        Special tokens are never cut; without `special` only those are there that the text spells out. `longest_first`
        shortens the longer of a pair, as the tokenizers library does. Raises InvalidInput when nothing may be cut and
        the text is too long, or when it is not valid Unicode.
        """
        raw = self._encode(text, pair, add_special_tokens=special)
        length = len(raw)
        limit = self.text.max_tokens
        if limit is None or length <= limit:
            return self._encoding(raw)
        if truncation == "do_not_truncate":
            raise InvalidInput(
                f"the text has {length} tokens, the model's limit is {limit}; shorten it or allow truncation"
            )
        whole = self._encoding(raw)
        return whole.part(_kept(whole, limit, truncation, side or self.text.truncation_side))

    def encode_joined(self, texts: Sequence[str]) -> tuple[list[int], list[int]]:
        """The ids of many texts behind one another, and the index of each one's text.

        Without special tokens and uncut. One call of the library for all, but each text is tokenised by itself.
        """
        raw = self._encode(texts, None, is_pretokenized=True, add_special_tokens=False)
        return raw.ids, raw.word_ids

    def begin_words(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each token begins a word: any but those with the `subword_prefix`; all where there is none."""
        prefix = self.subword_prefix
        tokens = map(self._tokenizer.id_to_token, ids.tolist())
        return np.array([prefix is None or not token.startswith(prefix) for token in tokens], dtype=np.bool_)

    def encode_pairs(self, text: str, pairs: Iterable[str]) -> list[Encoding]:
        """`encode` of the text with each of the pairs and truncation "only_first", but without offsets.

        The text, which may be long, is tokenised once, however many pairs there are. Raises InvalidInput when a pair
        leaves no room for the text.
        """
        alone = self._encoding(self._encode(text, None))
        first = np.flatnonzero(alone.sequences == 0)
        start = first[0] if first.size else 0  # special tokens before the text
        return [self._splice(alone, first, start, pair) for pair in pairs]

    def _splice(self, alone: Encoding, first: NDArray[np.intp], start: int, pair: str) -> Encoding:
        """A text put into the frame that its pair and the special tokens make."""
        frame = self._encoding(self._encode("", pair))
        limit = self.text.max_tokens
        size = len(first) if limit is None else min(len(first), limit - len(frame.ids))
        if size < min(len(first), 1):  # as in the reference, at least one token of a text must stay
            raise InvalidInput(
                f"{show(pair)} has so many tokens that the text beside it does not fit into the model's limit of "
                f"{limit}; shorten it"
            )
        kept = first[:size] if self.text.truncation_side == "right" else first[len(first) - size :]
        ids, type_ids = (
            np.concatenate([outer[:start], inner[kept], outer[start:]])
            for outer, inner in ((frame.ids, alone.ids), (frame.type_ids, alone.type_ids))
        )
        return Encoding(ids, type_ids, len(first) - len(kept))

    def windows(
        self, text: str, pair: str | None = None, *, stride: int, max_tokens: int | None = None
    ) -> list[Encoding]:
        """The tokens in windows of at most `max_tokens` (the model's limit when None), neighbours sharing `stride`.

        With a pair its second text is cut into windows and each holds the whole first one. Windows are those of the
        tokenizers library (Encoding.truncate). Raises InvalidInput when `stride` leaves no room to move on.
        """
        whole = self._encoding(self._encode(text, pair))
        limit = max_tokens or self.text.max_tokens
        if limit is None or len(whole.ids) <= limit:
            return [whole]
        sliced = np.flatnonzero(whole.sequences == (0 if pair is None else 1))
        fixed = np.flatnonzero(whole.sequences != (0 if pair is None else 1))
        room = limit - len(fixed)
        if room <= stride:
            raise InvalidInput(
                f"a window of {limit} tokens has room for {max(room, 0)} beside {len(fixed)} fixed ones; expected a "
                f"stride below that, given {stride}"
            )
        starts = range(0, max(1, len(sliced) - stride), room - stride)
        return [whole.part(np.sort(np.concatenate([fixed, sliced[start : start + room]]))) for start in starts]

    def id(self, token: str) -> int | None:
        """The id of a token, None when the vocabulary does not have it."""
        number: int | None = self._tokenizer.token_to_id(token)
        return number

    def token(self, number: int) -> str:
        """The token of an id, as the vocabulary spells it; empty for an id it does not have."""
        return self._tokenizer.id_to_token(number) or ""

    def known(self, number: int) -> str | None:
        """The token of an id as `decode` finds it: None for an id that the vocabulary does not have."""
        token: str | None = self._tokenizer.id_to_token(number)
        return token

    def is_special(self, number: int) -> bool:
        """Whether `decode` leaves the token of this id out when it skips special tokens."""
        return number in self.special_ids

    @functools.cached_property
    def special_ids(self) -> frozenset[int]:
        """The ids that `decode` leaves out when it skips special tokens."""
        added_tokens = self._tokenizer.get_added_tokens_decoder()
        return frozenset(number for number, added in added_tokens.items() if added.special)

    @functools.cached_property
    def decoding(self) -> tuple[Mapping[str, Any], ...]:  # each a JSON object of its own shape
        """What joins tokens to text, step by step, as tokenizer.json spells each; empty when only spaces do."""
        decoder = self._tokenizer.decoder
        step = {"type": "Sequence", "decoders": []} if decoder is None else json.loads(decoder.__getstate__())
        return tuple(_steps(step))

    @functools.cached_property
    def size(self) -> int:
        """How many ids the vocabulary has, added tokens included: one more than the largest."""
        vocabulary: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        return max(vocabulary.values(), default=-1) + 1

    def special(self, role: str) -> str | None:
        """The special token of a role, such as "mask_token"."""
        return self.text.special_tokens.get(role)

    def join(self, tokens: Sequence[str]) -> str:
        """Tokens back to text (`convert_tokens_to_string` of transformers 4.57.6)."""
        decoder = self._tokenizer.decoder
        return decoder.decode(list(tokens)) if decoder is not None else " ".join(tokens)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Ids back to text, spaces before punctuation cleaned up where the model's tokenizer does that."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return clean_up_spaces(text) if self.text.clean_up_spaces else text

    @property
    def subword_prefix(self) -> str | None:
        """What marks a token that continues a word ("##"); None when tokens are not marked so."""
        return getattr(self._tokenizer.model, "continuing_subword_prefix", None) or None

    def count_prompt(self, prompt: str) -> int:
        """Tokens of a prompt as they stand before a text: special ones included, but not one that closes it."""
        raw = self._encode(prompt, None)
        count: int = len(raw) - sum(raw.special_tokens_mask[-1:])
        return count

    def _encoding(self, raw: Any) -> Encoding:  # of a tokenizers.Encoding
        ids = np.array(raw.ids, dtype=np.int64)
        if self.text.unknown_from is not None:
            ids[ids >= self.text.unknown_from] = self._unknown
        return Encoding(ids, np.array(raw.type_ids, dtype=np.int64), 0, raw)

    @functools.cached_property
    def _unknown(self) -> int:
        """The id of the unknown token. Raises BundleError when there is none."""
        number = self.id(self.special("unk_token") or "")
        if number is None:
            raise BundleError("the manifest's `text.unknown_from` wants a `special_tokens.unk_token`; there is none")
        return number

    def _encode(  # -> tokenizers.Encoding, whose stubs lack most members
        self, text: str | Sequence[str], pair: str | None, **options: bool
    ) -> Any:
        try:
            return self._tokenizer.encode(text, pair, **options)
        except Exception as error:  # a lone surrogate reaches the library's conversion as a TypeError or worse
            if any(0xD800 <= ord(character) <= 0xDFFF for part in (*text, pair or "") for character in part):
                raise InvalidInput("the text is not valid Unicode: it holds half of a surrogate pair") from None
            raise InvalidInput(f"the tokenizer cannot encode the text ({error})") from error


def clean_up_spaces(text: str) -> str:
    """English text without the spaces that joining tokens leaves (`clean_up_tokenization` of transformers 4.57.6)."""
    for spaced, joined in SPACES:
        text = text.replace(spaced, joined)
    return text


def check_inputs(graph: Graph, model_id: str) -> None:
    """Raise UnsupportedModel when a graph wants an input that `Encoding.row` does not give."""
    given = {"input_ids", "attention_mask", "token_type_ids"}
    if unknown := [tensor.name for tensor in graph.inputs if tensor.name not in given]:
        raise UnsupportedModel(f"{model_id}: the graph wants {unknown[0]!r}; text gives {', '.join(sorted(given))}")


def _steps(decoder: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The steps of a decoder, sequences inside of sequences unrolled."""
    if decoder["type"] == "Sequence":
        for step in decoder["decoders"]:
            yield from _steps(step)
    else:
        yield decoder


def _numbers(values: Sequence[int | None]) -> NDArray[np.int64]:
    return np.array([-1 if value is None else value for value in values], dtype=np.int64)


def _kept(whole: Encoding, limit: int, truncation: Truncation, side: Side) -> NDArray[np.intp]:
    """Positions that stay: every special token, and of each text as many as fit, from its start (side right) or end."""
    sequences = whole.sequences
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
