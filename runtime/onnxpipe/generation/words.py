"""Tokens to words, with the punctuation that belongs to each.

Reference: transformers 4.57.6 `_combine_tokens_into_words` of tokenization_whisper.
"""

import dataclasses
from collections.abc import Sequence

from onnxpipe.text.tokenizer import Tokenizer

# languages that are written without spaces: Chinese, Japanese, Thai, Lao, Burmese, Cantonese
_UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
_OPENING = "\"'“¡¿([{-"
_CLOSING = "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001 - those of Chinese
_ASCII_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
# what stands for bytes that are no character yet
_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


@dataclasses.dataclass(frozen=True, slots=True)
class Word:
    """A word with its spaces and punctuation, and the places of its tokens among those of the text."""

    text: str
    places: tuple[int, ...]

    def __add__(self, other: "Word") -> "Word":
        return Word(self.text + other.text, self.places + other.places)


def split_words(tokenizer: Tokenizer, ids: Sequence[int], language: str | None) -> list[Word]:
    """The words that the tokens of a text make; of languages without spaces (by code) its characters."""
    words = _characters(tokenizer, ids)
    if language not in _UNSPACED:
        words = _joined(words)
    return _punctuated(words)


def _characters(tokenizer: Tokenizer, ids: Sequence[int]) -> list[Word]:
    """The fewest tokens in a row that are whole characters; what is never whole at the end of a text is left out."""
    whole = tokenizer.decode(ids, skip_special_tokens=False)
    words: list[Word] = []
    places: list[int] = []
    offset = 0
    for place in range(len(ids)):
        places.append(place)
        text = tokenizer.decode([ids[index] for index in places], skip_special_tokens=False)
        broken = text.find(_INCOMPLETE)
        if broken < 0 or whole[offset + broken : offset + broken + 1] == _INCOMPLETE:
            words.append(Word(text, tuple(places)))
            offset += len(text)
            places.clear()
    return words


def _joined(parts: list[Word]) -> list[Word]:
    """Words begin with a space, and punctuation is a word of its own."""
    words: list[Word] = []
    for part in parts:
        if not words or part.text.startswith(" ") or part.text.strip() in _ASCII_PUNCTUATION:
            words.append(part)
        else:
            words[-1] += part
    return words


def _punctuated(words: list[Word]) -> list[Word]:
    """What opens goes to the word behind it, what closes to the one before."""
    opened: list[Word] = []  # from the last to the first
    for word in reversed(words):
        if opened and word.text.startswith(" ") and word.text.strip() in _OPENING:
            opened[-1] = word + opened[-1]
        else:
            opened.append(word)
    closed: list[Word] = []
    for word in reversed(opened):
        if closed and not closed[-1].text.endswith(" ") and word.text in _CLOSING:
            closed[-1] += word
        else:
            closed.append(word)
    return [word for word in closed if word.text]
