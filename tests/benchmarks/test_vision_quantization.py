import json

import pytest

from onnxpipe_bench import tables, vision_quantization
from onnxpipe_bench.vision_quantization import ARCHITECTURES, WAYS, make_bundle, measure


@pytest.mark.parametrize(("family", "chains"), [("resnet", 1.0), ("efficientnet", 0.0)])
def test_every_way_is_made_and_timed(tiny_bundle, tmp_path, family, chains):
    row = measure(tiny_bundle(family, "ForImageClassification"), tmp_path, repeats=2)
    assert row["chains"] == pytest.approx(chains, abs=0.01)
    assert row["ways"].keys() == WAYS.keys()
    assert all(figures["speed"] > 0 and figures["mb"] > 0 for figures in row["ways"].values())


def test_a_bundle_is_made_once_of_random_weights(tmp_path, monkeypatch):
    monkeypatch.setitem(
        vision_quantization.ARCHITECTURES,
        "tiny",
        vision_quantization.Architecture("resnet", "ConvNextImageProcessor", {"hidden_sizes": [8], "depths": [1]}),
    )
    bundle = make_bundle(ARCHITECTURES["tiny"], tmp_path / "bundle")
    made = (bundle / "manifest.json").stat().st_mtime_ns
    assert make_bundle(ARCHITECTURES["tiny"], tmp_path / "bundle") == bundle
    assert (bundle / "manifest.json").stat().st_mtime_ns == made


def test_the_table_has_a_row_per_architecture(request):
    results = request.config.rootpath / "benchmarks" / "results" / "vision_quantization.json"
    result = json.loads(results.read_text())
    table = tables.TABLES["vision_quantization"](result).splitlines()
    assert len(table) == 2 + len(ARCHITECTURES)
    assert all(line.count("|") == table[0].count("|") for line in table)
