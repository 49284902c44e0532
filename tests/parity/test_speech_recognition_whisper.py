"""What Whisper writes down beside transformers 4.57.6, through whole bundles: the same weights, the same recordings.

Random heads are bent so that they tell times (see `speech_zoo`). Texts and times are compared as they are, so a tie
between two tokens would show: the best two of 2215 random ones are apart by far more than rounding.

The reference guesses from the order of times where each of its windows began, and goes on into the silence behind a
short recording. `truthful` tells it: it shifts the times of a window by where that begins, leaves out the time that the
next window repeats and the beginning of nothing, ends what a window left open with it, and stops where the sound does.
All else is its own code.
"""

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="parity needs the export extra")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of modules that Python will lose
    import audioread.rawread  # librosa does when it first loads a file
import librosa
import torch
import transformers
from transformers.models.whisper import generation_whisper
from transformers.models.whisper.generation_whisper import WhisperGenerationMixin

import onnxpipe
from onnxpipe.audio.transcript import Transcript
from onnxpipe.errors import OnnxpipeError
from speech_zoo import SPEECH_HEAD

RATE = 16_000
FAMILIES = ("multilingual", "english")
GREEDY = {"num_beams": 1, "max_new_tokens": 24}
SPEECH = ("jfk.flac", "uberi_english.wav", "api_inference_sample1.flac", "uberi_french.aiff")

Parts = list[tuple[str, tuple[float, float | None]]]


@pytest.fixture(autouse=True)
def quiet():
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    transformers.logging.set_verbosity(level)


@dataclasses.dataclass
class Pair:
    """transformers' pipeline and ours over one model."""

    reference: Any
    own: Any

    def expect(self, samples: np.ndarray, given: Mapping[str, Any], **more: Any) -> tuple[str, Parts]:
        with torch.inference_mode():
            answer = self.reference(samples.copy(), generate_kwargs=dict(given), **more)
        parts = [(chunk["text"], chunk["timestamp"]) for chunk in answer.get("chunks", [])]
        return answer["text"], forwards(parts)

    def give(self, sound: Any, given: Mapping[str, Any], **more: Any) -> tuple[str, Parts]:
        return told(self.own(sound, generation_parameters=dict(given), **more))

    def check(self, samples: np.ndarray, given: Mapping[str, Any], **more: Any) -> tuple[str, Parts]:
        found = self.give({"array": samples, "sampling_rate": RATE}, given, **more)
        assert found == self.expect(samples, given, **more)
        return found


def told(transcript: Transcript) -> tuple[str, Parts]:
    return transcript.text, [(chunk.text, chunk.timestamp) for chunk in transcript.chunks or []]


def forwards(parts: Parts) -> Parts:
    """The rule that times never run backwards, and that a part begins where the one before ended if nothing is said."""
    reached, changed = 0.0, []
    for text, (begin, end) in parts:
        begin = max(reached, reached if begin is None else begin)
        end = None if end is None else max(begin, end)
        changed.append((text, (begin, end)))
        reached = end or begin
    return changed


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest, tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path]) -> Pair:
    return make_pair(tiny_model(request.param, SPEECH_HEAD), tiny_bundle(request.param, SPEECH_HEAD))


@pytest.fixture(scope="module")
def multilingual(tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path]) -> Pair:
    return make_pair(tiny_model("multilingual", SPEECH_HEAD), tiny_bundle("multilingual", SPEECH_HEAD))


def make_pair(folder: Path, bundle: Path) -> Pair:
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder, attn_implementation="eager").eval()
    reference = transformers.pipeline(
        "automatic-speech-recognition",
        model=model,
        tokenizer=transformers.AutoTokenizer.from_pretrained(folder),
        feature_extractor=transformers.AutoFeatureExtractor.from_pretrained(folder),
    )
    # without the pipeline's own defaults: five beams and 256 tokens
    config = transformers.GenerationConfig.from_pretrained(folder)
    reference.generation_config = reference.model.generation_config = config
    return Pair(reference, onnxpipe.load(bundle))


@pytest.fixture
def truthful(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """See above; the frames of each recording or chunk in turn, where the reference stops: for tests to fill in."""
    retrieve, pad, frames = WhisperGenerationMixin._retrieve_segment, generation_whisper._pad_to_max_length, []

    def shifted(**given: Any) -> tuple[list[dict[str, Any]], int]:
        segments, offset = retrieve(**given)
        first, seek = given["timestamp_begin"], round(float(given["time_offset"][given["prev_idx"]]) * 100)
        tokens = torch.cat([segment["tokens"] for segment in segments])
        told, following = certain(tokens, first), seek + int(offset)
        moved = torch.where(told >= first, told + seek // 2, told)
        if following >= frames[0]:
            offset = given["seek_num_frames"][given["prev_idx"]]
            if len(frames) > 1:
                frames.pop(0)
        elif len(moved) and moved[-1] < first:  # left open
            moved = torch.cat([moved, torch.tensor([first + following // 2])])
        segment = {**segments[0], "tokens": tokens, "moved": moved}
        if given["return_token_timestamps"]:
            times = torch.cat([segment["token_timestamps"] for segment in segments])
            segment["token_timestamps"] = torch.cat([times[: len(told)], times[-1:]])[: len(moved)]
        return [segment], offset

    def final(current_segments: Any, *rest: Any, **given: Any) -> Any:
        if given.get("skip_ending_double_timestamps"):  # what is read before the next window has its own times
            return pad(current_segments, *rest, **given)
        segments = [[{**part, "tokens": part["moved"]} for part in parts] for parts in current_segments]
        return pad(segments, *rest, **given)

    monkeypatch.setattr(generation_whisper, "_pad_to_max_length", final)
    monkeypatch.setattr(WhisperGenerationMixin, "_retrieve_segment", staticmethod(shifted))
    return frames


def certain(tokens: torch.Tensor, first: int) -> torch.Tensor:
    """A window's tokens without the time that the next one repeats, and without the beginning of nothing."""
    if len(tokens) > 1 and (tokens[-2:] >= first).all():
        tokens = tokens[:-1]
    return tokens[:0] if len(tokens) == 1 and tokens[0] >= first else tokens


@pytest.fixture(scope="module")
def recordings(test_data: Path) -> dict[str, np.ndarray]:
    return {name: librosa.load(test_data / "audio/speech" / name, sr=RATE)[0] for name in SPEECH}


def frames_of(samples: np.ndarray) -> int:
    return -(-len(samples) // 160) if len(samples) <= 10 * RATE else len(samples) // 160


@pytest.mark.parametrize("name", SPEECH)
@pytest.mark.parametrize("times", [None, True, "word"])
def test_recordings_become_the_same_text_and_times(pair, recordings, truthful, name, times):
    samples = recordings[name]
    truthful.append(frames_of(samples))
    text, parts = pair.check(samples, GREEDY, **({} if times is None else {"return_timestamps": times}))
    assert text
    assert bool(parts) == (times is not None)


@pytest.mark.parametrize("times", [None, True, "word"])
def test_windows_of_thirty_seconds_are_the_same(tiny_model, tiny_bundle, recordings, truthful, times):
    pair = make_pair(tiny_model("thirty seconds", SPEECH_HEAD), tiny_bundle("thirty seconds", SPEECH_HEAD))
    samples = np.tile(recordings["api_inference_sample1.flac"], 3)
    truthful.append(len(samples) // 160)
    pair.check(samples, GREEDY, **({} if times is None else {"return_timestamps": times}))


@pytest.mark.parametrize("folder", ["speech", "formats"])
@pytest.mark.parametrize("times", [None, True])
def test_every_file_that_both_read_becomes_the_same(multilingual, test_data, truthful, folder, times):
    given, more = {**GREEDY, "max_new_tokens": 6}, {} if times is None else {"return_timestamps": times}
    compared = 0
    for file in sorted((test_data / "audio" / folder).rglob("*.*")):
        try:
            samples = librosa.load(file, sr=RATE)[0]
            found = multilingual.give(file, given, **more)
        except (OnnxpipeError, audioread.NoBackendError):
            continue
        truthful[:] = [frames_of(samples)]
        assert found == multilingual.expect(samples, given, **more), file.name
        compared += 1
    assert compared >= 25


PARAMETERS: list[dict[str, Any]] = [
    {"num_beams": 3},
    {"num_beams": 2, "length_penalty": 0.4, "early_stopping": True},
    {"repetition_penalty": 1.7},
    {"no_repeat_ngram_size": 2},
    {"min_new_tokens": 5, "max_new_tokens": 9},
    {"max_length": 18, "max_new_tokens": None},
    {"suppress_tokens": [178, 48]},
    {"begin_suppress_tokens": [48, 290, 669]},
    {"bad_words_ids": [[178, 178], [290]]},
    {"sequence_bias": [[[177], -9.0]]},
    {"exponential_decay_length_penalty": [4, 1.5]},
    {"renormalize_logits": True, "num_beams": 2},
    {"language": "de", "task": "translate"},
    {"language": "German"},
    {"language": "<|ja|>"},
    {"task": "translate"},
    {"temperature": 0.0, "compression_ratio_threshold": 1.1},
    {"temperature": (0.0,), "logprob_threshold": -0.5},
    {"temperature": 0.0, "logprob_threshold": -0.1, "no_speech_threshold": 1e-6},
    {"condition_on_prev_tokens": True, "temperature": 0.0},
]


@pytest.mark.parametrize("more", PARAMETERS, ids=str)
@pytest.mark.parametrize("times", [False, True])
def test_every_parameter_has_its_effect(multilingual, recordings, truthful, more, times):
    samples = recordings["api_inference_sample1.flac" if times else "uberi_french.aiff"]
    truthful.append(frames_of(samples))
    given = {name: value for name, value in {**GREEDY, **more}.items() if value is not None}
    multilingual.check(samples, given, return_timestamps=times)


def test_what_was_said_is_read_before_the_next_window(multilingual, recordings, truthful):
    samples = recordings["api_inference_sample1.flac"]
    truthful.append(frames_of(samples))
    given = {**GREEDY, "max_new_tokens": 12, "temperature": 0.0, "condition_on_prev_tokens": True}
    found = multilingual.check(samples, given, return_timestamps=True)
    assert found != multilingual.give({"array": samples, "sampling_rate": RATE}, {**GREEDY, "max_new_tokens": 12})


@pytest.mark.parametrize(("length", "stride"), [(4, None), (6, 1), (10, (2, 0.5)), (5, 0)])
@pytest.mark.parametrize("times", [None, True, "word"])
def test_chunks_that_overlap_are_merged(pair, recordings, truthful, length, stride, times):
    samples = recordings["api_inference_sample1.flac"]
    truthful[:] = chunk_frames(len(samples), length, stride)
    more: dict[str, Any] = {} if times is None else {"return_timestamps": times}
    if stride is not None:
        more["stride_length_s"] = stride
    pair.check(samples, GREEDY, chunk_length_s=length, **more)


def chunk_frames(count: int, seconds: float, stride: Any) -> list[int]:
    """The frames of each chunk that the reference cuts."""
    left, right = stride if isinstance(stride, tuple) else ((seconds / 6 if stride is None else stride),) * 2
    size, step = seconds * RATE, seconds * RATE - round(left * RATE) - round(right * RATE)
    lengths = []
    for begin in range(0, count, step):
        length = min(size, count - begin)
        if length > (round(left * RATE) if begin else 0):
            lengths.append(-(-length // 160))
        if begin + size >= count:
            break
    return lengths


@pytest.mark.parametrize("times", [None, True])
def test_ten_minutes_are_the_same(multilingual, recordings, truthful, times):
    samples = np.tile(recordings["api_inference_sample1.flac"], 44)[: 600 * RATE]
    truthful.append(frames_of(samples))
    text, parts = multilingual.check(
        samples, {**GREEDY, "max_new_tokens": 6}, **({} if times is None else {"return_timestamps": True})
    )
    assert text
    assert all(begin <= (end or begin) for _, (begin, end) in parts)
    assert times is None or parts[-1][1][0] > 590


def test_a_batch_is_the_same_as_one_by_one(multilingual, recordings):
    sounds = [{"array": samples, "sampling_rate": RATE} for samples in recordings.values()]
    for more in ({}, {"return_timestamps": True}, {"chunk_length_s": 5}):
        together = multilingual.own(sounds, generation_parameters=GREEDY, **more)
        assert together == [multilingual.own(sound, generation_parameters=GREEDY, **more) for sound in sounds]


@pytest.mark.parametrize("name", SPEECH)
def test_the_language_that_is_heard_is_the_references(multilingual, recordings, name):
    features = multilingual.reference.feature_extractor(
        recordings[name][: 10 * RATE], sampling_rate=RATE, return_tensors="pt"
    )
    with torch.inference_mode():
        number = multilingual.reference.model.detect_language(features.input_features)[0].item()
    expected = multilingual.reference.tokenizer.convert_ids_to_tokens(number)
    answer = multilingual.own(
        {"array": recordings[name], "sampling_rate": RATE}, return_language=True, generation_parameters=GREEDY
    )
    languages = {code: name for name, code in reversed(names_of(multilingual).items())}
    assert {chunk.language for chunk in answer.chunks} == {languages[expected[2:-2]]}


def names_of(pair: Pair) -> Mapping[str, str]:
    return pair.own.model.bundle.manifest.transcription.names


def test_the_reference_forgets_the_language_that_it_heard(multilingual, recordings):
    # its `generate` cuts off the prompt, where `_decode_asr` looks for the language; ours tells it
    samples = recordings["uberi_english.wav"]
    answer = multilingual.reference(samples.copy(), return_language=True, generate_kwargs=dict(GREEDY))
    assert [chunk["language"] for chunk in answer["chunks"]] == [None]


def test_sampling_without_a_temperature_draws_where_the_reference_ignores_it(multilingual, recordings):
    sound = {"array": recordings["uberi_english.wav"], "sampling_rate": RATE}
    greedy = multilingual.give(sound, GREEDY)
    assert multilingual.expect(sound["array"], {**GREEDY, "do_sample": True}) == greedy
    drawn = {multilingual.give(sound, {**GREEDY, "do_sample": True, "seed": seed})[0] for seed in range(3)}
    assert len(drawn) == 3


def test_thresholds_need_no_temperature_where_the_reference_fails(multilingual, recordings):
    sound = {"array": recordings["uberi_english.wav"], "sampling_rate": RATE}
    with pytest.raises(TypeError):
        multilingual.expect(sound["array"], {**GREEDY, "logprob_threshold": -9.0})
    assert multilingual.give(sound, {**GREEDY, "logprob_threshold": -9.0}) == multilingual.give(sound, GREEDY)


def test_silence_alone_decides_where_the_reference_fails(multilingual, recordings):
    sound = {"array": recordings["uberi_english.wav"], "sampling_rate": RATE}
    given = {**GREEDY, "temperature": 0.0, "no_speech_threshold": 0.0}
    with pytest.raises(UnboundLocalError):
        multilingual.expect(sound["array"], given)
    assert multilingual.give(sound, given) == ("", [])


def test_a_chunk_longer_than_a_window_is_refused_where_the_reference_loses_its_end(multilingual, recordings):
    with pytest.raises(OnnxpipeError, match=r"`chunk_length_s`: expected at most 10 seconds"):
        multilingual.give({"array": recordings["jfk.flac"], "sampling_rate": RATE}, GREEDY, chunk_length_s=11)


def test_the_reference_writes_into_the_silence_behind_a_recording(multilingual, recordings):
    # told nothing of where the sound ends: parts of three seconds of sound, up to the window's end
    samples = recordings["uberi_english.wav"]
    _, parts = multilingual.expect(samples, GREEDY, return_timestamps=True)
    assert parts[-1][1][0] > 5 > len(samples) / RATE + 2
    _, own = multilingual.give({"array": samples, "sampling_rate": RATE}, GREEDY, return_timestamps=True)
    assert own[-1][1][0] < 5


def test_the_reference_takes_the_beginning_of_a_window_for_an_end(multilingual, recordings):
    # an empty part between what a window repeats and its first time; from there on its texts are one part late
    _, parts = multilingual.expect(recordings["jfk.flac"], GREEDY, return_timestamps=True)
    assert "" in [text for text, _ in parts]
    _, own = multilingual.give({"array": recordings["jfk.flac"], "sampling_rate": RATE}, GREEDY, return_timestamps=True)
    assert "" not in [text for text, _ in own]
