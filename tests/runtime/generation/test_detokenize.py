"""The stream beside the library's own decoding of the whole, over every kind of decoder that models have."""

import base64
import random
from collections.abc import Iterable

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from onnxpipe.generation.detokenize import Detokenizer, continuation, token_bytes, token_text
from onnxpipe.sections import Text
from onnxpipe.text.tokenizer import Tokenizer
from tokenizer_kinds import KINDS, MARK


def pieces_of(detokenizer: Detokenizer, ids: Iterable[int]) -> list[str]:
    return [*(detokenizer.add(number) for number in ids), detokenizer.finish()]


def check(tokenizer: Tokenizer, ids: list[int], *, skip_special_tokens: bool = True, every: int = 1) -> list[str]:
    """The pieces, which are the whole text, and to which `pending` is the missing rest at every step."""
    detokenizer = Detokenizer(tokenizer, skip_special_tokens=skip_special_tokens)
    pieces = []
    for index, number in enumerate(ids):
        pieces.append(detokenizer.add(number))
        if index % every:
            continue
        so_far = tokenizer.decode(ids[: index + 1], skip_special_tokens=skip_special_tokens)
        assert so_far.startswith("".join(pieces) + detokenizer.pending)
    pieces.append(detokenizer.finish())
    whole = tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)
    assert "".join(pieces) == whole
    for piece in pieces:
        assert "\ufffd" not in piece or "\ufffd" in whole
        piece.encode()  # no half of a surrogate pair
    return pieces


@pytest.mark.parametrize("clean_up", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_random_tokens_stream_to_their_whole_text(load_kind, kind, clean_up):
    tokenizer = load_kind(kind, clean_up_spaces=clean_up)
    # some tokens often, so that words, bytes, punctuation and special tokens meet in every order
    liked = [
        tokenizer.id(token) for token in ["</s>", "<0xE2>", "<0x82>", "<0xAC>", ".", "'", " ", "Ġ", MARK, "n", "t"]
    ]
    liked = [number for number in liked if number is not None]

    @settings(max_examples=120)
    @given(st.lists(st.integers(0, tokenizer.size + 2) | st.sampled_from(liked), max_size=40), st.booleans())
    def stream(ids, skip_special_tokens):
        check(tokenizer, ids, skip_special_tokens=skip_special_tokens)

    stream()


@pytest.mark.parametrize("kind", KINDS)
def test_hard_texts_stream_to_their_whole_text(load_kind, texts, kind):
    tokenizer = load_kind(kind, clean_up_spaces=True)
    for text in texts:
        ids = tokenizer.encode(text[:120]).ids.tolist()
        pieces = check(tokenizer, ids, every=7)
        if kind == "byte-level":  # bytes of the text itself: each piece is whole characters of it
            assert "\ufffd" not in "".join(pieces) or "\ufffd" in text


@pytest.mark.parametrize("kind", KINDS)
def test_behind_a_prompt_comes_what_its_text_grows_by(load_kind, kind):
    tokenizer = load_kind(kind)

    @settings(max_examples=80)
    @given(st.lists(st.integers(0, tokenizer.size - 1), max_size=30), st.integers(0, 30))
    def stream(ids, cut):
        prompt, rest = ids[:cut], ids[cut:]
        expected = tokenizer.decode(ids)[len(tokenizer.decode(prompt)) :]
        assert "".join(pieces_of(Detokenizer(tokenizer, prompt=prompt), rest)) == expected
        assert continuation(tokenizer, rest, prompt=prompt) == expected

    stream()


def test_a_character_comes_when_its_last_byte_does(load_kind):
    tokenizer = load_kind("byte-level")
    euro = [tokenizer.id(letter) for letter in "âĤ¬"]
    assert pieces_of(Detokenizer(tokenizer), euro) == ["", "", "€", ""]
    assert pieces_of(Detokenizer(tokenizer), [*euro[:2], tokenizer.id("a")]) == ["", "", "\ufffda", ""]
    assert pieces_of(Detokenizer(tokenizer), euro[:2]) == ["", "", "\ufffd"]


def test_a_run_of_byte_tokens_comes_when_it_is_over_as_one_wrong_byte_spoils_all_of_it(load_kind):
    tokenizer = load_kind("llama")
    newline, euro, a = (
        [tokenizer.id("<0x0A>")],
        [tokenizer.id(f"<0x{byte:02X}>") for byte in "€".encode()],
        tokenizer.id("a"),
    )
    assert pieces_of(Detokenizer(tokenizer), [*newline, a]) == ["", "\na", ""]
    assert pieces_of(Detokenizer(tokenizer), [*newline, *euro]) == ["", "", "", "", "\n€"]
    assert pieces_of(Detokenizer(tokenizer), [*newline, *euro[:2], a]) == ["", "", "", "\ufffd\ufffd\ufffda", ""]
    detokenizer = Detokenizer(tokenizer)
    assert (detokenizer.add(*newline), detokenizer.pending) == ("", "\n")
    assert (detokenizer.add(euro[0]), detokenizer.pending) == ("", "")


def test_the_first_piece_has_no_space_but_has_one_behind_a_prompt(load_kind):
    for kind in ("llama", "metaspace"):
        tokenizer = load_kind(kind)
        word = tokenizer.encode("the").ids.tolist()
        start = [] if tokenizer.token(word[0]).startswith(MARK) else [tokenizer.id(MARK)]
        assert continuation(tokenizer, [*start, *word]) == "the"
        assert continuation(tokenizer, [*start, *word], prompt=word) == " the"


def test_special_tokens_are_shown_only_when_asked_for(load_kind):
    tokenizer = load_kind("byte-level")
    ids = [tokenizer.id("a"), tokenizer.id("</s>"), tokenizer.id("b")]
    assert pieces_of(Detokenizer(tokenizer), ids) == ["a", "", "b", ""]
    assert pieces_of(Detokenizer(tokenizer, skip_special_tokens=False), ids) == ["a", "</s>", "b", ""]


def test_clean_up_can_be_switched_on_and_off(load_kind):
    tokenizer = load_kind("byte-level")
    ids = [tokenizer.id(token) for token in ["a", "Ġ", ".", "Ġ", "n", "'", "t", "Ġ"]]
    assert pieces_of(Detokenizer(tokenizer), ids) == ["a", " ", ".", " ", "n", "'", "t", " ", ""]
    assert pieces_of(Detokenizer(tokenizer, clean_up=True), ids) == ["a", "", ".", "", "", "", "n't", "", " "]
    cleaning = load_kind("byte-level", clean_up_spaces=True)
    assert continuation(cleaning, ids) == "a.n't "
    assert continuation(cleaning, ids, clean_up=False) == "a . n't "


def test_the_text_of_one_token_is_the_one_it_has_inside_of_a_text(load_kind):
    tokenizer = load_kind("llama")
    assert token_text(tokenizer, tokenizer.id("</s>")) == "</s>"
    assert token_text(tokenizer, tokenizer.id("<0x0A>")) == "\n"
    assert token_text(tokenizer, tokenizer.id("<0xE2>")) == "\ufffd"
    assert token_text(tokenizer, tokenizer.id(MARK)) == " "
    assert token_text(tokenizer, tokenizer.size) == ""
    assert token_text(load_kind("metaspace"), load_kind("metaspace").id(MARK)) == " "
    word = load_kind("wordpiece").encode("the").ids.tolist()[0]
    assert token_text(load_kind("wordpiece"), word).startswith(" ")


def test_the_bytes_of_a_token_may_be_a_part_of_a_character(load_kind):
    tokenizer = load_kind("byte-level")
    assert (
        b"".join(token_bytes(tokenizer, number) for number in tokenizer.encode("€ 👍").ids.tolist()) == "€ 👍".encode()
    )
    assert token_bytes(load_kind("gemma"), load_kind("gemma").id("<0xE2>")) == b"\xe2"
    assert token_bytes(load_kind("gemma"), load_kind("gemma").id("</s>")) == b"</s>"
    assert token_bytes(load_kind("gemma"), load_kind("gemma").size) == b""


@pytest.mark.parametrize("kind", ["byte-level", "llama", "metaspace", "wordpiece"])
def test_what_is_held_back_does_not_grow_with_the_text(load_kind, kind):
    tokenizer = load_kind(kind, clean_up_spaces=True)
    draw = random.Random(7)
    detokenizer = Detokenizer(tokenizer)
    length = 0
    for _ in range(3000):
        length += len(detokenizer.add(draw.randrange(tokenizer.size)))
        assert len(detokenizer.pending) < 40
    assert length > 3000


def test_gpt2s_own_vocabulary_streams_every_text(test_data, texts, tmp_path):
    """Its tokens from the ranks that Whisper's English models share with it; single bytes make the hardest borders."""
    letters = {byte: letter for letter, byte in _letters().items()}
    vocabulary = {}
    for line in (test_data / "audio/whisper/gpt2.tiktoken").read_bytes().splitlines():
        token, rank = line.split()
        vocabulary["".join(letters[byte] for byte in base64.b64decode(token))] = int(rank)
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = Tokenizer(tmp_path / "tokenizer.json", Text(tokenizer="tokenizer.json"))
    for text in texts:
        ids = loaded.encode(text[:80]).ids.tolist()
        assert b"".join(token_bytes(loaded, number) for number in ids) == text[:80].encode()
        assert "".join(check(loaded, ids, every=7)) == text[:80]
    draw = random.Random(3)
    for _ in range(200):
        check(loaded, draw.choices(range(loaded.size), k=30))


def _letters() -> dict[str, int]:
    alphabet = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in alphabet]
    return {chr(byte): byte for byte in alphabet} | {chr(256 + index): byte for index, byte in enumerate(others)}
