import json

import pytest

from onnxpipe_bench import decoder_speed, generation_speed, tables, translation_speed

TINY_MARIAN = {
    "vocab_size": 64,
    "pad_token_id": 63,
    "decoder_start_token_id": 63,
    "d_model": 64,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 128,
}


@pytest.fixture(autouse=True)
def tiny(tiny_llama, monkeypatch):
    monkeypatch.setattr(translation_speed, "SIZES", TINY_MARIAN)


def test_text_gets_its_figures_alone_and_together(arguments, results, tmp_path):
    arguments("--cache", tmp_path / "cache", "--repeats", 1)
    generation_speed.main()
    found = json.loads((results / "generation_speed.json").read_text())
    rows = {row["candidate"]: row for row in found["rows"]}
    ours = [f"onnxpipe {precision}" for precision in ("fp32", "int8", "int4", "int4 in blocks of 32")]
    together = [f"{name} x {decoder_speed.ROWS}" for name in ours]
    assert list(rows) == [*ours, *together, "transformers fp32", "optimum's graph fp32"]
    assert all(row["first_ms"] > 0 and row["next_ms"] > 0 for row in rows.values())
    assert all(0 < rows[name]["python_ms"] < rows[name]["next_ms"] for name in ours + together)
    assert all(rows[name]["times_one"] > 0 for name in together)
    # a row for each engine: eight together are columns
    assert len(tables.TABLES["generation_speed"](found).splitlines()) == 2 + len(ours) + 2


def test_translations_get_their_figures(arguments, results, tmp_path):
    arguments("--cache", tmp_path / "cache", "--repeats", 1)
    translation_speed.main()
    found = json.loads((results / "translation_speed.json").read_text())
    names = [row["candidate"] for row in found["rows"]]
    assert names == ["onnxpipe fp32", "onnxpipe int8", "onnxpipe int4", "transformers fp32", "optimum fp32"]
    assert all(row["first_ms"] > 0 and row["next_ms"] > 0 for row in found["rows"])
    assert len(tables.TABLES["translation_speed"](found).splitlines()) == 2 + len(names)
