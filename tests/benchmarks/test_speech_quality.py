import shutil

import numpy as np
import pytest

from onnxpipe_bench.speech import TEST_VOICES, TRAIN_VOICES, WORDS, Utterance, speak, word_errors
from onnxpipe_bench.speech_quality import Amounts, compare_errors, main, measure

needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")


@pytest.mark.parametrize(
    ("said", "heard", "errors"),
    [
        ("one two", "one two", 0),
        ("one two", "", 2),
        ("", "one", 1),
        ("one two three", "one three", 1),
        ("one two three", "two three one", 2),
        ("one", "on", 1),
        ("one two", "one one two two", 2),
    ],
)
def test_words_that_are_changed_left_out_or_put_in_are_errors(said, heard, errors):
    assert word_errors(said, heard) == errors


def test_engines_are_compared_by_their_wrong_words(tmp_path):
    said = [Utterance(tmp_path, text) for text in ("one two three", "four", "five six")]
    torch, int8 = compare_errors(
        said, {"torch": ["one two three", "four", "five"], "int8": ["one two", "four", "five"]}
    )
    assert (torch["score"], torch["difference"], torch["same_answers"]) == (16.67, 0, 100)
    assert (int8["score"], int8["difference"], int8["same_answers"]) == (33.33, 16.67, 66.67)
    assert torch["interval"][0] <= 16.67 <= torch["interval"][1]


def test_nobody_who_tests_was_heard_in_training():
    assert not {*TRAIN_VOICES} & {*TEST_VOICES}


def test_without_espeak_it_says_what_to_install_and_fails_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr("sys.argv", ["speech_quality", "--cache", str(tmp_path)])
    main()
    assert capsys.readouterr().out == (
        "speech_quality is left out: espeak-ng is not installed: apt-get install espeak-ng\n"
    )


@needs_espeak
def test_utterances_are_always_the_same_and_made_once(tmp_path):
    first = speak(TEST_VOICES, 3, tmp_path)
    written = [(item.file.stat().st_mtime_ns, item.file.read_bytes()) for item in first]
    again = speak(TEST_VOICES, 3, tmp_path)
    assert again == first
    assert [(item.file.stat().st_mtime_ns, item.file.read_bytes()) for item in again] == written
    assert all(word in WORDS for item in first for word in item.text.split())


@needs_espeak
def test_every_engine_is_measured_on_both_tasks(tmp_path):
    rows = measure(tmp_path, Amounts(train=16, test=6, epochs=1))
    assert {(row["task"], row["engine"]) for row in rows} >= {
        (task, engine) for task in ("words of utterances, wrong", "single words, right") for engine in ("torch", "fp32")
    }
    assert all(row["same_answers"] == 100 for row in rows if row["engine"] == "fp32")
    assert all(np.isfinite(row["score"]) for row in rows)
