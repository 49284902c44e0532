import pytest

from onnxpipe.generation.assembly import Assembly, Heard
from onnxpipe.sections import Transcription
from speech_tokens import make_tokenizer

WORDS = [" a", " b", " c", " d", " e"]
# the end 5, the start 6, no times 7, times from 8 on
FIRST = 8
SECTION = Transcription(
    start=6, languages={"en": 6, "de": 6}, names={"english": "en", "german": "de"}, tasks={"transcribe": 6},
    no_timestamps=7, no_speech=6,
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    special = ["<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"]
    return make_tokenizer([word.encode() for word in WORDS], special, tmp_path_factory.mktemp("assembly"))


def at(seconds):
    """The token for a time."""
    return FIRST + round(seconds / 0.02)


def assemble(tokenizer, *heard, times=True, languages=False, close=False):
    assembly = Assembly(tokenizer, SECTION, times, languages=languages)
    for number, part in enumerate(heard, 1):
        assembly.add(part)
        if close and number < len(heard):
            assembly.close(part.following)
    answer = assembly.transcript()
    return answer.text, None if answer.chunks is None else [(part.text, part.timestamp) for part in answer.chunks]


def test_parts_lie_between_two_times(tokenizer):
    heard = Heard(ids=[at(0), 0, 1, at(2), at(2), 2, at(3.5)])
    assert assemble(tokenizer, heard) == (" a b c", [(" a b", (0.0, 2.0)), (" c", (2.0, 3.5))])


def test_without_times_there_is_one_text(tokenizer):
    assert assemble(tokenizer, Heard(ids=[0, 1, 5]), times=False) == (" a b", None)


def test_the_last_part_may_have_no_end(tokenizer):
    assert assemble(tokenizer, Heard(ids=[at(1), 0])) == (" a", [(" a", (1.0, None))])


def test_what_a_window_left_open_ends_with_it(tokenizer):
    windows = Heard(ids=[at(1), 0], following=30.0), Heard(ids=[at(30.4), 1, at(31)])
    assert assemble(tokenizer, *windows, close=True)[1] == [(" a", (1.0, 30.0)), (" b", (30.4, 31.0))]


def test_a_part_without_a_beginning_begins_where_the_one_before_ended(tokenizer):
    windows = Heard(ids=[at(1), 0, at(2)], following=30.0), Heard(ids=[1], following=60.0)
    assert assemble(tokenizer, *windows, close=True)[1] == [(" a", (1.0, 2.0)), (" b", (2.0, None))]


def test_words_have_times_of_their_own(tokenizer):
    heard = Heard(ids=[at(0), 0, 1, at(2)], ends=[0.3, 0.7, 1.2, 1.9])
    assert assemble(tokenizer, heard, times="word") == (" a b", [(" a", (0.3, 0.7)), (" b", (0.7, 1.2))])


def test_times_never_run_backwards(tokenizer):
    heard = Heard(ids=[at(4), 0, at(5), at(1), 1, at(2), 2], ends=[0.0] * 7)
    assert assemble(tokenizer, heard)[1] == [(" a", (4.0, 5.0)), (" b", (5.0, 5.0)), (" c", (5.0, None))]
    words = Heard(ids=[at(0), 0, 1, at(2), 2, at(3)], ends=[0.0, 2.4, 2.5, 0.4, 0.6, 0.6])
    assert assemble(tokenizer, words, times="word")[1] == [(" a", (0.0, 2.4)), (" b", (2.4, 2.5)), (" c", (2.5, 2.5))]


def test_what_overlapping_chunks_share_comes_once(tokenizer):
    chunks = (
        Heard(ids=[0, 1, 2], seconds=10, right=2),
        Heard(ids=[1, 2, 3, 4], begin=6, seconds=10, left=2),
    )
    assert assemble(tokenizer, *chunks, times=False)[0] == " a b c d e"


def test_an_end_in_what_two_chunks_share_is_told_by_the_second(tokenizer):
    chunks = (
        # <9.0> lies in the last two of its ten seconds
        Heard(ids=[at(0), 0, 1, 2, at(9)], seconds=10, right=2),
        # as <3.2> of a chunk that begins at 6; its first time lies in what is shared
        Heard(ids=[at(0), 1, 2, at(3.2), at(3.2), 3, at(5)], begin=6, seconds=8, left=2),
    )
    assert assemble(tokenizer, *chunks)[1] == [(" a b c", (0.0, 9.2)), (" d", (9.2, 11.0))]


def test_languages_come_back_by_name_where_they_are_asked_for(tokenizer):
    assembly = Assembly(tokenizer, SECTION, False, languages=True)
    assembly.add(Heard(ids=[0], language="en"))
    assembly.add(Heard(ids=[1], language="de"))
    answer = assembly.transcript()
    assert [(part.text, part.language) for part in answer.chunks] == [(" a", "english"), (" b", "german")]
    assert answer.text == " a b"


def test_nothing_heard_is_an_empty_text(tokenizer):
    assert assemble(tokenizer) == ("", [])
    assert assemble(tokenizer, Heard(ids=[]), Heard(ids=[at(0)])) == ("", [])
