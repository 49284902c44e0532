"""Benchmarks run in the export environment, and here they write their results into a temporary folder."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from onnxpipe_bench import decoder_speed, measure

pytest.importorskip("optimum", reason="benchmarks need the export extra")


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    monkeypatch.setattr(measure, "RESULTS", folder)
    return folder


@pytest.fixture
def arguments(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the command line."""

    def give(*values: object) -> None:
        monkeypatch.setattr(sys, "argv", ["benchmark", *map(str, values)])

    return give


@pytest.fixture
def tiny_llama(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the model of the generation benchmarks small, and its texts just long enough to be written together."""
    sizes = {
        "vocab_size": 64,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
    }
    monkeypatch.setattr(decoder_speed, "SIZES", sizes)
    monkeypatch.setattr(decoder_speed, "NEW", decoder_speed.ROWS + 4)
