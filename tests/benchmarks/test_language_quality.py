import dataclasses
import json

import numpy as np
import pytest

from onnxpipe_bench import language_quality
from onnxpipe_bench.language_quality import RECIPE, WINDOW, Scores, compare, fit, main, make_windows, split_plays

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
TINY = dataclasses.replace(RECIPE, vocabulary=400, config={**RECIPE.config, **SIZES}, steps=10, batch=4)


@pytest.fixture
def short(monkeypatch, test_data):
    """A tiny model and little to read."""
    train, test = split_plays()
    monkeypatch.setattr(language_quality, "RECIPE", TINY)
    monkeypatch.setattr(language_quality, "split_plays", lambda: ([train[0][:20000]], [test[0][:3000]]))


def test_plays_are_split_between_speeches_and_a_fifth_is_held_out(test_data):
    train, test = split_plays()
    assert len(train) == len(test) == 3
    assert train[0].startswith("BERNARDO\nWho's there?\n\nFRANCISCO\n")
    assert test[0].endswith("Go, bid the soldiers shoot.\n")
    for kept, rest in zip(train, test, strict=True):
        assert len(rest) / len(kept + rest) == pytest.approx(0.2, abs=0.02)  # speeches may be long
        assert rest.splitlines()[0].isupper()  # who speaks


def test_every_token_behind_the_first_is_asked_for_once(tmp_path, test_data):
    text = split_plays()[0][0][:5000]
    language_quality.train_tokenizer([text], 400).save_pretrained(tmp_path)
    windows = make_windows(tmp_path, [text, text])
    half = windows[: len(windows) // 2]
    assert windows.shape[1] == WINDOW + 1
    np.testing.assert_array_equal(half, windows[len(half) :])
    np.testing.assert_array_equal(half[1:, 0], half[:-1, -1])


def test_perplexities_are_those_of_all_tokens_and_differences_are_to_the_first():
    likeliest = np.array([[1, 2], [3, 4]])
    torch = Scores(np.log([[0.5, 0.25], [0.25, 0.5]]), likeliest, np.zeros((2, 2)))
    other = Scores(np.log([[0.25, 0.25], [0.25, 0.25]]), np.array([[1, 2], [3, 5]]), np.array([[0, 1], [2, 3]]))
    first, second = compare({"torch": torch, "int4": other})
    assert first["perplexity"] == pytest.approx(8**0.5, abs=1e-4)
    assert (first["difference"], first["relative"], first["same_likeliest"]) == (0, 0, 100)
    assert second["perplexity"] == 4
    assert second["interval"] == [4, 4]
    assert second["difference"] == pytest.approx(4 - 8**0.5, abs=1e-4)
    assert second["relative"] == pytest.approx(2**0.5 - 1, abs=1e-3)
    assert (second["divergence"], second["same_likeliest"]) == (1.5, 75)


def test_the_same_texts_make_the_same_model(tmp_path, test_data):
    texts = [split_plays()[0][0][:10000]]
    for name in ("one", "other"):
        fit(dataclasses.replace(TINY, steps=2), texts, tmp_path / name)
    for file in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_every_precision_gets_its_figures_and_fp32_those_of_torch(short, arguments, results, tmp_path):
    arguments("--cache", tmp_path / "cache")
    main()
    found = json.loads((results / "language_quality.json").read_text())
    rows = {row["engine"]: row for row in found["rows"]}
    assert list(rows) == ["torch", "fp32", "int8", "int4", "int4 in blocks of 32", "int4 in blocks of 64"]
    assert found["refused"] == {}
    assert abs(rows["fp32"]["relative"]) < 1e-5
    assert abs(rows["fp32"]["divergence"]) < 1e-7 < rows["int8"]["divergence"] < rows["int4"]["divergence"]
    assert rows["fp32"]["same_likeliest"] == pytest.approx(100, abs=0.5)
    assert rows["torch"]["perplexity"] < 400  # less than all tokens alike: it has learned something
    assert {**rows["int4 in blocks of 64"], "engine": "int4"} == rows["int4"]
    assert rows["int4"]["megabytes"] < rows["int8"]["megabytes"] < rows["fp32"]["megabytes"]
    assert [row["engine"] for row in found["block_sizes"]] == ["int4 in blocks of 32", "int4 in blocks of 64"]


def test_another_perplexity_than_torchs_in_fp32_is_an_error(short, arguments, tmp_path, monkeypatch):
    monkeypatch.setattr(language_quality, "_SAME", -1.0)
    arguments("--cache", tmp_path / "cache")
    with pytest.raises(RuntimeError, match="fp32's perplexity is"):
        main()
