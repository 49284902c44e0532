"""Every task through the official Python client, unmodified, against a real server of tiny models.

The export environment has huggingface_hub 0.36, the lean one 2.x: `make test` runs both.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import onnxpipe
from awaiting import client_of
from serving import serving

huggingface_hub = pytest.importorskip("huggingface_hub", reason="its client asks the questions")
pytest.importorskip("fastapi", reason="needs the server extra")

# huggingface_hub 2.4's asynchronous client sends files in a way that httpx advises against
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

TEXT = "My name is Clara and I live in Berkeley, California."
TABLE = {"Repository": ["Transformers", "Datasets", "Tokenizers"], "Stars": ["36542", "4512", "3934"]}


@pytest.fixture(scope="module")
def url(task_bundles: dict[str, Path]) -> Iterator[str]:
    with serving(*map(str, task_bundles.values())) as (address, _):
        yield address


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, url: str):
    """The client of a task's model, of either kind."""
    client = client_of(request.param)
    return lambda task: client(model=f"{url}/models/tiny/{task}")


@pytest.fixture
def pipeline(task_bundles: dict[str, Path]):
    return lambda task: onnxpipe.load(task_bundles[task])


def test_feature_extraction(ask, pipeline):
    given = ask("feature-extraction").feature_extraction(TEXT)
    np.testing.assert_allclose(given, pipeline("feature-extraction")(TEXT), atol=1e-6)


def test_sentence_similarity_of_the_same_model(url, task_bundles):
    client = huggingface_hub.InferenceClient(model=f"{url}/models/tiny/feature-extraction/pipeline/sentence-similarity")
    similarity = onnxpipe.load(task_bundles["feature-extraction"], task="sentence-similarity")
    expected = similarity({"source_sentence": TEXT, "sentences": ["Hello.", TEXT]})
    assert client.sentence_similarity(TEXT, other_sentences=["Hello.", TEXT]) == pytest.approx(expected)


def test_text_classification(ask, pipeline):
    given = ask("text-classification").text_classification(TEXT, top_k=2)
    expected = pipeline("text-classification")(TEXT, top_k=2)
    assert [(item.label, item.score) for item in given] == [
        (item.label, pytest.approx(item.score)) for item in expected
    ]


def test_token_classification(ask, pipeline):
    given = ask("token-classification").token_classification(TEXT, aggregation_strategy="first")
    expected = pipeline("token-classification")(TEXT, aggregation_strategy="first")
    assert [(item.entity_group, item.word, item.start, item.end) for item in given] == [
        (item.entity_group, item.word, item.start, item.end) for item in expected
    ]


def test_fill_mask(ask, pipeline):
    given = ask("fill-mask").fill_mask("My name is [MASK].", top_k=3)
    expected = pipeline("fill-mask")("My name is [MASK].", top_k=3)
    assert [(item.token, item.token_str, item.sequence) for item in given] == [
        (item.token, item.token_str, item.sequence) for item in expected
    ]


def test_question_answering_one_answer_and_several(ask, pipeline):
    client, answers = ask("question-answering"), pipeline("question-answering")
    inputs = {"question": "Where do I live?", "context": TEXT}
    given, expected = client.question_answering(**inputs), answers(inputs)
    assert (given.answer, given.start, given.end) == (expected.answer, expected.start, expected.end)
    several = client.question_answering(**inputs, top_k=3)
    assert [item.answer for item in several] == [item.answer for item in answers(inputs, top_k=3)]


def test_table_question_answering(ask, pipeline):
    given = ask("table-question-answering").table_question_answering(table=TABLE, query="How many stars?")
    expected = pipeline("table-question-answering")({"table": TABLE, "query": "How many stars?"})
    assert (given.answer, given.cells, given.coordinates) == (expected.answer, expected.cells, expected.coordinates)
    assert given.aggregator == expected.aggregator


@pytest.mark.parametrize("multi_label", [False, True])
def test_zero_shot_classification_in_the_form_this_client_reads(ask, pipeline, multi_label):
    labels = ["refund", "legal", "faq"]
    given = ask("zero-shot-classification").zero_shot_classification(TEXT, labels, multi_label=multi_label)
    expected = pipeline("zero-shot-classification")(TEXT, candidate_labels=labels, multi_label=multi_label)
    assert [item.label for item in given] == expected.labels
    assert [item.score for item in given] == pytest.approx(expected.scores)


@pytest.mark.parametrize("parameters", [{}, {"top_k": 2, "function_to_apply": "sigmoid"}], ids=["raw", "base64"])
def test_image_classification(ask, pipeline, test_data, parameters):
    cats = test_data / "images/coco/000000039769.png"
    given = ask("image-classification").image_classification(cats, **parameters)
    expected = pipeline("image-classification")(cats, **parameters)
    assert [(item.label, item.score) for item in given] == [
        (item.label, pytest.approx(item.score, abs=1e-6)) for item in expected
    ]


@pytest.mark.parametrize("parameters", [{}, {"top_k": 2, "function_to_apply": "sigmoid"}], ids=["raw", "base64"])
def test_audio_classification(ask, pipeline, test_data, parameters):
    recording = test_data / "audio/speech/api_inference_sample1.flac"
    given = ask("audio-classification").audio_classification(recording, **parameters)
    expected = pipeline("audio-classification")(recording, **parameters)
    assert [(item.label, item.score) for item in given] == [
        (item.label, pytest.approx(item.score, abs=1e-6)) for item in expected
    ]


@pytest.mark.parametrize("parameters", [{}, {"return_timestamps": "word", "chunk_length_s": 5}], ids=["raw", "base64"])
def test_automatic_speech_recognition(ask, pipeline, test_data, parameters):
    recording = test_data / "audio/speech/api_inference_sample1.flac"
    client = ask("automatic-speech-recognition")
    given = client.automatic_speech_recognition(recording, **({"extra_body": parameters} if parameters else {}))
    expected = pipeline("automatic-speech-recognition")(recording, **parameters)
    assert given.text == expected.text != ""
    assert [(item.text, tuple(item.timestamp)) for item in given.chunks or []] == [
        (item.text, item.timestamp) for item in expected.chunks or []
    ]
    assert bool(given.chunks) == bool(parameters)


@pytest.mark.parametrize("parameters", [{}, {"threshold": 0.2}], ids=["raw", "base64"])
def test_object_detection(ask, pipeline, test_data, parameters):
    cats = test_data / "images/coco/000000039769.png"
    given = ask("object-detection").object_detection(cats, **parameters)
    expected = pipeline("object-detection")(cats, **parameters)
    assert expected
    assert [(item.label, item.score, vars(item.box)) for item in given] == [
        (item.label, pytest.approx(item.score, abs=1e-6), vars(item.box)) for item in expected
    ]


@pytest.mark.parametrize("parameters", [{"threshold": 0.6}, {"subtask": "semantic"}, {}], ids=["sure", "pixels", "raw"])
def test_image_segmentation_with_masks_that_the_client_decodes(ask, pipeline, test_data, parameters):
    cats = test_data / "images/coco/000000039769.png"
    given = ask("image-segmentation").image_segmentation(cats, **parameters)
    expected = pipeline("image-segmentation")(cats, **parameters)
    assert expected or not parameters  # with its default threshold, the tiny model may be sure of nothing
    assert [(item.label, item.score) for item in given] == [
        (item.label, item.score and pytest.approx(item.score, abs=1e-6)) for item in expected
    ]
    for item, segment in zip(given, expected, strict=True):
        assert (item.mask.mode, item.mask.size) == ("L", (640, 480))
        np.testing.assert_array_equal(np.asarray(item.mask), 255 * segment.pixels())


def test_a_wrong_parameter_is_told_to_the_client(ask):
    # the asynchronous client of 0.36 lets aiohttp's own error through, which has the status alone
    with pytest.raises(Exception, match=r"parameters\.top_k`: expected a number >= 1|400, message='Bad Request'"):
        ask("fill-mask").fill_mask("My name is [MASK].", top_k=0)


def test_text_generation_whole_and_as_a_stream(ask, pipeline):
    parameters = {"max_new_tokens": 8, "do_sample": False}
    client = ask("text-generation")
    (expected,) = pipeline("text-generation")(TEXT, **parameters, details=True)
    given = client.text_generation(TEXT, **parameters, details=True, return_full_text=False)
    assert given.generated_text == expected.generated_text
    assert [(token.id, token.text) for token in given.details.tokens] == [
        (token.id, token.text) for token in expected.details.tokens
    ]
    pieces = list(client.text_generation(TEXT, **parameters, stream=True))
    assert "".join(pieces) == expected.generated_text


def test_summarization(ask, pipeline):
    parameters = {"max_new_tokens": 8}
    given = ask("summarization").summarization(TEXT, generate_parameters=parameters)
    (expected,) = pipeline("summarization")(TEXT, **parameters)
    assert given.summary_text == expected.summary_text


def test_translation(ask, pipeline):
    languages = list(pipeline("translation").model.bundle.manifest.translation.languages)
    names = {"src_lang": languages[0], "tgt_lang": languages[1]}
    given = ask("translation").translation(TEXT, **names, generate_parameters={"max_new_tokens": 8})
    (expected,) = pipeline("translation")(TEXT, **names, max_new_tokens=8)
    assert given.translation_text == expected.translation_text
