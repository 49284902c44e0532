"""A bundle in three precisions: fp32, the same again as int8, and one that is wrong; and a survey's result."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from onnxpipe.bundle import FileEntry, open_bundle, sha256, write_manifest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tiny_bundle: Callable[..., Path], tmp_path: Path) -> Path:
    """A small BERT's vectors; of its int4 all weights of one matrix are gone."""
    onnx = pytest.importorskip("onnx")
    target = tmp_path / "bundle"
    shutil.copytree(tiny_bundle("bert", ""), target)
    graph = onnx.load(target / "onnx/model.onnx")
    shutil.copy(target / "onnx/model.onnx", target / "onnx/model_int8.onnx")
    for matrix in graph.graph.initializer:
        if matrix.data_type == onnx.TensorProto.FLOAT and len(matrix.dims) == 2:
            matrix.raw_data = bytes(len(matrix.raw_data))
    onnx.save(graph, target / "onnx/model_int4.onnx")
    manifest = open_bundle(target).manifest
    variant = manifest.variants["fp32"]
    variants, files = dict(manifest.variants), dict(manifest.files)
    for precision, together in (("int8", False), ("int4", True)):
        name = f"onnx/model_{precision}.onnx"
        variants[precision] = dataclasses.replace(variant, files={"model": name}, batch_invariant=together)
        files[name] = FileEntry(size_bytes=(target / name).stat().st_size, sha256=sha256(target / name))
    write_manifest(target, dataclasses.replace(manifest, variants=variants, files=files))
    return target


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Pairs of sentences with people's judgement, in lines of JSON."""
    rows = [
        (["A man plays a guitar.", "A man plays music."], 4.5),
        (["A dog runs.", "The stock market fell."], 0.0),
        (["Rain.", "It rains."], 4.0),
        (["Sun and sea.", "Nobody came to the meeting."], 0.5),
    ]
    file = tmp_path / "pairs.jsonl"
    lines = [json.dumps({"inputs": inputs, "label": label}) for inputs, label in rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def make_row(name: str, factor: float, *, quality: float = 0.8, size_mb: float = 20.0) -> dict:
    """What a survey tells of a candidate that takes so many times as long as fp32."""
    latency = []
    for length, base in ((16, 4.0), (64, 10.0)):
        times = {str(q): base * factor * (1 + q / 500) for q in (1, 5, 10, 25, 50, 75, 90, 95, 99)}
        figures = {"length": length, "size": length, "calls": 100, "mean": base * factor, "quantiles": times}
        figures |= {f"p{q}": times[str(q)] for q in (50, 95, 99)}
        if name != "fp32":
            figures["speed"] = {"value": 1 / factor, "low": 0.97 / factor, "high": 1.03 / factor}
        latency.append(figures)
    drop = (0.82 - quality) / 0.82
    return {
        "name": name,
        "model": "acme/model",
        "precision": name,
        "threads": 2,
        "size_mb": size_mb,
        "batch_invariant": name != "int8",
        "baseline": name == "fp32",
        "latency": latency,
        "throughput": [{"batch": 1, "rows_per_s": 100 / factor}, {"batch": 8, "rows_per_s": 120 / factor}],
        "process": {"first_answer_s": 0.3, "idle_mb": 100.0, "peak_mb": None},
        "quality": {
            "metric": "Spearman",
            "value": quality,
            "low": quality - 0.01,
            "high": quality + 0.01,
            "drop": {"value": drop, "low": drop - 0.001, "high": drop + 0.001},
        },
    }


@pytest.fixture
def result() -> dict:
    """A survey of four candidates, one of them slower than fp32."""
    return {
        "stamp": {
            "cpu": "A fast one",
            "threads": 2,
            "onnxruntime": "1.31.1",
            "onnxpipe": "0.1.0",
            "date": "2026-01-02",
        },
        "task": "feature-extraction",
        "unit": "tokens",
        "lengths": [16, 64],
        "middle": 64,
        "batches": [1, 8],
        "seconds": 4.0,
        "quality": {"data": "sts.jsonl", "metric": "Spearman", "lower": False, "rows": 1500},
        "energy": "not told by this machine (no RAPL counters and no NVML)",
        "rows": [
            make_row("fp32", 1.0, quality=0.82, size_mb=90.0),
            make_row("int8", 0.4, quality=0.818),
            make_row("fp16", 1.4, quality=0.8199, size_mb=45.0),
            make_row("int4", 0.8, quality=0.81, size_mb=15.0),
        ],
    }
