import shutil

import numpy as np
import pytest

from onnxpipe.load import load_model
from onnxpipe_bench.variants import describe, measure_speed


@pytest.fixture
def models(tiny_bundle, tmp_path):
    pytest.importorskip("optimum", reason="tiny models need the export extra")
    from onnxpipe_export.add_variants import add_variants

    path = shutil.copytree(tiny_bundle("roberta", ""), tmp_path / "bundle")
    add_variants(path, ["int8-weights", "int8"], timed=False)
    return {name: load_model(path, precision=name) for name in load_model(path).bundle.manifest.variants}


def test_rows_tell_quality_beside_fp32_alone_and_in_batches(models):
    texts = ["one", "one two", "three four five six", "seven eight nine"]
    rows = {row["precision"]: row for row in describe(models, texts, np.array([1.0, 2.0]))}
    assert next(iter(rows)) == "fp32"
    assert rows["fp32"]["cosine_mean"] == 1.0
    assert rows["int8-weights"]["cosine_worst"] > 0.99
    assert rows["int8-weights"]["batch_cosine_worst"] > 0.99999
    assert rows["int8-weights"]["mb"] < rows["fp32"]["mb"]


def test_speed_is_a_ratio_to_fp32_by_length(models, monkeypatch):
    monkeypatch.setattr("onnxpipe_bench.variants.LENGTHS", (4, 8))
    monkeypatch.setattr("onnxpipe_bench.variants.VOCABULARY", (5, 100))
    ratios = measure_speed(models, repeats=2)
    assert ratios["fp32"] == {"4": 1.0, "8": 1.0}
    assert all(ratio > 0 for row in ratios.values() for ratio in row.values())
