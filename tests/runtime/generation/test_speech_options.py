import pytest

from onnxpipe.errors import InvalidInput
from onnxpipe.generation.speech_options import SpeechParameters, language_name
from onnxpipe.records import read
from onnxpipe.sections import Transcription


def test_temperatures_are_one_or_several():
    assert SpeechParameters().temperatures == ()
    assert SpeechParameters(temperature=0.5).temperatures == (0.5,)
    assert read(SpeechParameters, {"temperature": [0, 0.2, 1]}).temperatures == (0.0, 0.2, 1.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": [0.2, -0.2]}, "`temperature`: expected numbers from 0 to 100, given -0.2"),
        ({"temperature": []}, "`temperature`: expected a number or several, given an empty list"),
        ({"temperature": -1}, "`temperature`: expected a number >= 0, given -1"),
        ({"no_speech_threshold": 2}, "`no_speech_threshold`: expected a number <= 1, given 2"),
        ({"task": "sing"}, "`task`: expected one of 'transcribe', 'translate' or null, given 'sing'"),
        ({"condition_on_prev_tokens": "yes"}, "`condition_on_prev_tokens`: expected true or false or null"),
    ],
)
def test_wrong_parameters_are_named(given, message):
    with pytest.raises(InvalidInput, match=message):
        read(SpeechParameters, given)


def test_a_language_is_called_by_its_first_name():
    names = {"chinese": "zh", "english": "en", "mandarin": "zh"}
    assert language_name(names, "zh") == "chinese"
    assert language_name(names, "xx") == "xx"
    assert language_name(names, None) is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"names": {"german": "de"}}, "`names`: expected names of the languages, given 'german'"),
        ({"languages": {"de": 3}}, "`tasks`: expected 'transcribe' among them"),
        ({"median_filter_width": 6}, "`median_filter_width`: expected an odd number, given 6"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(wrong, message):
    with pytest.raises(InvalidInput, match=message):
        Transcription(start=1, no_timestamps=2, no_speech=1, **wrong)
