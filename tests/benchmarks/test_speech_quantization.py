import numpy as np
import onnx
import pytest
import soundfile

from onnxpipe_bench.speech import Utterance
from onnxpipe_bench.speech_quantization import WAYS, make_ways, time_ways, wrong_words
from onnxpipe_bench.speech_speed import TINY, make_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("speech-quantization"), TINY)


def test_every_way_is_made_and_timed(bundle, tmp_path):
    rows = time_ways(bundle, tmp_path, repeats=1)
    assert [row["way"] for row in rows] == ["float", *WAYS]
    assert all(row["ms"]["p50"] > 0 and row["mb"] > 0 for row in rows)


@pytest.mark.parametrize(("way", "count"), [("products", 0), ("products, front end", 7), ("products, positions", 1)])
def test_only_the_convolutions_of_the_part_become_integers(bundle, tmp_path, way, count):
    nodes = onnx.load(make_ways(bundle, tmp_path, [way])[way]).graph.node
    assert sum(node.op_type == "ConvInteger" for node in nodes) == count
    assert any(node.op_type == "MatMulInteger" for node in nodes)


def test_wrong_words_are_counted_of_a_hundred_said(bundle, tmp_path):
    file = tmp_path / "silence.wav"
    soundfile.write(file, np.zeros(16_000), 16_000)
    assert wrong_words(bundle, "float", [Utterance(file, "one two")], tmp_path) >= 100
