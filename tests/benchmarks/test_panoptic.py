import json

import numpy as np
import pytest

from onnxpipe_bench import panoptic
from onnxpipe_bench.tables import renew


def test_time_and_peak_memory_of_both_engines_are_measured_and_make_a_table(results, arguments, monkeypatch, capsys):
    monkeypatch.setattr(panoptic, "MASK_SIZE", (20, 27))
    monkeypatch.setattr(panoptic, "SIZE", (80, 106))
    arguments("--repeats", 2)
    panoptic.main()
    rows = json.loads((results / "panoptic.json").read_text(encoding="utf-8"))["rows"]
    assert [(row["sure"], row["engine"]) for row in rows] == [
        (sure, engine) for sure in (10, 100) for engine in ("transformers", "onnxpipe")
    ]
    for row in rows:
        assert row["ms"]["p50"] > 0
        # in a process of its own, which takes the true sizes: the reference makes all masks at once
        assert row["peak_mb"] > 50 if row["engine"] == "transformers" else row["peak_mb"] < 50
    assert all(0 < row["segments"] <= row["sure"] for row in rows if row["engine"] == "onnxpipe")
    assert capsys.readouterr().out.splitlines()[-1] == f"-> {results / 'panoptic.json'}"
    table = renew("<!-- table panoptic -->\n<!-- end -->", results)
    assert "| 100 | onnxpipe |" in table


@pytest.mark.parametrize("sure", [10, 100])
def test_both_engines_find_the_same_segments_in_what_is_drawn(sure):
    outputs = panoptic.draw_outputs(sure)
    ours = panoptic.ENGINES["onnxpipe"]()(*outputs)
    (theirs,) = panoptic.ENGINES["transformers"]()(*outputs)
    assert len(ours.found) > 5
    assert [segment.label for segment in ours.found] == [item["label_id"] for item in theirs["segments_info"]]
    for segment, item in zip(ours.found, theirs["segments_info"], strict=True):
        mask = theirs["segmentation"].numpy() == item["id"]
        assert np.count_nonzero(ours.mask(segment) != mask) <= 1e-4 * mask.sum() + 1
