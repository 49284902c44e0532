"""text-classification beside transformers 4.57.6 on the same weights."""

from collections.abc import Callable
from pathlib import Path

import pytest

import onnxpipe

pytest.importorskip("optimum", reason="parity needs the export extra")
from transformers import pipeline as reference_pipeline

from zoo import FAMILIES

HEAD = "ForSequenceClassification"


def same_labels(given: list[list], expected: list[list[dict]]) -> None:
    """Same labels in the same order, unless the reference's own scores tie; scores within 1e-4."""
    for ours, theirs in zip(given, expected, strict=True):
        assert [item.score for item in ours] == pytest.approx([item["score"] for item in theirs], abs=1e-4)
        scores = {item["label"]: item["score"] for item in theirs}
        for place, (left, right) in enumerate(zip(ours, theirs, strict=True)):
            assert scores[left.label] == pytest.approx(right["score"], abs=1e-6), (place, ours, theirs)


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_order_and_scores_equal_the_reference_on_hard_texts(
    family: str, tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], texts: list[str]
) -> None:
    reference = reference_pipeline("text-classification", str(tiny_model(family, HEAD)), top_k=None, device="cpu")
    given = onnxpipe.load(tiny_bundle(family, HEAD))(texts)
    same_labels(given, reference(texts, truncation=True))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("function", ["sigmoid", "softmax", "none"])
def test_function_to_apply_equals_the_reference(
    family: str, function: str, tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], texts: list[str]
) -> None:
    reference = reference_pipeline("text-classification", str(tiny_model(family, HEAD)), top_k=3, device="cpu")
    given = onnxpipe.load(tiny_bundle(family, HEAD))(texts[:60], function_to_apply=function, top_k=3)
    same_labels(given, reference(texts[:60], truncation=True, function_to_apply=function))


@pytest.mark.parametrize("family", FAMILIES)
def test_pairs_of_texts_equal_the_reference(
    family: str, tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], texts: list[str]
) -> None:
    reference = reference_pipeline("text-classification", str(tiny_model(family, HEAD)), top_k=None, device="cpu")
    pairs = [{"text": first, "text_pair": second} for first, second in zip(texts[::4], texts[2::4], strict=False)]
    # the reference unwraps nothing for a list of pairs, but takes them one by one only
    expected = [reference(pair, truncation=True) for pair in pairs]
    same_labels(onnxpipe.load(tiny_bundle(family, HEAD))(pairs), expected)


@pytest.mark.parametrize(
    "config",
    [
        {"num_labels": 1},
        {"num_labels": 1, "problem_type": "regression"},
        {"num_labels": 3, "problem_type": "multi_label_classification"},
    ],
    ids=["one-logit", "regression", "multi-label"],
)
def test_the_default_activation_is_that_of_the_reference(
    config: dict[str, object], tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], texts: list[str]
) -> None:
    source = tiny_model("bert", HEAD, **config)
    reference = reference_pipeline("text-classification", str(source), top_k=None, device="cpu")
    given = onnxpipe.load(tiny_bundle("bert", HEAD, **config))(texts[:40])
    same_labels(given, reference(texts[:40], truncation=True))
