import io
import wave

import numpy as np
import pytest

import onnxpipe
from onnxpipe.audio.transcript import Chunk
from onnxpipe.audio.waveform import Audio
from onnxpipe.errors import InvalidInput, UnprocessableInput, UnsupportedModel
from onnxpipe.records import read
from onnxpipe.tasks.automatic_speech_recognition import AutomaticSpeechRecognition, Parameters

# The tiny model hears a frame of 8 samples every 4, a thousand samples a second, and says what its last sample is: the
# blank (_), the space (|), A, B or C. What is said in the first four samples, it never hears.

TOKENS = "_|ABC"
RATE = 1000


@pytest.fixture
def load(spelling_bundle):
    def make(**bundle):
        return onnxpipe.load(spelling_bundle(**bundle), threads=1)

    return make


def sound(said):
    """Four samples for each letter, behind four of silence."""
    samples = np.repeat([TOKENS.index(letter) for letter in "_" + said], 4)
    return {"array": samples.astype(np.float32), "sampling_rate": RATE}


def say(count, seed=0):
    """A text of many letters, blanks and spaces."""
    return "".join(np.random.default_rng(seed).choice([*TOKENS], count, p=[0.3, 0.1, 0.2, 0.2, 0.2]))


def test_a_recording_gives_its_text(load):
    transcript = load()(sound("AA_A|_B__BC"))
    assert (transcript.text, transcript.chunks) == ("AA BBC", None)


def test_words_and_characters_come_back_with_their_seconds(load):
    recognize = load()
    words = recognize(sound("_AB|C"), return_timestamps="word").chunks
    assert words == [Chunk("AB", (0.004, 0.012)), Chunk("C", (0.016, 0.02))]
    letters = recognize(sound("_AB|C"), return_timestamps="char").chunks
    assert [letter.text for letter in letters] == ["A", "B", " ", "C"]
    assert recognize(sound("_AB|C"), return_timestamps=True).chunks == words
    assert recognize(sound("_AB|C"), return_timestamps=False).chunks is None


def test_silence_is_an_empty_text(load):
    transcript = load()(sound("___"), return_timestamps="word")
    assert (transcript.text, transcript.chunks) == ("", [])


def test_less_than_a_frame_is_heard_with_silence_behind_it(load):
    assert load()({"array": np.array([2.0], np.float32), "sampling_rate": RATE}).text == ""


def test_a_list_gives_one_text_each_whatever_their_lengths(load):
    texts = ["AB", "C|A|" * 30 + "B", "_", "CCC", "A|B"]
    for recognize in (load(), load(batch_invariant=False)):
        answers = recognize([sound(text) for text in texts])
        assert [answer.text for answer in answers] == [recognize(sound(text)).text for text in texts]
        assert recognize([sound("AB")]) == [recognize(sound("AB"))]


@pytest.mark.parametrize(
    "windows",
    [
        {"chunk_length_s": 0.06},
        {"chunk_length_s": 0.1, "stride_length_s": 0.02},
        {"chunk_length_s": 0.1, "stride_length_s": [0.004, 0.04]},
        {"chunk_length_s": 0.1, "stride_length_s": (0, 0.008)},
        {"chunk_length_s": 50},
    ],
    ids=str,
)
@pytest.mark.parametrize("unit", ["char", "word"])
def test_a_recording_in_windows_says_the_same_at_the_same_times(load, windows, unit):
    recognize = load()
    given = sound(say(400))
    assert recognize(given, return_timestamps=unit, **windows) == recognize(given, return_timestamps=unit)


def test_windows_without_strides_lose_what_lies_between_them_but_no_time(load):
    said = "_" * 19 + "A" + "_" * 20 + "B"
    chunks = load()(sound(said), return_timestamps="char", chunk_length_s=0.08, stride_length_s=0).chunks
    assert chunks[-1] == Chunk("B", (0.16, 0.164))


def test_what_lasts_longer_than_a_minute_is_cut_by_itself(load):
    recognize = load()
    said = say(40_000)  # 160 seconds
    rows = recognize.preprocess(*recognize.check_inputs([sound(said)]), Parameters()).rows
    assert [row["input_values"].size for row in rows] == [30 * RATE]
    assert recognize(sound(said)) == recognize(sound(said), chunk_length_s=45)


def test_a_minute_is_heard_as_a_whole(load):
    recognize = load()
    given = {"array": np.zeros(60 * RATE, np.float32), "sampling_rate": RATE}
    rows = recognize.preprocess(*recognize.check_inputs([given]), Parameters()).rows
    assert [row["input_values"].size for row in rows] == [60 * RATE]


def test_a_long_recording_is_decoded_and_run_window_by_window(load, monkeypatch):
    recognize = load()
    sizes = []
    monkeypatch.setattr(
        recognize.model.sessions["model"],
        "run",
        lambda feeds, run=recognize.model.sessions["model"].run: sizes.append(feeds["input_values"].size) or run(feeds),
    )
    read = []
    blocks = Audio.blocks
    monkeypatch.setattr(
        Audio,
        "blocks",
        lambda self, rate, size: (read.append(len(sizes)) or block for block in blocks(self, rate, size)),
    )
    recognize({"array": np.zeros(600 * RATE, np.float32), "sampling_rate": RATE})
    assert len(sizes) >= 20
    assert max(sizes) <= 30 * RATE
    assert read == sorted(read)
    assert read[-1] > 10  # the end was read when the beginning had long been heard


def test_short_windows_share_runs(load, monkeypatch):
    recognize = load()
    batches = []
    run = recognize.model.sessions["model"].run
    monkeypatch.setattr(
        recognize.model.sessions["model"],
        "run",
        lambda feeds: batches.append(feeds["input_values"].shape) or run(feeds),
    )
    recognize({"array": np.zeros(60 * RATE, np.float32), "sampling_rate": RATE}, chunk_length_s=5, stride_length_s=0)
    assert batches == [(1, 5000), (6, 5000), (5, 5000)]


def test_a_file_of_another_rate_and_of_two_channels_is_heard_alike(load):
    samples = np.zeros((8000, 2), "<i2")
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setparams((2, 2, 8000, 0, "NONE", None))
        file.writeframes(samples.tobytes())
    assert load()(stream.getvalue()).text == ""


def test_generation_is_for_models_that_write_and_others_say_that_it_changed_nothing(load):
    recognize = load()
    for name in ("generation_parameters", "generate_kwargs", "generate_parameters", "generate"):
        parameters = read(Parameters, {name: {"temperature": 0.3, "num_beams": 2}, "language": "en"})
        answer = recognize.run(recognize.check_inputs([sound("A")]), parameters)
        assert answer.results[0].text == "A"
        assert answer.warnings == [
            "this model spells out sound and writes nothing: `language`, `generation_parameters` changed nothing"
        ]
    assert recognize.run(recognize.check_inputs([sound("A")]), Parameters()).warnings == []


def test_a_model_that_spells_tells_no_languages(load):
    with pytest.raises(UnprocessableInput, match="`return_language`: this model spells out sound"):
        load()(sound("A"), return_language=True)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"return_timestamps": "words"}, "`return_timestamps`: expected"),
        ({"return_timestamps": 1}, "`return_timestamps`: expected"),
        ({"chunk_length_s": -1}, "`chunk_length_s`: expected a number >= 0"),
        ({"chunk_length_s": 61}, "`chunk_length_s`: expected a number <= 60"),
        ({"chunk_length_s": 0.001}, "`chunk_length_s`: expected at least a frame of 0.004 seconds"),
        ({"stride_length_s": -1}, "`stride_length_s`: expected numbers >= 0, given -1"),
        ({"stride_length_s": [1]}, "`stride_length_s`: expected a number or two of them, given 1"),
        ({"stride_length_s": "1"}, "`stride_length_s`: expected"),
        ({"chunk_length_s": 1, "stride_length_s": 0.5}, "`stride_length_s`: expected two strides that leave something"),
        ({"task": "sing"}, "`task`: expected"),
        ({"generation_parameters": 3}, "`generation_parameters`: expected"),
        ({"top_k": 3}, "`top_k`: unknown name"),
    ],
    ids=str,
)
def test_wrong_parameters_are_refused_by_name(load, parameters, message):
    with pytest.raises(InvalidInput) as refused:
        load()(sound("A"), **parameters)
    assert message in str(refused.value)


def test_what_is_no_audio_is_refused(load):
    recognize = load()
    with pytest.raises(InvalidInput, match="expected audio"):
        recognize(3)
    with pytest.raises(InvalidInput, match="the audio is corrupt"):
        recognize(b"RIFF of nothing")
    with pytest.raises(InvalidInput, match="at least one input"):
        recognize([])


def test_a_bundle_that_neither_spells_nor_writes_is_refused(audio_classification_bundle):
    model = onnxpipe.load(audio_classification_bundle()).model
    with pytest.raises(UnsupportedModel, match="does not spell out speech; it serves: audio-classification"):
        AutomaticSpeechRecognition(model)
