"""audio-classification beside transformers 4.57.6 on the same weights.

The reference is given arrays that librosa has decoded and resampled: of files its pipeline asks the program ffmpeg, and
of other rates torchaudio, which both resample in ways of their own.
"""

import base64
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

import onnxpipe

pytest.importorskip("optimum", reason="parity needs the export extra")
import librosa
from transformers import pipeline as transformers_pipeline

from audio_zoo import AUDIO_HEAD, AUDIO_ZOO, LABELS

RATE = 16_000
JFK = "audio/speech/jfk.flac"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # torch's about WavLM's masks, librosa's about another reader it would try
        warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
        yield


@pytest.fixture(scope="module")
def recordings(test_data: Path) -> dict[Path, np.ndarray]:
    """Every file of the test data that both read, as librosa decodes it; long ones cut."""
    folders = (test_data / "audio/speech", test_data / "audio/formats")
    decoded = {}
    for file in sorted(file for folder in folders for file in folder.rglob("*.*") if file.is_file()):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                samples, _ = librosa.load(file, sr=RATE, mono=True)
        except Exception:  # noqa: BLE001 - whatever librosa's readers raise
            continue
        # the reference cannot do with less than a frame
        if len(samples) >= 400:
            decoded[file] = samples
    assert len(decoded) >= 45
    return decoded


@pytest.fixture(scope="module")
def few(recordings: dict[Path, np.ndarray]) -> dict[Path, np.ndarray]:
    """Some of different lengths, rates and channels, all under ten seconds."""
    names = ("jfk.flac", "silero_test.mp3", "uberi_chinese.flac", "uberi_french.aiff", "lame.mp3", "example.opus")
    found = {file: samples for file, samples in recordings.items() if file.name in names}
    assert len(found) == len(names)
    return found


def reference_pipeline(source: Path):
    return transformers_pipeline("audio-classification", str(source), device="cpu")


def ask(reference, samples: np.ndarray, **parameters):
    return reference({"array": samples, "sampling_rate": RATE}, **parameters)


def same_labels(given: Sequence[list], expected: Sequence[list[dict]], *, relative: float = 0.0) -> None:
    """Same labels in the same order, unless the reference's own scores tie; scores within 1e-4."""
    for place, (ours, theirs) in enumerate(zip(given, expected, strict=True)):
        scores = {item["label"]: item["score"] for item in theirs}
        assert [item.score for item in ours] == pytest.approx(
            [item["score"] for item in theirs], abs=1e-4, rel=relative
        ), place
        for left, right in zip(ours, theirs, strict=True):
            assert scores[left.label] == pytest.approx(right["score"], abs=1e-5), (place, ours, theirs)


@pytest.mark.parametrize("family", AUDIO_ZOO)
def test_labels_order_and_scores_equal_the_reference_on_every_recording(
    family: str,
    tiny_model: Callable[..., Path],
    tiny_bundle: Callable[..., Path],
    recordings: dict[Path, np.ndarray],
) -> None:
    reference = reference_pipeline(tiny_model(family, AUDIO_HEAD))
    # minutes of sound once: attention takes time
    files = [
        file for file, samples in recordings.items() if len(samples) < 20 * RATE or family == "wav2vec2-classifier"
    ]
    expected = [ask(reference, recordings[file], top_k=len(LABELS)) for file in files]
    answers = onnxpipe.load(tiny_bundle(family, AUDIO_HEAD), threads=1)(files, top_k=None)
    same_labels(answers, expected)
    # and they are no constants
    assert np.std([{item.label: item.score for item in answer}[answer[0].label] for answer in answers]) > 1e-4


@pytest.mark.parametrize("family", AUDIO_ZOO)
def test_a_batch_of_recordings_is_answered_as_each_alone(
    family: str, tiny_bundle: Callable[..., Path], few: dict[Path, np.ndarray]
) -> None:
    classify = onnxpipe.load(tiny_bundle(family, AUDIO_HEAD), threads=1)
    together = classify([*few], top_k=None)
    for file, answer in zip(few, together, strict=True):
        alone = classify(file, top_k=None)
        scores = {item.label: item.score for item in alone}
        assert [item.score for item in answer] == pytest.approx([scores[item.label] for item in answer], abs=1e-5)


def test_ten_minutes_are_answered_as_by_the_reference(
    tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], recordings: dict[Path, np.ndarray]
) -> None:
    samples = np.resize(next(samples for file, samples in recordings.items() if file.name == "jfk.flac"), 600 * RATE)
    expected = ask(reference_pipeline(tiny_model("ast", AUDIO_HEAD)), samples, top_k=5)
    classify = onnxpipe.load(tiny_bundle("ast", AUDIO_HEAD), threads=1)
    same_labels([classify({"array": samples, "sampling_rate": RATE})], [expected])


def test_sound_longer_than_attention_has_memory_for_is_answered_by_its_beginning(
    tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path]
) -> None:
    # 32 heads: a quarter of the frames of 2
    config = {"num_attention_heads": 32}
    classify = onnxpipe.load(tiny_bundle("wav2vec2-classifier", AUDIO_HEAD, **config), threads=1)
    most = classify.model.bundle.manifest.audio.max_samples
    assert 50 * RATE < most < 60 * RATE
    noise = np.random.default_rng(0).standard_normal(most + 5000).astype(np.float32) / 4
    read = classify.run(classify.check_inputs([{"array": noise, "sampling_rate": RATE}]), classify.types()[1]())
    assert read.warnings == ["only the first 58 s were read: this model takes no more at once"]
    reference = reference_pipeline(tiny_model("wav2vec2-classifier", AUDIO_HEAD, **config))
    same_labels(read.results, [ask(reference, noise[:most], top_k=5)])


@pytest.mark.parametrize("top_k", [1, 3, 5, 100])
def test_top_k_equals_the_reference(
    top_k: int, tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], few: dict[Path, np.ndarray]
) -> None:
    reference = reference_pipeline(tiny_model("hubert-classifier", AUDIO_HEAD))
    given = onnxpipe.load(tiny_bundle("hubert-classifier", AUDIO_HEAD))([*few], top_k=top_k)
    same_labels(given, [ask(reference, samples, top_k=top_k) for samples in few.values()])
    assert len(given[0]) == min(top_k, len(LABELS))


@pytest.mark.parametrize("function", ["sigmoid", "softmax", "none", None])
def test_function_to_apply_equals_the_reference(
    function: str | None, tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], few: dict[Path, np.ndarray]
) -> None:
    reference = reference_pipeline(tiny_model("ast", AUDIO_HEAD))
    given = onnxpipe.load(tiny_bundle("ast", AUDIO_HEAD))([*few], top_k=None, function_to_apply=function)
    expected = [ask(reference, samples, function_to_apply=function) for samples in few.values()]
    same_labels(given, expected, relative=1e-4)


def test_several_labels_at_once_are_put_through_a_softmax_as_in_the_reference(
    tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], few: dict[Path, np.ndarray]
) -> None:
    config = {"num_labels": 3, "problem_type": "multi_label_classification"}
    reference = reference_pipeline(tiny_model("ast", AUDIO_HEAD, **config))
    given = onnxpipe.load(tiny_bundle("ast", AUDIO_HEAD, **config))([*few])
    same_labels(given, [ask(reference, samples) for samples in few.values()])


@pytest.mark.parametrize(
    ("config", "function"),
    [({"num_labels": 1}, "sigmoid"), ({"num_labels": 2, "problem_type": "regression"}, "none")],
    ids=["one-label", "regression"],
)
def test_a_single_label_and_a_regression_have_scores_that_mean_something_where_the_references_softmax_does_not(
    config: dict[str, object],
    function: str,
    tiny_model: Callable[..., Path],
    tiny_bundle: Callable[..., Path],
    few: dict[Path, np.ndarray],
) -> None:
    reference = reference_pipeline(tiny_model("ast", AUDIO_HEAD, **config))
    given = onnxpipe.load(tiny_bundle("ast", AUDIO_HEAD, **config))([*few])
    same_labels(given, [ask(reference, samples, function_to_apply=function) for samples in few.values()], relative=1e-4)
    if function == "sigmoid":
        assert {ask(reference, samples)[0]["score"] for samples in few.values()} == {1.0}


def test_a_sound_too_short_for_a_frame_has_an_answer_where_the_reference_crashes(
    tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path]
) -> None:
    short = np.full(100, 0.1, np.float32)
    with pytest.raises(RuntimeError):
        ask(reference_pipeline(tiny_model("wav2vec2-classifier", AUDIO_HEAD)), short)
    classify = onnxpipe.load(tiny_bundle("wav2vec2-classifier", AUDIO_HEAD))
    assert len(classify({"array": short, "sampling_rate": RATE})) == 5


def test_a_sound_is_the_same_however_it_is_given(
    tiny_bundle: Callable[..., Path], test_data: Path, recordings: dict[Path, np.ndarray]
) -> None:
    file = test_data / JFK
    data_url = f"data:audio/flac;base64,{base64.b64encode(file.read_bytes()).decode()}"
    arrays = [{"array": recordings[file], "sampling_rate": RATE}, {"raw": recordings[file], "sampling_rate": RATE}]
    classify = onnxpipe.load(tiny_bundle("hubert-classifier", AUDIO_HEAD))
    expected = classify(file)
    for given in (file.read_bytes(), str(file), data_url, *arrays):
        assert classify(given) == expected
