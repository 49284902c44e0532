import pytest

from onnxpipe.generation.words import split_words
from speech_tokens import make_tokenizer

_COMMA = "\N{FULLWIDTH COMMA}"
WORDS = [" Hello", " wor", "ld", "!", " (", "see", ")", " ", '"', "no", _COMMA, "你", "好"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    pieces = [word.encode() for word in WORDS] + ["é".encode()[:1], "é".encode()[1:]]
    return make_tokenizer(pieces, ["<|endoftext|>"], tmp_path_factory.mktemp("words"), times=0)


def words(tokenizer, *pieces, language=None):
    ids = [WORDS.index(piece) if isinstance(piece, str) else piece for piece in pieces]
    return [(word.text, word.places) for word in split_words(tokenizer, ids, language)]


def test_a_word_is_what_stands_between_spaces(tokenizer):
    assert words(tokenizer, " Hello", " wor", "ld") == [(" Hello", (0,)), (" world", (1, 2))]


def test_what_closes_goes_to_the_word_before_and_what_opens_to_the_one_behind(tokenizer):
    found = words(tokenizer, " Hello", "!", " (", "see", ")", " wor", "ld")
    assert found == [(" Hello!", (0, 1)), (" (see)", (2, 3, 4)), (" world", (5, 6))]


def test_languages_without_spaces_have_characters_for_words(tokenizer):
    assert words(tokenizer, "你", _COMMA, "好", language="zh") == [("你" + _COMMA, (0, 1)), ("好", (2,))]
    assert words(tokenizer, "你", "好", language="de") == [("你好", (0, 1))]


def test_bytes_of_one_character_stay_together(tokenizer):
    first, second = len(WORDS), len(WORDS) + 1
    assert words(tokenizer, " wor", first, second) == [(" woré", (0, 1, 2))]


def test_bytes_that_never_become_a_character_are_words_all_the_same(tokenizer):
    first = len(WORDS)
    assert words(tokenizer, first, " Hello") == [("\N{REPLACEMENT CHARACTER}", (0,)), (" Hello", (1,))]


def test_no_tokens_are_no_words(tokenizer):
    assert words(tokenizer) == []
