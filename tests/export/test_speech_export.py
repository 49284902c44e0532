"""Whisper bundles whole: what their manifest says, their precisions, and what a request may ask of them."""

import collections
import dataclasses
import itertools

import numpy as np
import pytest

import onnxpipe
from generation_zoo import WHISPER, draw
from onnxpipe.bundle import open_bundle
from onnxpipe.errors import InvalidInput, OnnxpipeError
from onnxpipe.generation.dictation import Dictation, Passage
from onnxpipe_export.export import export
from onnxpipe_export.generation.alignment import alignment_layers
from speech_zoo import LANGUAGES, SPEECH_HEAD, write_whisper

RATE = 16_000
GREEDY = {"num_beams": 1, "max_new_tokens": 12}


def sound(seconds, seed=0):
    return {"array": np.random.default_rng(seed).normal(0, 0.1, int(seconds * RATE)), "sampling_rate": RATE}


@pytest.fixture(scope="module")
def bundle(tiny_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("whisper") / "bundle"
    report = export(tiny_model("multilingual", SPEECH_HEAD), path, precisions=["fp32", "int8", "int4"])
    return path, report


@pytest.fixture(scope="module")
def pipeline(bundle):
    return onnxpipe.load(bundle[0])


@pytest.fixture(scope="module")
def english(tiny_bundle):
    return onnxpipe.load(tiny_bundle("english", SPEECH_HEAD))


def test_the_manifest_names_languages_tasks_and_times(bundle):
    manifest = open_bundle(bundle[0]).manifest
    section = manifest.transcription
    assert manifest.task == "automatic-speech-recognition"
    assert set(section.languages) == set(LANGUAGES)
    assert section.names["german"] == section.names["german"] == "de"
    assert section.names["mandarin"] == "zh"
    assert set(section.tasks) == {"transcribe", "translate"}
    assert section.first_timestamp == section.no_timestamps + 1 == section.no_speech + 2
    assert section.alignment_heads == ((0, 1), (1, 0), (1, 3))
    assert section.defaults == {"task": "transcribe"}
    assert (section.window_seconds, section.time_precision, section.max_initial_timestamp) == (10.0, 0.02, 50)
    assert manifest.generation.defaults["suppress_tokens"]
    outputs = [tensor.name for tensor in manifest.graphs["decoder"].outputs]
    assert outputs[-2:] == ["cross_query.0", "cross_query.1"]


def test_a_model_for_english_has_no_languages(english):
    section = english.model.bundle.manifest.transcription
    assert not section.languages
    assert not section.tasks


def test_queries_cost_no_node_and_are_left_out_without_alignment_heads(tiny_bundle, tiny_model, tmp_path):
    import onnx

    silent = draw(WHISPER)
    assert alignment_layers(silent) == ()
    folder = tmp_path / "model"
    source = tiny_model("multilingual", SPEECH_HEAD)
    folder.mkdir()
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    settings = folder / "generation_config.json"
    settings.write_text(settings.read_text().replace('"alignment_heads"', '"_alignment_heads"'))
    export(folder, tmp_path / "bundle", precisions=["fp32"])
    with_queries = onnx.load(tiny_bundle("multilingual", SPEECH_HEAD) / "onnx/decoder.onnx").graph
    without = onnx.load(tmp_path / "bundle/onnx/decoder.onnx").graph
    kinds = [collections.Counter(node.op_type for node in graph.node) for graph in (with_queries, without)]
    assert kinds[0] == kinds[1]
    with pytest.raises(InvalidInput, match="cannot tell times of words"):
        onnxpipe.load(tmp_path / "bundle")(sound(1), return_timestamps="word")


def test_every_precision_passes_and_the_convolutions_stay_floats(bundle):
    import onnx

    path, report = bundle
    # random weights do not bear four bits, so the third may miss its tolerance
    assert not [outcome for outcome in report.outcomes[:2] if outcome.problems]
    for precision in open_bundle(path).manifest.variants:
        file = open_bundle(path).manifest.variants[precision].files["encoder"]
        kinds = collections.Counter(node.op_type for node in onnx.load(path / file).graph.node)
        assert kinds["Conv"] == 2
        assert bool(kinds["MatMulInteger"]) == (precision != "fp32")
        answer = onnxpipe.load(path, precision=precision)(
            sound(3), generation_parameters=GREEDY, return_timestamps="word"
        )
        assert answer.chunks


def test_fewer_layers_on_either_side_make_no_difference(tiny_bundle):
    distilled = onnxpipe.load(tiny_bundle("multilingual", SPEECH_HEAD, encoder_layers=3))
    assert distilled(sound(2), generation_parameters=GREEDY).text


@pytest.mark.parametrize("language", ["german", "German", "de", "<|de|>", "DE"])
def test_a_language_goes_by_its_code_and_its_name(pipeline, language):
    answer = pipeline(sound(2), language=language, return_language=True, generation_parameters=GREEDY)
    assert {chunk.language for chunk in answer.chunks} == {"german"}
    inside = pipeline(sound(2), generation_parameters={**GREEDY, "language": language}, return_language=True)
    assert inside == answer


def test_unknown_languages_and_tasks_are_refused_by_name(pipeline, english):
    with pytest.raises(InvalidInput, match="`language`: expected one of de, en, fr, ja, ru, zh, given 'klingon'"):
        pipeline(sound(1), language="klingon")
    with pytest.raises(InvalidInput, match="`language`: this model knows English only, given 'de'"):
        english(sound(1), language="de")
    with pytest.raises(InvalidInput, match="`task`: this model can transcribe, given 'translate'"):
        english(sound(1), task="translate")
    assert english(sound(1), language="English", task="transcribe") == english(sound(1))
    with pytest.raises(InvalidInput, match="temperature"):
        pipeline(sound(1), generation_parameters={"temperature": [0.0, -1.0]})
    with pytest.raises(InvalidInput, match="temperature"):
        pipeline(sound(1), generation_parameters={"temperature": []})


def test_a_text_that_repeats_itself_is_drawn_instead(pipeline):
    tries = {**GREEDY, "temperature": [0.0, 1.0], "seed": 1}
    greedy = pipeline(sound(2), generation_parameters=GREEDY)
    assert pipeline(sound(2), generation_parameters=tries) == greedy
    again = {**tries, "compression_ratio_threshold": 0.01}
    assert pipeline(sound(2), generation_parameters=again) != greedy
    assert pipeline(sound(2), generation_parameters=again) == pipeline(sound(2), generation_parameters=again)
    # drawn texts have no beams
    assert pipeline(sound(2), generation_parameters={**again, "num_beams": 3}).text


def test_beams_come_back_for_the_next_window(pipeline):
    # the reference goes on without them once it has drawn a text
    given = {**GREEDY, "num_beams": 3, "temperature": [0.0, 1.0], "logprob_threshold": -1e9}
    assert pipeline(sound(25), generation_parameters=given) == pipeline(
        sound(25), generation_parameters={**GREEDY, "num_beams": 3}
    )


@pytest.mark.parametrize("seconds", [0.001, 2, 25])
@pytest.mark.parametrize("times", [False, True, "word"])
def test_silence_comes_to_an_end(pipeline, seconds, times):
    silence = {"array": np.zeros(int(seconds * RATE), np.float32), "sampling_rate": RATE}
    answer = pipeline(silence, return_timestamps=times, generation_parameters=GREEDY)
    assert isinstance(answer.text, str)
    quiet = {**GREEDY, "temperature": 0, "no_speech_threshold": 0.0}
    assert pipeline(silence, return_timestamps=times, generation_parameters=quiet).text == ""


def test_windows_that_hardly_move_on_end_with_the_window(pipeline, monkeypatch):
    section = pipeline.model.bundle.manifest.transcription
    first, count = section.first_timestamp, itertools.count()

    def stutter(*_, **__):
        next(count)
        ids = np.array([first, 60, first + 1, first + 1])
        return Passage(ids, np.zeros(0, np.float32), "en", said=True, reliable=True, final=False)
        yield

    monkeypatch.setattr(Dictation, "write", stutter)
    answer = pipeline(sound(40), return_timestamps=True)
    # without a bound it would be 2000, one for every step
    assert next(count) == 30 * 4
    begins = [chunk.timestamp[0] for chunk in answer.chunks]
    assert begins == sorted(begins)


@pytest.mark.parametrize("times", [False, True, "word"])
def test_times_lie_in_order_whatever_is_heard(pipeline, times):
    for seed, more in enumerate(({}, {"chunk_length_s": 4}, {"chunk_length_s": 3, "stride_length_s": [0, 1]})):
        answer = pipeline(sound(17, seed), return_timestamps=times, generation_parameters=GREEDY, **more)
        stamps = [stamp for chunk in answer.chunks or [] for stamp in chunk.timestamp if stamp is not None]
        assert stamps == sorted(stamps)
        assert bool(stamps) == bool(times)


def test_nothing_is_written_after_the_time_is_up(pipeline):
    answer = pipeline(sound(60), generation_parameters={**GREEDY, "max_time": 0})
    assert len(answer.text) <= len(pipeline(sound(60), generation_parameters=GREEDY).text)


def test_a_stop_string_ends_the_text(pipeline):
    text = pipeline(sound(25), generation_parameters=GREEDY).text
    stop = next(letter for letter in text if letter.isascii())
    assert pipeline(sound(25), generation_parameters={**GREEDY, "stop": stop}).text.count(stop) == 1


def test_an_older_model_tells_its_tokens_by_their_names(tiny_model, test_data, tmp_path):
    import json

    folder = write_whisper("multilingual", tmp_path / "model", test_data / "audio/whisper")
    settings = json.loads((folder / "generation_config.json").read_text())
    expected = open_bundle(_exported(folder, tmp_path / "new")).manifest.transcription
    vocabulary = {**settings["lang_to_id"], **settings["task_to_id"]}
    for name in ("lang_to_id", "task_to_id", "no_timestamps_token_id", "prev_sot_token_id"):
        del settings[name]
    settings["forced_decoder_ids"] = [[1, vocabulary["<|fr|>"]], [2, vocabulary["translate"]]]
    (folder / "generation_config.json").write_text(json.dumps(settings))
    found = open_bundle(_exported(folder, tmp_path / "old")).manifest.transcription
    assert found == dataclasses.replace(expected, defaults={"language": "fr", "task": "translate"})


def _exported(folder, path):
    export(folder, path, precisions=["fp32"])
    return path


def test_what_is_no_speech_model_says_so(tiny_model):
    from onnxpipe_export.recipes import choose_recipe
    from onnxpipe_export.source import find_model

    source = find_model(str(tiny_model("multilingual", SPEECH_HEAD)), None)
    assert choose_recipe(source, None).exporter == "generation"
    assert choose_recipe(source, "automatic-speech-recognition").auto_class == "AutoModelForSpeechSeq2Seq"
    with pytest.raises(OnnxpipeError):
        choose_recipe(source, "speech")
