"""Cases of transformers' own tests of Whisper's tokenizer, with the real vocabularies.

Left out are `find_timestamp_sequence`, a merge that the pipeline stopped using before 4.57.6, `tokenize`, for nothing
here encodes text for a model that hears, and `basic_normalizer`, which belongs to word error rates.
"""

import json
from pathlib import Path

import pytest

from onnxpipe.generation.assembly import Assembly, Heard
from onnxpipe.generation.merging import merge
from onnxpipe.generation.words import split_words
from onnxpipe.sections import Transcription
from onnxpipe.text.tokenizer import Tokenizer
from speech_tokens import make_tokenizer, read_ranks

_MARKS = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")


@pytest.fixture(scope="module")
def golden(test_data: Path) -> dict[str, list[dict[str, object]]]:
    return json.loads((test_data / "golden/whisper_timestamps.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def multilingual(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    words = read_ranks(test_data / "audio/whisper/multilingual.tiktoken", 50257)
    languages = ["en", *(f"language {number}" for number in range(98))]
    special = [f"<|{name}|>" for name in ("endoftext", "startoftranscript", *languages, *_MARKS)]
    # the last rank is no word
    return make_tokenizer(words[:50257], special, tmp_path_factory.mktemp("multilingual"))


@pytest.fixture(scope="module")
def english(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    words = read_ranks(test_data / "audio/whisper/gpt2.tiktoken", 50256)
    languages = [f"language {number}" for number in range(99)]
    special = [f"<|{name}|>" for name in ("endoftext", "startoftranscript", *languages, *_MARKS)]
    return make_tokenizer(words, special, tmp_path_factory.mktemp("english"))


SECTION = Transcription(start=50258, no_timestamps=50363, no_speech=50362)


def test_parts_that_overlap_become_one(golden):
    for case in golden["longest_common_sequence"]:
        ids, spans = merge([(part, []) for part in case["sequences"]])
        assert ids == case["merged"]
        assert not spans


def test_tokens_for_times_cut_a_text_into_parts(golden, multilingual):
    for case in golden["decode_with_offsets"]:
        assembly = Assembly(multilingual, SECTION, True, languages=False)
        assembly.add(Heard(ids=case["ids"]))
        answer = assembly.transcript()
        assert [(chunk.text, list(chunk.timestamp)) for chunk in answer.chunks] == [
            (part["text"], part["timestamp"]) for part in case["offsets"]
        ]
        assert answer.text == case["text"].removesuffix("<|endoftext|>")


def test_special_tokens_are_no_text(golden, multilingual):
    prompted, timed = golden["skip_special_tokens"]
    assert multilingual.decode(prompted["ids"], skip_special_tokens=False) == prompted["with_special"]
    assert multilingual.decode(timed["ids"], skip_special_tokens=False) == timed["with_special"]
    assembly = Assembly(multilingual, SECTION, False, languages=False)
    # what is read before the start is never among the tokens that come back
    assembly.add(Heard(ids=prompted["ids"][prompted["ids"].index(SECTION.start) :]))
    assert assembly.transcript().text == prompted["without_special"]


def test_tokens_become_words_with_their_punctuation(golden, multilingual):
    for case in golden["combine_tokens_into_words"]:
        words = split_words(multilingual, case["ids"], None)
        assert [word.text for word in words] == case["words"]
        assert [list(word.places) for word in words] == case["word_indices"]


def test_words_of_overlapping_chunks_keep_their_times(golden, english):
    for case in golden["word_level_timestamps"]:
        section = Transcription(
            start=50257, no_timestamps=50362, no_speech=50361, time_precision=case["time_precision"]
        )
        assembly = Assembly(english, section, "word", languages=False)
        begin = 0.0
        for chunk in case["chunks"]:
            seconds, left, right = chunk["stride"]
            begin -= left
            assembly.add(
                Heard(
                    ids=chunk["tokens"],
                    # where tokens begin; as of 4.57.6 it is where they end
                    ends=[*chunk["token_timestamps"][1:], chunk["token_timestamps"][-1]],
                    begin=begin,
                    seconds=seconds,
                    left=left,
                    right=right,
                )
            )
            begin += seconds - right
        answer = assembly.transcript()
        assert answer.text == case["text"]
        assert [(chunk.text, list(chunk.timestamp)) for chunk in answer.chunks] == [
            (word["text"], word["timestamp"]) for word in case["words"]
        ]
