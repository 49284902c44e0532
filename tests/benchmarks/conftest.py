"""Benchmarks run in the export environment, and here they write their results into a temporary folder."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from onnxpipe_bench import measure

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
