import base64
import io
import math
import wave

import numpy as np
import pytest

import onnxpipe
from onnxpipe.errors import InvalidInput, MalformedAudio, UnsupportedModel
from onnxpipe.tasks.audio_classification import AudioClassification, Label

# the tiny classifier's logits are the mean of the samples times 1, -1 and 2

E = math.e


@pytest.fixture
def load(audio_classification_bundle):
    def make(**bundle):
        return onnxpipe.load(audio_classification_bundle(**bundle), threads=1)

    return make


def sound(*samples, rate=16_000):
    return {"array": np.array(samples, np.float32), "sampling_rate": rate}


def content(*samples):
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", None))
        file.writeframes((np.array(samples) * 2**15).astype("<i2").tobytes())
    return stream.getvalue()


def scores(labels):
    return {label.label: label.score for label in labels}


def test_a_sound_gives_labels_by_falling_score(load):
    labels = load()(sound(0.5, 1.5))  # logits 1, -1, 2
    total = E + 1 / E + E**2
    assert [label.label for label in labels] == ["HIGH", "UP", "DOWN"]
    assert [label.score for label in labels] == pytest.approx([E**2 / total, E / total, 1 / E / total])
    assert all(type(label.score) is float for label in labels)


def test_labels_with_one_score_come_in_the_models_order(load):
    assert [label.label for label in load()(sound(0.0))] == ["UP", "DOWN", "HIGH"]


def test_a_list_gives_one_answer_per_sound_in_their_order_whatever_their_lengths(load):
    sounds = [sound(1.0), sound(-1.0, -1.0), sound(1.0, 1.0), sound(-1.0)]
    answers = load()(sounds, top_k=1)
    assert [answer[0].label for answer in answers] == ["HIGH", "DOWN", "HIGH", "DOWN"]
    assert load()([sounds[0]]) == [load()(sounds[0])]


def test_a_sound_beside_others_is_answered_as_alone(load):
    draws = np.random.default_rng(3)
    sounds = [sound(*draws.standard_normal(size)) for size in (5, 7, 5, 5, 9, 7)]
    classify = load()
    for alone, together in zip(map(classify, sounds), classify(sounds), strict=True):
        assert scores(together) == pytest.approx(scores(alone), abs=1e-6)


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (2, 2), (3, 3), (99, 3), (None, 3)])
def test_top_k_is_how_many_labels_come_back_at_most(load, top_k, count):
    assert len(load()(sound(0.5), top_k=top_k)) == count


def test_five_labels_come_back_when_nothing_is_said():
    assert AudioClassification.types()[1]().top_k == 5


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("none", {"UP": 1, "DOWN": -1, "HIGH": 2}),
        ("sigmoid", {"UP": E / (1 + E), "DOWN": 1 / (1 + E), "HIGH": E**2 / (1 + E**2)}),
    ],
)
@pytest.mark.parametrize("activation", ["none", "sigmoid", "softmax"])
def test_function_to_apply_overrides_the_models_own(load, activation, function, expected):
    labels = load(activation=activation)(sound(1.0), function_to_apply=function)
    assert scores(labels) == pytest.approx(expected, abs=1e-6)


def test_the_models_own_activation_is_the_default(load):
    assert load(activation="none")(sound(1.0), top_k=1) == [Label("HIGH", 2.0)]


def test_samples_are_made_as_the_manifest_says(load):
    # normalised, and the zero that fills it up
    labels = load(activation="none", normalize=True, min_samples=3)(sound(3.0, 5.0))
    assert scores(labels)["UP"] == pytest.approx(0, abs=1e-6)
    labels = load(activation="none", min_samples=4)(sound(2.0, 2.0))
    assert scores(labels)["UP"] == pytest.approx(1)


def test_sound_beyond_what_the_model_takes_is_cut_and_said(load):
    classify = load(activation="none", max_samples=16_000)
    long = sound(*[1.0] * 16_000, *[-1.0] * 800)
    answer = classify.run(classify.check_inputs([long]), classify.types()[1]())
    assert answer.results[0][0] == Label("HIGH", 2.0)
    assert answer.warnings == ["only the first 1 s were read: this model takes no more at once"]
    short = classify.run(classify.check_inputs([sound(1.0)]), classify.types()[1]())
    assert short.warnings == []


def test_a_sound_may_be_bytes_a_path_a_data_url_or_an_array(load, tmp_path):
    pytest.importorskip("soundfile", reason="needs the audio extra")
    file = tmp_path / "sound.wav"
    file.write_bytes(content(0.5, 0.25))
    url = f"data:audio/wav;base64,{base64.b64encode(content(0.5, 0.25)).decode()}"
    classify = load()
    expected = classify(sound(0.5, 0.25))
    for given in (content(0.5, 0.25), file, str(file), url, {"raw": [0.5, 0.25], "sampling_rate": 16_000}):
        assert classify(given) == expected


def test_a_sound_of_another_rate_is_resampled(load):
    pytest.importorskip("soxr", reason="needs the audio extra")
    labels = load(activation="none")(sound(*[0.5] * 8000, rate=8_000))
    assert scores(labels)["UP"] == pytest.approx(0.5, abs=1e-2)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (3, "`inputs`: expected audio as bytes, a path, a data: URL or an array with its rate, given int"),
        ("no/such/file.wav", "`inputs`: .*no/such/file.wav"),
        ("data:audio/wav;base64,!", "`inputs`: expected base64"),
        ([sound(1.0), None], r"`inputs\[1\]`: expected audio"),
        (sound(), "`inputs`: the audio is empty"),
        (np.zeros(5), "`inputs`: .* an array needs its rate"),
        ([], "`inputs`: expected at least one input, given an empty list"),
    ],
)
def test_anything_but_a_sound_is_refused_and_named(load, inputs, message):
    with pytest.raises(InvalidInput, match=message):
        load()(inputs)


def test_damage_behind_a_good_header_is_found_when_it_is_decoded(load):
    soundfile = pytest.importorskip("soundfile", reason="needs the audio extra")
    stream = io.BytesIO()
    soundfile.write(stream, np.random.default_rng(0).standard_normal(48_000) / 4, 16_000, format="FLAC")
    damaged = stream.getvalue()[:30_000]
    with pytest.raises(MalformedAudio, match="corrupt"):
        load()(damaged)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"top_k": 0}, "`top_k`: expected a number >= 1, given 0"),
        ({"function_to_apply": "relu"}, "`function_to_apply`: expected one of 'sigmoid', 'softmax', 'none' or null"),
        ({"threshold": 0.5}, "`threshold`: unknown name; expected `top_k`, `function_to_apply`"),
    ],
)
def test_a_wrong_parameter_is_refused_and_named(load, parameters, message):
    with pytest.raises(InvalidInput, match=message):
        load()(sound(1.0), **parameters)


def test_the_http_answer_to_one_sound_is_a_plain_list():
    assert not AudioClassification.nested


def test_a_model_of_texts_is_unsupported(classification_bundle):
    model = onnxpipe.load(classification_bundle(), threads=1).model
    with pytest.raises(UnsupportedModel, match="tiny takes no audio; it serves: text-classification"):
        AudioClassification(model)
