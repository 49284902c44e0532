import json

import pytest

from onnxpipe_bench import decoder_speed
from onnxpipe_bench.decoder_speed import ROWS, main


def test_every_candidate_gets_its_figures(tiny_llama, arguments, results, tmp_path, capsys):
    arguments("--cache", tmp_path / "cache", "--repeats", 1)
    main()
    found = json.loads((results / "decoder_speed.json").read_text())
    graphs = (
        "fp32",
        "int8 blocks of 32",
        "int8 blocks of 64",
        "int8 channels",
        "int4 blocks of 32",
        "int4 blocks of 64",
    )
    assert [row["candidate"] for row in found["rows"]] == [
        *graphs,
        *(f"{graph} x {ROWS}" for graph in graphs),
        "transformers fp32",
        "optimum's graph fp32",
    ]
    assert all(row["first_ms"] > 0 and row["next_ms"] >= row["next_best_ms"] > 0 for row in found["rows"])
    assert found["megabytes"]["int4 blocks of 64"] < found["megabytes"]["fp32"]
    assert "first token" in capsys.readouterr().out


def test_an_interpreter_without_the_peer_is_named(tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho no\n")
    script.chmod(0o755)
    with pytest.raises(RuntimeError, match=r"cannot run genai_decoder\.py"):
        decoder_speed.peer_loop(script, "genai", tmp_path)
