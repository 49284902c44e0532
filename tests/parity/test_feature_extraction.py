"""feature-extraction beside transformers 4.57.6 and, where a model has its modules, sentence-transformers 5.7."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import onnxpipe

pytest.importorskip("optimum", reason="parity needs the export extra")
from transformers import pipeline as reference_pipeline

from onnxpipe_export.export import export
from zoo import FAMILIES, add_sentence_transformers_files

POOLINGS = {
    "cls": {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
    "max": {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": False},
    "mean": {"pooling_mode_mean_tokens": True},
    "mean_sqrt_len": {"pooling_mode_mean_sqrt_len_tokens": True, "pooling_mode_mean_tokens": False},
    "weighted_mean": {"pooling_mode_weightedmean_tokens": True, "pooling_mode_mean_tokens": False},
    "last_token": {"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False},
    "mean and max": {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True},
    "the newer spelling": {"pooling_mode": ["weightedmean", "cls"]},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_of_a_plain_model_equal_the_reference(
    family: str, tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], texts: list[str]
) -> None:
    reference = reference_pipeline("feature-extraction", str(tiny_model(family, "")), device="cpu")
    given = onnxpipe.load(tiny_bundle(family, ""))(texts)
    for ours, theirs in zip(given, reference(texts, tokenize_kwargs={"truncation": True}), strict=True):
        np.testing.assert_allclose(ours, np.array(theirs), atol=1e-4)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_vectors_equal_sentence_transformers_for_every_pooling(
    family: str, pooling: str, normalize: bool, tiny_model: Callable[..., Path], texts: list[str], tmp_path: Path
) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="needs the bench extra")
    folder = tmp_path / "model"
    shutil.copytree(tiny_model(family, ""), folder)
    add_sentence_transformers_files(folder, pooling=POOLINGS[pooling], normalize=normalize)
    export(folder, tmp_path / "bundle", precisions=["fp32"])
    sample = texts[::4] if pooling == "mean" else texts[::25]
    expected = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(sample)
    given = np.stack(onnxpipe.load(tmp_path / "bundle", task="feature-extraction")(sample))
    np.testing.assert_allclose(given, expected, atol=1e-4)


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "cls", "weighted_mean"])
def test_prompts_equal_sentence_transformers(
    include_prompt: bool, pooling: str, tiny_model: Callable[..., Path], texts: list[str], tmp_path: Path
) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="needs the bench extra")
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("bert", ""), folder)
    prompts = {"query": "Represent the query: ", "passage": "passage: "}
    settings = POOLINGS[pooling] | {"include_prompt": include_prompt}
    add_sentence_transformers_files(folder, pooling=settings, prompts=prompts)
    export(folder, tmp_path / "bundle", precisions=["fp32"])
    sample = [text for text in texts[::25] if text.strip()]
    reference = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    given = onnxpipe.load(tmp_path / "bundle", task="feature-extraction")(sample, prompt_name="query")
    np.testing.assert_allclose(np.stack(given), reference.encode(sample, prompt_name="query"), atol=1e-4)
