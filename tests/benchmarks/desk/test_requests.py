import io
import wave

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from onnxpipe.errors import InvalidInput
from onnxpipe.load import load
from onnxpipe_bench.desk.requests import NEW_TOKENS, Requests, fit_text


@given(st.integers(1, 500), st.integers(0, 20))
def test_a_text_has_as_many_tokens_as_fit(length, number):
    text, size = fit_text(lambda text: len(text.split()), length, number)
    assert size == len(text.split()) == length


def test_a_text_is_never_empty_however_many_tokens_a_word_has():
    text, size = fit_text(lambda text: 100 + len(text), 5)
    assert text
    assert size > 100


@pytest.mark.parametrize(
    "task",
    [
        "feature-extraction",
        "text-classification",
        "token-classification",
        "question-answering",
        "fill-mask",
        "zero-shot-classification",
        "table-question-answering",
        "text-generation",
        "summarization",
        "translation",
        "image-classification",
        "object-detection",
        "image-segmentation",
        "audio-classification",
        "automatic-speech-recognition",
    ],
)
def test_every_task_answers_requests_made_for_it(task_bundles, task):
    pipeline = load(task_bundles[task])
    requests = Requests(pipeline, task)
    request = requests.make(requests.lengths[0])
    assert pipeline(request.inputs, **request.parameters) is not None
    assert request.size == requests.lengths[0]
    if requests.unit != "requests":
        assert requests.make(requests.lengths[0], 1).inputs != request.inputs


def test_tokens_are_counted_as_the_model_reads_them(task_bundles):
    pipeline = load(task_bundles["question-answering"])
    request = Requests(pipeline, "question-answering").make(30)
    (row,) = pipeline.preprocess(pipeline.check_inputs([request.inputs])[0], pipeline.types()[1]()).rows
    assert row["input_ids"].size == request.size <= 30


def test_writers_write_as_many_tokens_whatever_they_think(task_bundles):
    request = Requests(load(task_bundles["text-generation"]), "text-generation").make(16)
    assert request.parameters["max_new_tokens"] == request.parameters["min_new_tokens"] == NEW_TOKENS


def test_pictures_and_sound_have_their_size(task_bundles):
    picture = Requests(load(task_bundles["image-classification"]), "image-classification").make(50)
    assert Image.open(io.BytesIO(picture.inputs)).size == (50, 50)
    sound = Requests(load(task_bundles["automatic-speech-recognition"]), "automatic-speech-recognition").make(3)
    with wave.open(io.BytesIO(sound.inputs)) as file:
        assert file.getnframes() == 3 * file.getframerate()


def test_a_length_below_one_is_an_error(task_bundles):
    with pytest.raises(InvalidInput, match="--lengths: expected integers >= 1, given 0"):
        Requests(load(task_bundles["feature-extraction"]), "feature-extraction").make(0)


def test_more_tokens_than_the_model_reads_are_an_error(task_bundles):
    requests = Requests(load(task_bundles["feature-extraction"]), "feature-extraction")
    with pytest.raises(InvalidInput, match=r"--lengths: the model reads at most [0-9]+ tokens, given 100000"):
        requests.make(100_000)
