import dataclasses

import numpy as np

from onnxpipe.audio.ctc import CtcDecoder, Unit
from onnxpipe.audio.transcript import Chunk
from onnxpipe.sections import Ctc

VOCABULARY = ("<pad>", "|", "<unk>", "A", "B", ".")
CTC = Ctc(vocabulary=VOCABULARY, blank="<pad>", delimiter="|", frame_samples=320)


def decode(frames: str, unit: Unit | None = None, ctc: Ctc = CTC):
    """One character a frame: the vocabulary's, with _ for the blank and ? for the unknown token."""
    ids = {"_": 0, "|": 1, "?": 2, "A": 3, "B": 4, ".": 5}
    return CtcDecoder(ctc, 16_000).decode(np.array([ids[frame] for frame in frames], np.int32), unit)


def test_a_token_that_goes_on_counts_once_and_a_blank_parts_two() -> None:
    assert decode("__AAA_A_BB__").text == "AAB"
    assert decode("____").text == ""
    assert decode("").text == ""


def test_delimiters_are_spaces_that_do_not_begin_or_end_a_text() -> None:
    assert decode("||A|_|B||").text == "A  B"  # as the reference: a delimiter twice is two spaces
    assert decode("||").text == ""


def test_the_unknown_token_is_written_as_the_vocabulary_has_it() -> None:
    assert decode("A?B").text == "A<unk>B"


def test_words_begin_with_their_first_letter_and_end_with_their_last() -> None:
    transcript = decode("|_AA_B||_B_", "word")
    assert transcript.text == "AB B"
    assert transcript.chunks == [Chunk("AB", (0.04, 0.12)), Chunk("B", (0.18, 0.2))]


def test_characters_have_the_times_of_their_frames_spaces_too() -> None:
    assert decode("A_||B", "char").chunks == [Chunk("A", (0, 0.02)), Chunk(" ", (0.04, 0.08)), Chunk("B", (0.08, 0.1))]


def test_silence_has_no_chunks_but_a_list_of_none() -> None:
    assert decode("___", "word").chunks == []
    assert decode("___").chunks is None


def test_lower_case_is_for_the_text_and_chunks_stay_as_in_the_vocabulary() -> None:
    lower = decode("A|B", "word", dataclasses.replace(CTC, lower_case=True))
    assert (lower.text, [chunk.text for chunk in lower.chunks or []]) == ("a b", ["A", "B"])


def test_spaces_before_punctuation_are_cleaned_up_where_the_model_wants_that() -> None:
    assert decode("A|.").text == "A ."
    assert decode("A|.", ctc=dataclasses.replace(CTC, clean_up_spaces=True)).text == "A."


def test_ids_that_stand_for_one_text_are_one_token() -> None:
    ctc = dataclasses.replace(CTC, vocabulary=(*VOCABULARY, "A"))
    assert CtcDecoder(ctc, 16_000).decode(np.array([3, 6, 3], np.int32)).text == "A"


def test_another_character_may_stand_for_a_space() -> None:
    transcript = decode("A|B", "word", dataclasses.replace(CTC, space="_"))
    assert (transcript.text, len(transcript.chunks or [])) == ("A_B", 2)
