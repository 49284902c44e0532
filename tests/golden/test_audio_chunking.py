"""Long recordings in windows, beside what transformers' own tests expect of them (`audio_chunking.json`)."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxpipe.audio.chunks import Windows, cut_windows


@pytest.fixture(scope="module")
def golden(test_data: Path) -> dict[str, list[dict[str, Any]]]:
    return json.loads((test_data / "golden/audio_chunking.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("block", [1, 7, 100, 1000])
def test_windows_begin_end_and_overlap_as_the_reference_says(
    golden: dict[str, list[dict[str, Any]]], block: int
) -> None:
    for case in golden["chunk_iter"]:
        samples = np.arange(case["n_samples"], dtype=np.float32)
        windows = Windows(case["chunk_len"], case["stride_left"], case["stride_right"])
        blocks = np.split(samples, range(block, len(samples), block))
        given = [*cut_windows(blocks, windows)]
        assert [[len(item.samples), item.left, item.right] for item in given] == case["expected_strides"], case
        if case["is_last"] is not None:
            assert [item.last for item in given] == case["is_last"], case
        step = windows.size - windows.left - windows.right
        for index, item in enumerate(given):
            np.testing.assert_array_equal(item.samples, samples[index * step :][: len(item.samples)])


def test_windows_of_a_live_recording_are_the_same_but_for_its_end_and_keep_the_same_samples(
    golden: dict[str, list[dict[str, Any]]],
) -> None:
    """The reference's live windows end before it knows that one is the last; what is kept of all is the same."""
    for case in golden["chunk_bytes_stream"]:
        blocks = [np.array(block, np.float32) for block in case["incoming"]]
        given = [*cut_windows(blocks, Windows(case["chunk_len"], *case["stride"]))]
        whole = [item for item in case["out"] if not item.get("partial", False)]
        kept = [item["raw"][item["stride"][0] : len(item["raw"]) - item["stride"][1]] for item in whole]
        ours = [item.samples[item.left : len(item.samples) - item.right].tolist() for item in given]
        assert [*itertools.chain(*ours)] == [*itertools.chain(*kept)], case
        for item, expected in zip(given[:-1], whole, strict=False):
            assert (item.samples.tolist(), [item.left, item.right]) == (expected["raw"], expected["stride"]), case
