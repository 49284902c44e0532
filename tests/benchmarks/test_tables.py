import json

import pytest

from onnxpipe_bench import tables

STAMP = {"cpu": "A fast one", "threads": 2, "onnxruntime": "1.31.1", "date": "2026-01-02"}
TEXT = "before\n<!-- table sts -->\nold\n<!-- end -->\nafter\n"
RENEWED = """before
<!-- table sts -->
| engine | Spearman x 100 | mean cosine to torch | worst |
| --- | --- | --- | --- |
| torch | 86.72 |  |  |
| int8 | 86.50 | 0.9925 | 0.9000 |

_org/model; A fast one, 2 threads; onnxruntime 1.31.1; 2026-01-02._
<!-- end -->
after
"""


@pytest.fixture
def readme(results, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", results)
    rows = [
        {"engine": "torch", "spearman": 86.7163},
        {"engine": "int8", "spearman": 86.5, "cosine_mean": 0.992515, "cosine_worst": 0.9},
    ]
    (results / "sts.json").write_text(json.dumps({"stamp": STAMP, "model": "org/model", "rows": rows}))
    file = tmp_path / "README.md"
    file.write_text(TEXT)
    return file


def test_a_table_is_made_from_its_result_and_nothing_else_changes(readme, arguments):
    arguments(readme)
    assert tables.main() == 0
    assert readme.read_text() == RENEWED


def test_a_stale_table_is_told_and_left_alone(readme, arguments, capsys):
    arguments(readme, "--check")
    assert tables.main() == 1
    assert "a table differs from results/*.json" in capsys.readouterr().out
    assert readme.read_text() == TEXT


def test_a_fresh_table_passes_the_check(readme, arguments):
    readme.write_text(RENEWED)
    arguments(readme, "--check")
    assert tables.main() == 0


def test_every_table_of_the_readme_is_that_of_its_stored_result(request):
    root = request.config.rootpath
    text = (root / "README.md").read_text(encoding="utf-8")
    assert tables.renew(text, root / "benchmarks" / "results") == text
