import csv
import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from onnxpipe.load import load
from onnxpipe_bench import sts
from onnxpipe_bench.sts import ranks, score, spearman

SENTENCES = ["A man plays a guitar.", "A man plays music.", "A dog runs.", "The stock market fell.", "Rain.", "Sun."]
VALUES = npst.arrays(np.float64, st.integers(2, 20), elements=st.integers(-5, 5).map(float))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([10.0, 30.0, 20.0], [1, 3, 2]),
        ([5.0, 5.0], [1.5, 1.5]),
        ([1.0, 2.0, 2.0, 3.0], [1, 2.5, 2.5, 4]),
        ([3.0, 1.0, 3.0, 3.0, 2.0], [4, 1, 4, 4, 2]),  # the threes share 3, 4 and 5
        ([-1.0], [1]),
    ],
)
def test_equal_values_share_the_mean_of_their_ranks(values, expected):
    assert ranks(np.array(values)).tolist() == expected


@given(VALUES)
def test_ranks_add_up_to_what_ranks_without_ties_would(values):
    assert ranks(values).sum() == len(values) * (len(values) + 1) / 2


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([1, 2, 3], [10, 100, 1000], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        ([1, 2, 3, 4], [1, 3, 2, 4], 0.8),  # 1 - 6 * (0 + 1 + 1 + 0) / (4 * 15)
        ([1, 2, 3, 4, 5], [5, 6, 7, 8, 7], 0.8207826816681233),  # ranks 1 2 3.5 5 3.5: 8 / sqrt(10 * 9.5)
        ([1, 1, 2], [1, 2, 2], 0.5),  # ranks 1.5 1.5 3 and 1 2.5 2.5: 0.75 / 1.5
    ],
)
def test_spearman_worked_out_by_hand(left, right, expected):
    assert spearman(np.array(left, float), np.array(right, float)) == pytest.approx(expected, abs=1e-12)


@given(VALUES, st.data())
def test_spearman_looks_at_the_order_alone(left, data):
    right = data.draw(npst.arrays(np.float64, len(left), elements=st.integers(-5, 5).map(float)))
    assume(len(set(left)) > 1)
    assume(len(set(right)) > 1)
    found = spearman(left, right)
    assert -1 - 1e-12 <= found <= 1 + 1e-12
    assert spearman(np.exp(left), right**3) == pytest.approx(found)
    assert spearman(right, left) == pytest.approx(found)
    assert spearman(-left, right) == pytest.approx(-found)


def test_neighbouring_vectors_are_compared_whatever_their_lengths():
    # cosines 1, 0.6 and 0 of the three pairs
    vectors = np.array([[2.0, 0.0], [7.0, 0.0], [1.0, 0.0], [3.0, 4.0], [0.0, 0.5], [9.0, 0.0]])
    assert score(vectors, np.array([5.0, 3.0, 1.0])) == 100
    assert score(vectors, np.array([1.0, 3.0, 5.0])) == -100
    assert score(vectors, np.array([5.0, 1.0, 3.0])) == 50  # 1 - 6 * (0 + 1 + 1) / (3 * 8)


@pytest.fixture
def judged(tmp_path):
    """Three pairs with people's judgement, as the benchmark's file has them."""
    file = tmp_path / "pairs.csv"
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(zip(SENTENCES[::2], SENTENCES[1::2], ["4.5", "0.0", "2.25"], strict=True))
    return file


def test_every_precision_is_scored_beside_torch(tiny_bundle, judged, results, arguments, monkeypatch, capsys):
    bundle = tiny_bundle("bert", "")
    pipeline = load(bundle, task="feature-extraction")
    asked = []

    def embed_with_torch(folder, texts):
        asked.append((folder, texts))
        return np.array([np.asarray(vector, np.float64).reshape(-1, 32).mean(axis=0) for vector in pipeline(texts)])

    pooled = [np.asarray(vector).reshape(-1, 32).mean(axis=0) for vector in pipeline(SENTENCES)]
    monkeypatch.setattr(sts, "embed_with_torch", embed_with_torch)
    monkeypatch.setattr(sts, "make_pipeline", lambda model, task: lambda texts: pooled)
    arguments(bundle, "--model", "the/model", "--data", judged)
    sts.main()

    assert asked == [("the/model", SENTENCES)]
    written = json.loads((results / "sts.json").read_text(encoding="utf-8"))
    assert (written["model"], written["data"], written["pairs"]) == ("tiny/bert", "pairs.csv", 3)
    reference, given = written["rows"]
    assert reference["engine"] == "sentence-transformers (torch)"
    assert given == {
        "engine": "onnxpipe fp32",
        "spearman": reference["spearman"],
        "cosine_mean": 1.0,
        "cosine_worst": 1.0,
    }
    assert capsys.readouterr().out.endswith(f"-> {results / 'sts.json'}\n")


def test_torch_embeds_with_sentence_transformers(minilm_source):
    pytest.importorskip("sentence_transformers", reason="needs the bench extra")
    vectors = sts.embed_with_torch(str(minilm_source), ["That is a happy person", "That is a happy dog"])
    assert (vectors.shape, vectors.dtype) == ((2, 384), np.float64)
    assert vectors[0] @ vectors[1] == pytest.approx(0.6945773, abs=1e-5)


def test_minilm_agrees_with_torch_and_people(minilm_bundle, minilm_source, judged, results, arguments):
    pytest.importorskip("sentence_transformers", reason="needs the bench extra")
    arguments(minilm_bundle, "--model", minilm_source, "--data", judged)
    sts.main()
    rows = {row["engine"]: row for row in json.loads((results / "sts.json").read_text(encoding="utf-8"))["rows"]}
    assert list(rows) == ["sentence-transformers (torch)", "onnxpipe fp32", "onnxpipe int8"]
    assert rows["onnxpipe fp32"]["cosine_worst"] > 0.99999
    assert 0.95 < rows["onnxpipe int8"]["cosine_worst"] <= rows["onnxpipe int8"]["cosine_mean"] < 1
