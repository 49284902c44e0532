"""sentence-similarity beside sentence-transformers 5.7 on the same weights."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import onnxpipe

pytest.importorskip("optimum", reason="parity needs the export extra")
from zoo import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_cosines_of_a_plain_model_equal_the_reference(
    family: str, tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], texts: list[str]
) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="needs the bench extra")
    reference = sentence_transformers.SentenceTransformer(str(tiny_model(family, "")), device="cpu")
    vectors = reference.encode(texts)
    expected = sentence_transformers.util.cos_sim(vectors[:1], vectors[1:])[0].numpy()
    similarity = onnxpipe.load(tiny_bundle(family, ""), task="sentence-similarity")
    given = similarity({"source_sentence": texts[0], "sentences": texts[1:]})
    np.testing.assert_allclose(given, expected, atol=1e-4)


def test_cosines_of_minilm_equal_the_reference_and_its_documentation(minilm_source: Path, minilm_bundle: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="needs the bench extra")
    sentences = ["That is a happy dog", "That is a very happy person", "Today is a sunny day"]
    vectors = sentence_transformers.SentenceTransformer(str(minilm_source), device="cpu").encode(
        ["That is a happy person", *sentences]
    )
    given = onnxpipe.load(minilm_bundle)({"source_sentence": "That is a happy person", "sentences": sentences})
    np.testing.assert_allclose(given, sentence_transformers.util.cos_sim(vectors[:1], vectors[1:])[0], atol=1e-5)
    np.testing.assert_allclose(given, [0.6945773, 0.9429151, 0.2568761], atol=1e-4)
