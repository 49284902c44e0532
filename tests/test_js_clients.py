"""Every task through the official JavaScript client, unmodified, old and new, against real servers.

`make js` brings both releases; without node or without them the tests are skipped.
"""

import base64
import io
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="needs the server extra")

import onnxpipe
from fake_writer import make_writing, writer_of
from onnxpipe.records import plain
from onnxpipe_server.app import create_app
from onnxpipe_server.models import Models
from onnxpipe_server.settings import Settings
from serving import serving, serving_app

ROOT = Path(__file__).resolve().parents[1]
RUNNER = Path(__file__).parent / "js/run.mjs"
NEW, OLD = "4.13.30", "2.8.1"

TEXT = "My name is Clara and I live in Berkeley, California."
TABLE = {"Repository": ["Transformers", "Datasets", "Tokenizers"], "Stars": ["36542", "4512", "3934"]}
SPEECH = "audio/speech/api_inference_sample1.flac"
CATS = "images/coco/000000039769.png"


@pytest.fixture(scope="module", params=[NEW, OLD])
def release(request: pytest.FixtureRequest) -> str:
    """The release, where node and it are there."""
    if shutil.which("node") is None:
        pytest.skip("no node: the JavaScript client cannot run here")
    if not (_folder(request.param) / "node_modules").is_dir():
        pytest.skip(f"no @huggingface/inference {request.param} at {_folder(request.param)}: `make js` brings it")
    return request.param


@pytest.fixture(scope="module")
def call(release: str) -> Callable[..., object]:
    """What a method of the client returns. Raises RuntimeError with the message of what it throws."""

    def run(method: str, endpoint: str, *, file: tuple[str, Path] | None = None, stream: bool = False, **args: object):
        # the old one would ask the hub for a model if it were not told one
        named = {"model": "acme/any"} if release == OLD else {}
        call = {"method": method, "args": {"endpointUrl": endpoint, **named, **args}, "stream": stream}
        # else it asks again and again, without a pause, for ever
        call["options"] = {"retry_on_error": False}
        if file is not None:
            call["file"] = {"field": file[0], "path": str(file[1])}
        command = ["node", str(RUNNER), str(_folder(release))]
        done = subprocess.run(
            command, input=json.dumps([call]), capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        (outcome,) = json.loads(done.stdout)
        if "error" in outcome:
            raise RuntimeError(outcome["error"])
        return outcome.get("value")

    return run


@pytest.fixture(scope="module")
def url(task_bundles: dict[str, Path]) -> Iterator[str]:
    with serving(*map(str, task_bundles.values())) as (address, _):
        yield address


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of models that write, which need no bundles."""
    letters = make_writing(tmp_path_factory.mktemp("models"), "acme/letters", "text-generation", chat=True)
    tasks = ("summarization", "translation", "text2text-generation")
    echo = make_writing(tmp_path_factory.mktemp("models"), "acme/echo", *tasks, encoder=True)
    with serving_app(create_app(Models([letters, echo]), Settings())) as address:
        yield f"{address}/models"
    assert writer_of(letters).idle


@pytest.fixture
def pipeline(task_bundles: dict[str, Path]) -> Callable[..., object]:
    """What the library itself answers, as JSON data."""

    def run(task: str, inputs: object, **parameters: object) -> object:
        return plain(onnxpipe.load(task_bundles[task])(inputs, **parameters))

    return run


def _folder(release: str) -> Path:
    return Path(os.environ.get("ONNXPIPE_JS_CLIENTS", ROOT / ".cache/js")) / release


def approx(value: object) -> object:
    """JSON data whose numbers may be off in the sixth place."""
    if isinstance(value, list):
        return [approx(item) for item in value]
    if isinstance(value, dict):
        return {name: approx(item) for name, item in value.items()}
    return pytest.approx(value, abs=1e-6) if isinstance(value, float) else value


@pytest.mark.parametrize("inputs", [TEXT, [TEXT, "Hello."]])
def test_feature_extraction(call, url, pipeline, inputs):
    given = call("featureExtraction", f"{url}/models/tiny/feature-extraction", inputs=inputs)

    assert given == approx(pipeline("feature-extraction", inputs))


@pytest.mark.parametrize("path", ["", "/pipeline/sentence-similarity"])
def test_sentence_similarity(call, url, path):
    inputs = {"source_sentence": TEXT, "sentences": ["Hello.", TEXT]}
    other, same = call("sentenceSimilarity", f"{url}/models/tiny/feature-extraction{path}", inputs=inputs)

    assert same == pytest.approx(1, abs=1e-5)
    assert -1 <= other < same


def test_text_classification(call, url, pipeline):
    given = call("textClassification", f"{url}/models/tiny/text-classification", inputs=TEXT)

    assert given == approx(pipeline("text-classification", TEXT))


def test_token_classification(call, url, pipeline):
    parameters = {"aggregation_strategy": "first"}
    given = call("tokenClassification", f"{url}/models/tiny/token-classification", inputs=TEXT, parameters=parameters)

    assert given == approx(pipeline("token-classification", TEXT, **parameters))


def test_fill_mask(call, url, pipeline):
    given = call("fillMask", f"{url}/models/tiny/fill-mask", inputs="My name is [MASK].", parameters={"top_k": 3})

    assert given == approx(pipeline("fill-mask", "My name is [MASK].", top_k=3))


def test_question_answering(call, url, pipeline):
    inputs = {"question": "Where do I live?", "context": TEXT}
    given = call("questionAnswering", f"{url}/models/tiny/question-answering", inputs=inputs)

    assert given == approx(pipeline("question-answering", inputs))


@pytest.mark.parametrize("key", ["query", "question"])
def test_table_question_answering(call, url, pipeline, key):
    inputs = {key: "How many stars?", "table": TABLE}
    given = call("tableQuestionAnswering", f"{url}/models/tiny/table-question-answering", inputs=inputs)

    assert given == pipeline("table-question-answering", inputs)


def test_zero_shot_classification_in_the_form_each_release_reads(call, url, pipeline, release):
    parameters = {"candidate_labels": ["refund", "legal", "faq"]}
    (first, *_) = given = call(
        "zeroShotClassification", f"{url}/models/tiny/zero-shot-classification", inputs=TEXT, parameters=parameters
    )
    expected = pipeline("zero-shot-classification", TEXT, **parameters)

    if release == OLD:
        assert first == approx(expected)
    else:
        assert given == approx(
            [
                {"label": label, "score": score}
                for label, score in zip(expected["labels"], expected["scores"], strict=True)
            ]
        )


def test_image_classification(call, url, pipeline, test_data):
    endpoint, cats = f"{url}/models/tiny/image-classification", test_data / CATS

    assert call("imageClassification", endpoint, file=("data", cats)) == approx(pipeline("image-classification", cats))


def test_object_detection(call, url, pipeline, test_data):
    endpoint, cats = f"{url}/models/tiny/object-detection", test_data / CATS

    assert call("objectDetection", endpoint, file=("data", cats)) == approx(pipeline("object-detection", cats))


def test_image_segmentation_with_masks_of_the_pictures_size(call, url, pipeline, test_data, release):
    cats, parameters = test_data / CATS, {"threshold": 0.6}
    field = "data" if release == OLD else "inputs"  # the old one sends the file alone
    given = call(
        "imageSegmentation",
        f"{url}/models/tiny/image-segmentation",
        file=(field, cats),
        **({} if release == OLD else {"parameters": parameters}),
    )
    expected = pipeline("image-segmentation", cats, **({} if release == OLD else parameters))

    assert [(item["label"], item["score"]) for item in given] == [
        (item["label"], pytest.approx(item["score"], abs=1e-6)) for item in expected
    ]
    for item in given:
        with Image.open(io.BytesIO(base64.b64decode(item["mask"]))) as mask:
            assert (mask.mode, mask.size) == ("L", (640, 480))
            assert set(np.unique(np.asarray(mask))) <= {0, 255}


def test_audio_classification(call, url, pipeline, test_data):
    endpoint, recording = f"{url}/models/tiny/audio-classification", test_data / SPEECH
    given = call("audioClassification", endpoint, file=("data", recording))

    assert given == approx(pipeline("audio-classification", recording))


def test_automatic_speech_recognition(call, url, pipeline, test_data):
    endpoint, recording = f"{url}/models/tiny/automatic-speech-recognition", test_data / SPEECH
    given = call("automaticSpeechRecognition", endpoint, file=("data", recording))

    assert given["text"] == pipeline("automatic-speech-recognition", recording)["text"] != ""


def test_a_request_of_ones_own(call, url, pipeline):
    method = "request"
    given = call(method, f"{url}/models/tiny/text-classification", inputs=TEXT)

    assert given == approx([pipeline("text-classification", TEXT)])


def test_a_wrong_parameter_is_told_to_the_client(call, url):
    with pytest.raises(RuntimeError, match=r"top_k"):
        call("fillMask", f"{url}/models/tiny/fill-mask", inputs="My name is [MASK].", parameters={"top_k": 0})


def test_text_generation(call, writers, release):
    given = call("textGeneration", f"{writers}/acme/letters", inputs="w", parameters={"max_new_tokens": 9})

    # the old one asks the classic route, which repeats the beginning
    assert given["generated_text"] == ("wxyz" if release == OLD else "xyz")


def test_text_generation_as_a_stream(call, writers, release):
    events = call("textGenerationStream", f"{writers}/acme/letters", inputs="w", stream=True)

    if release == OLD:
        assert [event["token"]["text"] for event in events] == ["x", "y", "z", "</s>"]
        assert events[-1]["generated_text"] == "wxyz"
    else:
        assert "".join(choice["text"] for event in events for choice in event["choices"]) == "xyz"


def test_summarization(call, writers):
    given = call("summarization", f"{writers}/acme/echo/pipeline/summarization", inputs="hello")

    assert given["summary_text"] == "hello"


def test_translation(call, writers):
    given = call("translation", f"{writers}/acme/echo/pipeline/translation", inputs="hello")

    assert given["translation_text"] == "hello"


MESSAGES = [{"role": "user", "content": "say hello;"}]


@pytest.mark.parametrize("path", ["", "/v1/chat/completions"])
def test_chat_completion(call, writers, path):
    pytest.importorskip("jinja2", reason="chat templates need the chat extra")
    given = call("chatCompletion", f"{writers}/acme/letters{path}", messages=MESSAGES, max_tokens=20)

    (choice,) = given["choices"]
    assert choice["message"] == {"role": "assistant", "content": "hello"}
    assert choice["finish_reason"] == "stop"


def test_chat_completion_as_a_stream(call, writers):
    pytest.importorskip("jinja2", reason="chat templates need the chat extra")
    endpoint = f"{writers}/acme/letters/v1/chat/completions"
    events = call("chatCompletionStream", endpoint, messages=MESSAGES, max_tokens=20, stream=True)

    assert "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"]) == "hello"


def test_a_stream_that_cannot_begin_is_told_to_the_client(call, writers, release):
    endpoint = f"{writers}/acme/letters/v1/chat/completions"
    # errors under /v1 are objects, as OpenAI's client reads them; the old one shows only those that are strings
    with pytest.raises(RuntimeError, match="does not seem to support chat" if release == OLD else "messages"):
        call("chatCompletionStream", endpoint, messages=[], stream=True)
