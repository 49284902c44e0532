import shutil

import numpy as np
import onnxruntime
import pytest

from onnxpipe_export.generation.sharing import share_weights

SOURCE = np.array([[11, 23, 42, 17, 9]])
BYTES = "onnxpipe_export.generation.sharing._LEAST_BYTES"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(BYTES, 2**14)


@pytest.fixture
def copied(traced, tmp_path):
    def copy(name):
        _, files = traced(name)
        return {graph: shutil.copyfile(file, tmp_path / f"{graph}.onnx") for graph, file in files.items()}

    return copy


def encode(file):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    feeds = {"input_ids": SOURCE, "attention_mask": np.ones_like(SOURCE)}
    return session.run(None, {port.name: feeds[port.name] for port in session.get_inputs()})


def sizes(files):
    return sum(file.stat().st_size for file in next(iter(files.values())).parent.iterdir())


@pytest.mark.parametrize("name", ["bart", "m2m_100", "t5"])
def test_an_embedding_of_both_graphs_is_stored_once(copied, name):
    files = copied(name)
    before, expected = sizes(files), encode(files["encoder"])
    saved = share_weights(files["encoder"], files["decoder"])
    assert saved >= 97 * 64 * 4
    # what comes back: a page's padding, and the names of the places
    assert before - sizes(files) > saved - 6000
    for given, wanted in zip(encode(files["encoder"]), expected, strict=True):
        np.testing.assert_array_equal(given, wanted)
    onnxruntime.InferenceSession(files["decoder"], providers=["CPUExecutionProvider"])


def test_graphs_whose_weights_lie_beside_them_share_too(copied, monkeypatch):
    import onnx_ir as ir

    from onnxpipe_export.generation.graphs import save

    files = copied("bart")
    monkeypatch.setattr("onnxpipe_export.generation.graphs._LARGEST_BYTES", 1000)
    for file in files.values():
        save(ir.load(file), file)
    beside = files["encoder"].parent / "encoder.onnx_data"
    before, expected = beside.stat().st_size, encode(files["encoder"])
    assert share_weights(files["encoder"], files["decoder"]) >= 97 * 64 * 4
    assert beside.stat().st_size < before
    for given, wanted in zip(encode(files["encoder"]), expected, strict=True):
        np.testing.assert_array_equal(given, wanted)


def test_files_without_common_weights_stay_as_they_are(copied):
    files = copied("whisper")
    before = {name: file.read_bytes() for name, file in files.items()}
    assert share_weights(files["encoder"], files["decoder"]) == 0
    assert {name: file.read_bytes() for name, file in files.items()} == before
    assert sorted(file.name for file in files["encoder"].parent.iterdir()) == ["decoder.onnx", "encoder.onnx"]
