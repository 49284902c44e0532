import json
import sys

from onnxpipe_bench import footprint


def test_size_import_first_answer_and_memory_are_measured_and_stored(tiny_bundle, results, arguments):
    arguments(tiny_bundle("bert", ""), "--python", sys.executable, "--repeats", 1)
    footprint.main()
    written = json.loads((results / "footprint.json").read_text(encoding="utf-8"))
    assert written["model"] == "tiny/bert"
    assert written["site_packages_mb"] > 100
    assert written["import_ms"] > 0
    assert [row["precision"] for row in written["rows"]] == ["fp32"]
    assert written["rows"][0]["first_answer_ms"] > 0
    assert written["rows"][0]["peak_memory_mb"] > 20


def test_sizes_are_those_on_disk(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"x" * 2**20)
    (tmp_path / "one").write_bytes(b"x")
    assert 1.0 < footprint.site_packages_mb(tmp_path) <= 1.1
