import numpy as np
import pytest

from onnxpipe.audio.waveform import Audio
from onnxpipe_bench.speech_speed import TINY, as_flac, make_bundle, make_sound, measure, probe


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech-speed") / "tiny"
    return folder / "model", make_bundle(folder, TINY)


def test_the_sound_is_as_long_as_asked_for_in_every_form():
    assert make_sound(2, 8000, channels=2).shape == (2, 16_000)
    audio = Audio.read(as_flac(2))
    assert (audio.seconds, len(audio.samples(16_000))) == (2, 32_000)
    assert Audio.read(as_flac(180, rate=8000, channels=1)).seconds == 180
    assert np.abs(make_sound(1, 8000)).max() < 1


def test_every_engine_is_timed_and_a_bundle_is_made_once(tiny):
    model, bundle = tiny
    made = (bundle / "manifest.json").stat().st_mtime_ns
    assert make_bundle(bundle.parent, TINY) == bundle
    assert (bundle / "manifest.json").stat().st_mtime_ns == made
    rows = measure(model, bundle, repeats=2)
    assert [row["engine"] for row in rows] == ["transformers", "fp32", "int8"]
    assert all(row["ratio"] > 0 for row in rows)
    assert all(row["features_share"] > 0 for row in rows[1:])


def test_a_fresh_process_tells_its_first_answer_and_its_memory(tiny, tmp_path):
    file = tmp_path / "sound.flac"
    file.write_bytes(as_flac(1))
    found = probe(tiny[1], "fp32", file)
    assert 0 < found["load_ms"] < found["first_answer_ms"]
    assert 0 < found["model_mb"] < found["peak_mb"]
