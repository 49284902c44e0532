"""Digits and commands spoken by espeak-ng: who says what, in voices to train on and others to test on.

apt-get install espeak-ng
"""

import dataclasses
import itertools
import random
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
WORDS = (*DIGITS, *COMMANDS)

# espeak-ng's variants of a speaker; whoever tests is never heard in training
TRAIN_VOICES = (
    "m1",
    "m2",
    "m3",
    "m5",
    "m7",
    "f1",
    "f2",
    "f4",
    "Alex",
    "Andy",
    "Annie",
    "Gene",
    "Lee",
    "Mario",
    "anika",
)
TEST_VOICES = ("m4", "m6", "f3", "f5", "Michael", "belinda")
_ACCENTS = ("en-us", "en-gb")
_SPEEDS = (130, 160, 190)  # words a minute
_MOST_WORDS = 4


class NoSpeakerError(RuntimeError):
    """There is nothing here that speaks."""


@dataclasses.dataclass(frozen=True)
class Utterance:
    """A WAV file and the words that are said in it."""

    file: Path
    text: str


def speak(voices: Sequence[str], count: int, folder: Path, *, words: int = _MOST_WORDS) -> list[Utterance]:
    """`count` utterances of one to `words` words, always the same, each in one of these voices.

    Files that are there are not made again. Raises NoSpeakerError when espeak-ng is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draws = random.Random(",".join(voices))  # noqa: S311 - the same utterances every time
    speakers = list(itertools.product(voices, _ACCENTS, _SPEEDS))
    utterances = []
    for number in range(count):
        voice, accent, speed = draws.choice(speakers)
        pitch = draws.randint(35, 65)
        text = " ".join(draws.choices(WORDS, k=draws.randint(1, words)))
        file = folder / f"{number:05}.wav"
        if not file.is_file():
            _espeak(["-v", f"{accent}+{voice}", "-s", str(speed), "-p", str(pitch), "-w", str(file), text])
        utterances.append(Utterance(file, text))
    return utterances


def _espeak(arguments: Sequence[str]) -> None:
    program = shutil.which("espeak-ng")
    if program is None:
        raise NoSpeakerError("espeak-ng is not installed: apt-get install espeak-ng")
    subprocess.run([program, *arguments], check=True, capture_output=True)  # noqa: S603 - words and voices from above


def word_errors(said: str, heard: str) -> int:
    """How many words have to be changed, left out or put in to make what was heard what was said."""
    wanted, given = said.split(), heard.split()
    row = list(range(len(given) + 1))
    for number, word in enumerate(wanted, 1):
        before, row[0] = row[0], number
        for place, other in enumerate(given, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (word != other))
    return row[-1]
