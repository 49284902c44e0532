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


def test_a_table_without_a_result_says_that_it_was_not_measured(results):
    text = "<!-- table server_load -->\nold\n<!-- end -->\n"
    assert tables.renew(text, results) == "<!-- table server_load -->\n_Not measured yet._\n<!-- end -->\n"


def test_the_table_of_loads_has_a_line_for_each_server_and_each_kind_of_input():
    def row(server, connections):
        figures = {"per_second": 100.4, "p50_ms": 1.25, "p99_ms": 9.0, "memory_mb": 60.2}
        same = {"alone": 1.0, "together": 0.95}
        return (
            {"precision": "int8", "inputs": "short", "server": server, "connections": connections}
            | figures
            | {"same": same}
        )

    paced = {"per_second": 80, "p50_ms": 2.0, "p99_ms": 5.0}
    opened = {"precision": "int8", "steady": paced, "overload": {**paced, "refused": 7, "refused_p99_ms": 3.0}}
    rows = [row(server, count) for count in (1, 8) for server in ("bare handler", "onnxpipe")]
    lines = tables.TABLES["server_load"]({"rows": rows, "open": [opened]}).splitlines()
    assert (
        lines[0]
        == "| precision | inputs | server | 1 connection | 8 connections | MB | cosine to ours alone, in a batch |"
    )
    assert lines[3] == "| int8 | short | onnxpipe | 100 (1.2, 9.0) | 100 (1.2, 9.0) | 60 | 1.0000, 0.9500 |"
    assert lines[-1] == "| int8 | twice the peak | 80 | 2.0, 5.0 | 7 (3.0) |"


def test_every_table_of_the_readme_is_that_of_its_stored_result(request):
    root = request.config.rootpath
    text = (root / "README.md").read_text(encoding="utf-8")
    assert tables.renew(text, root / "benchmarks" / "results") == text
