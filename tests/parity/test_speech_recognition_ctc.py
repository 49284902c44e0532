"""automatic-speech-recognition of models that spell, beside transformers 4.57.6 given what librosa 0.11 decodes."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import onnxpipe
from onnxpipe.errors import InvalidInput

pytest.importorskip("optimum", reason="parity needs the export extra")
import librosa
from transformers import pipeline as transformers_pipeline

from ctc_zoo import CTC_HEAD, CTC_ZOO

RATE = 16_000
# what the reference hears as a whole, and so do we; it gets the windows that we take on our own beyond that
WHOLE = 60 * RATE
OUR_WINDOWS = {"chunk_length_s": 30.0}
# the reference cannot hear less than a frame
SHORTEST = 400

Samples = np.ndarray


def as_input(samples: Samples) -> dict[str, Any]:
    return {"array": samples, "sampling_rate": RATE}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # torch's about WavLM's masks
        warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
        yield


@pytest.fixture(scope="module")
def recordings(test_data: Path) -> dict[Path, Samples]:
    """Every file of speech and of odd formats that librosa reads with soundfile, as it decodes it."""
    decoded = {}
    for file in sorted(path for name in ("speech", "formats") for path in (test_data / "audio" / name).rglob("*.*")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # librosa's about another reader it would try
            try:
                decoded[file] = librosa.load(file, sr=RATE)[0]
            except Exception:  # noqa: BLE001 - whatever librosa's readers raise
                continue
    assert len(decoded) > 50
    return decoded


@pytest.fixture(scope="module")
def speech(recordings: dict[Path, Samples]) -> Samples:
    """Seven seconds of it."""
    return next(samples for file, samples in recordings.items() if file.name == "api_inference_sample2.flac")


@pytest.fixture(scope="module")
def long_speech(recordings: dict[Path, Samples]) -> Samples:
    """Ten minutes, of every file with speech and then again."""
    spoken = np.concatenate([samples for file, samples in recordings.items() if "speech" in file.parts])
    return np.resize(spoken, 600 * RATE)


@pytest.fixture(scope="module")
def engines(tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path]) -> Callable[..., tuple[Any, Any]]:
    """The reference and ours, by family and settings."""

    def make(family: str, **config: object) -> tuple[Any, Any]:
        source = tiny_model(family, CTC_HEAD, **config)
        reference = transformers_pipeline("automatic-speech-recognition", str(source), device="cpu")
        return reference, onnxpipe.load(tiny_bundle(family, CTC_HEAD, **config), threads=1)

    return make


def same(ours: Any, theirs: dict[str, Any]) -> None:
    """The same text, and the same parts at the same times."""
    assert ours.text == theirs["text"]
    parts = None if ours.chunks is None else [{"text": part.text, "timestamp": part.timestamp} for part in ours.chunks]
    assert parts == theirs.get("chunks")


@pytest.mark.parametrize("family", CTC_ZOO)
def test_text_and_words_of_every_file_equal_the_reference(
    family: str, engines: Callable[..., tuple[Any, Any]], recordings: dict[Path, Samples]
) -> None:
    reference, recognize = engines(family)
    texts = []
    for file, samples in recordings.items():
        if len(samples) < SHORTEST:
            continue
        windows = OUR_WINDOWS if len(samples) > WHOLE else {}
        ours = recognize(file, return_timestamps="word")
        same(ours, reference(samples.copy(), return_timestamps="word", **windows))
        texts.append(ours.text)
    assert len({*texts}) > 15  # many are silent, or one recording in other encodings


@pytest.mark.parametrize("family", ["wav2vec2", "wav2vec2-stable", "data2vec-audio"])
def test_a_list_is_answered_as_each_alone_and_as_the_reference(
    family: str, engines: Callable[..., tuple[Any, Any]], recordings: dict[Path, Samples]
) -> None:
    reference, recognize = engines(family)
    short = {file: samples for file, samples in recordings.items() if SHORTEST <= len(samples) < 15 * RATE}
    for ours, samples in zip(recognize([*short]), short.values(), strict=True):
        same(ours, reference(samples.copy()))


def test_the_reference_spells_out_its_own_padding_where_a_model_has_no_mask_and_ours_does_not_pad(
    engines: Callable[..., tuple[Any, Any]], speech: Samples
) -> None:
    reference, recognize = engines("wav2vec2")
    inputs = [speech, speech[:RATE]]
    alone = [reference(samples.copy())["text"] for samples in inputs]
    together = [item["text"] for item in reference([samples.copy() for samples in inputs], batch_size=2)]
    assert [ours.text for ours in recognize([as_input(samples) for samples in inputs])] == alone != together


@pytest.mark.parametrize("unit", ["char", "word"])
@pytest.mark.parametrize(
    "windows",
    [
        {},
        {"chunk_length_s": 0},
        {"chunk_length_s": 3},
        {"chunk_length_s": 2.5, "stride_length_s": 0.5},
        {"chunk_length_s": 2, "stride_length_s": [0.7, 0.1]},
        {"chunk_length_s": 4, "stride_length_s": [0.333, 1.01]},
        {"chunk_length_s": 1.234},
        {"chunk_length_s": 50},
        {"stride_length_s": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("family", ["hubert", "wavlm-stable"])
def test_windows_strides_and_times_equal_the_reference(
    family: str, windows: dict[str, Any], unit: str, engines: Callable[..., tuple[Any, Any]], speech: Samples
) -> None:
    reference, recognize = engines(family)
    ours = recognize(as_input(speech), return_timestamps=unit, **windows)
    same(ours, reference(speech.copy(), return_timestamps=unit, **windows))
    assert len(ours.chunks) > 1


@pytest.mark.parametrize(
    "windows", [{}, {"chunk_length_s": 10}, {"chunk_length_s": 20, "stride_length_s": [4, 2]}], ids=str
)
def test_ten_minutes_equal_the_reference(
    windows: dict[str, Any], engines: Callable[..., tuple[Any, Any]], long_speech: Samples
) -> None:
    reference, recognize = engines("wav2vec2-stable")
    ours = recognize(as_input(long_speech), return_timestamps="word", **windows)
    same(ours, reference(long_speech.copy(), return_timestamps="word", **(windows or OUR_WINDOWS)))
    assert 595 < ours.chunks[-1].timestamp[1] <= 600


def test_true_times_are_words_which_the_reference_refuses(
    engines: Callable[..., tuple[Any, Any]], speech: Samples
) -> None:
    reference, recognize = engines("hubert")
    with pytest.raises(ValueError, match="CTC can either predict"):
        reference(speech.copy(), return_timestamps=True)
    words = reference(speech.copy(), return_timestamps="word")
    same(recognize(as_input(speech), return_timestamps=True), words)


def test_windows_without_strides_say_the_same_but_keep_the_time_that_the_reference_loses(
    engines: Callable[..., tuple[Any, Any]], long_speech: Samples
) -> None:
    """A window of the reference ends a frame early: after ten, it is 0.2 seconds behind."""
    reference, recognize = engines("hubert")
    samples, windows = long_speech[: 11 * RATE], {"chunk_length_s": 1, "stride_length_s": 0}
    ours = recognize(as_input(samples), return_timestamps="char", **windows)
    theirs = reference(samples.copy(), return_timestamps="char", **windows)
    assert (ours.text, [part.text for part in ours.chunks]) == (
        theirs["text"],
        [part["text"] for part in theirs["chunks"]],
    )
    late = ours.chunks[-1].timestamp[0] - theirs["chunks"][-1]["timestamp"][0]
    assert late == pytest.approx(0.2, abs=0.021)


@pytest.mark.parametrize(
    ("windows", "error"),
    [
        ({"chunk_length_s": 1, "stride_length_s": 0.5}, "range"),  # a step of nothing
        ({"chunk_length_s": 1, "stride_length_s": 0.6}, "Chunk length must be superior"),
        ({"chunk_length_s": 0.001}, "range"),
    ],
)
def test_windows_that_keep_nothing_are_refused_by_both(
    windows: dict[str, Any], error: str, engines: Callable[..., tuple[Any, Any]], speech: Samples
) -> None:
    reference, recognize = engines("hubert")
    with pytest.raises(ValueError, match=error):
        reference(speech.copy(), **windows)
    with pytest.raises(InvalidInput, match=r"`(stride|chunk)_length_s`: expected"):
        recognize(as_input(speech), **windows)


def test_less_than_a_frame_of_sound_is_heard_as_followed_by_silence_where_the_reference_crashes(
    engines: Callable[..., tuple[Any, Any]], speech: Samples
) -> None:
    reference, recognize = engines("hubert")
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        reference(speech[: SHORTEST - 100].copy())
    assert isinstance(recognize(as_input(speech[: SHORTEST - 100])).text, str)


@pytest.mark.parametrize(
    "settings",
    [
        {"do_lower_case": True},
        {"replace_word_delimiter_char": "_"},
        {"word_delimiter_token": "E"},
        {"clean_up_tokenization_spaces": True},
        {"pad_token": "<s>", "unk_token": "Q"},
    ],
    ids=str,
)
def test_rules_of_the_vocabulary_are_followed(
    settings: dict[str, Any], engines: Callable[..., tuple[Any, Any]], speech: Samples
) -> None:
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4} | {c: i for i, c in enumerate("ET.,?!N'SQ", 5)}
    reference, recognize = engines("wavlm-stable", tokenizer=settings, vocabulary=vocabulary)
    for unit in ("char", "word"):
        same(recognize(as_input(speech), return_timestamps=unit), reference(speech.copy(), return_timestamps=unit))


def test_greedy_decoding_of_any_tokens_equals_the_tokenizer(tiny_model: Callable[..., Path]) -> None:
    from transformers import AutoConfig, AutoTokenizer

    from onnxpipe.audio.ctc import CtcDecoder
    from onnxpipe_export.ctc import ctc_section
    from onnxpipe_export.source import find_model

    folder = tiny_model("hubert", CTC_HEAD)
    config = AutoConfig.from_pretrained(folder, vocab_size=40)  # eight more than there are tokens
    tokenizer = AutoTokenizer.from_pretrained(folder)
    decoder = CtcDecoder(ctc_section(find_model(str(folder)), SimpleNamespace(config=config)), RATE)
    draws = np.random.default_rng(0)
    for length in (0, 1, 2, 3, 10, 100, 1000):
        for _ in range(20):
            ids = np.repeat(draws.integers(0, 40, length), draws.integers(1, 4, length)).astype(np.int32)
            expected = tokenizer.decode(ids, output_char_offsets=True, output_word_offsets=True)
            for unit, spans in (("char", expected.char_offsets), ("word", expected.word_offsets)):
                ours = decoder.decode(ids, unit)
                assert ours.text == expected.text
                assert [(part.text, part.timestamp) for part in ours.chunks] == [
                    (span[unit], (span["start_offset"] * 320 / RATE, span["end_offset"] * 320 / RATE)) for span in spans
                ]


def test_a_padded_batch_of_the_graph_is_each_row_alone_where_the_model_wants_a_mask(
    tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], speech: Samples
) -> None:
    from onnxpipe.batching import run_batch
    from onnxpipe.load import load_model

    model = load_model(tiny_bundle("wav2vec2-stable", CTC_HEAD), threads=1)
    recognize = onnxpipe.load(tiny_bundle("wav2vec2-stable", CTC_HEAD), threads=1)
    parts = [as_input(speech[: count * 1000]) for count in (5, 37, 60)]
    rows = [recognize.preprocess(*recognize.check_inputs([part]), recognize.types()[1]()).rows[0] for part in parts]
    session, graph = model.sessions["model"], model.graph()
    for row, together in zip(rows, run_batch(session, graph, rows), strict=True):
        (alone,) = run_batch(session, graph, [row])
        np.testing.assert_allclose(together["logits"], alone["logits"], atol=1e-4)
