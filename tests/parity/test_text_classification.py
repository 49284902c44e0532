"""text-classification beside transformers 4.57.6 on the same weights."""

from collections.abc import Callable
from pathlib import Path

import pytest

import onnxpipe

pytest.importorskip("optimum", reason="parity needs the export extra")
from transformers import pipeline as reference_pipeline

from zoo import families

HEAD = "ForSequenceClassification"


def in_pairs(texts: list[str]) -> list[dict[str, str]]:
    return [{"text": first, "text_pair": second} for first, second in zip(texts[::2], texts[1::2], strict=False)]


def same_labels(given: list[list], expected: list[list[dict]]) -> None:
    """Same labels in the same order, unless the reference's own scores tie; scores within 1e-4."""
    for ours, theirs in zip(given, expected, strict=True):
        assert [item.score for item in ours] == pytest.approx([item["score"] for item in theirs], abs=1e-4)
        scores = {item["label"]: item["score"] for item in theirs}
        for place, (left, right) in enumerate(zip(ours, theirs, strict=True)):
            assert scores[left.label] == pytest.approx(right["score"], abs=1e-6), (place, ours, theirs)


@pytest.mark.parametrize("family", families(HEAD))
def test_labels_order_and_scores_equal_the_reference_on_hard_texts(
    family: str, tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], texts: list[str]
) -> None:
    reference = reference_pipeline("text-classification", str(tiny_model(family, HEAD)), top_k=None, device="cpu")
    given = onnxpipe.load(tiny_bundle(family, HEAD))(texts)
    same_labels(given, reference(texts, truncation=True))


@pytest.mark.parametrize("family", families(HEAD))
def test_pairs_of_texts_equal_the_reference(
    family: str, tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], texts: list[str]
) -> None:
    reference = reference_pipeline("text-classification", str(tiny_model(family, HEAD)), top_k=None, device="cpu")
    pairs = in_pairs(texts)
    # the reference unwraps nothing for a list of pairs, but takes them one by one only
    expected = [reference(pair, truncation=True) for pair in pairs]
    same_labels(onnxpipe.load(tiny_bundle(family, HEAD))(pairs), expected)


@pytest.mark.parametrize("family", families(HEAD))
def test_special_tokens_that_users_write_equal_the_reference_beside_other_texts_and_pairs(
    family: str, tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], texts: list[str]
) -> None:
    reference = reference_pipeline("text-classification", str(tiny_model(family, HEAD)), top_k=None, device="cpu")
    tokens = {"</s>", "[SEP]", *reference.tokenizer.all_special_tokens}
    forms = ("{0}", "one {0} two", "one{0}two", "{0} {0}{0} one", "one {0}", "{0}" * 100)
    written = [form.format(token) for token in sorted(tokens) for form in forms]
    # some in pairs: in a batch, rows differ in how many of each token they hold
    inputs = [*written, *in_pairs(written), *texts[:20], *in_pairs(texts[:20])]
    # one by one: BART's own classifier refuses a batch whose rows differ in end tokens
    expected = [reference(given if isinstance(given, dict) else [given], truncation=True) for given in inputs]
    expected = [
        answer if isinstance(given, dict) else answer[0] for given, answer in zip(inputs, expected, strict=True)
    ]
    same_labels(onnxpipe.load(tiny_bundle(family, HEAD))(inputs), expected)


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "electra"])
def test_rerankers_score_a_query_beside_passages_as_the_reference(
    family: str, tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], texts: list[str]
) -> None:
    source = tiny_model(family, HEAD, num_labels=1)
    reference = reference_pipeline("text-classification", str(source), top_k=None, device="cpu")
    pairs = [{"text": "Who may take part in the government?", "text_pair": text} for text in texts[::3]]
    expected = [reference(pair, truncation=True) for pair in pairs]
    same_labels(onnxpipe.load(tiny_bundle(family, HEAD, num_labels=1))(pairs), expected)


@pytest.mark.parametrize("function", ["sigmoid", "softmax", "none"])
def test_function_to_apply_equals_the_reference(
    function: str, tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], texts: list[str]
) -> None:
    reference = reference_pipeline("text-classification", str(tiny_model("bert", HEAD)), top_k=3, device="cpu")
    given = onnxpipe.load(tiny_bundle("bert", HEAD))(texts[::3], function_to_apply=function, top_k=3)
    same_labels(given, reference(texts[::3], truncation=True, function_to_apply=function))


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
    given = onnxpipe.load(tiny_bundle("bert", HEAD, **config))(texts[::3])
    same_labels(given, reference(texts[::3], truncation=True))
