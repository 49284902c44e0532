"""fill-mask beside transformers 4.57.6 on the same weights."""

from collections.abc import Callable
from pathlib import Path

import pytest

import onnxpipe
from onnxpipe.errors import InvalidInput

pytest.importorskip("optimum", reason="parity needs the export extra")
from transformers import pipeline as reference_pipeline

from zoo import families

HEAD = "ForMaskedLM"
CUT = {"tokenizer_kwargs": {"truncation": True}}


@pytest.fixture(params=families(HEAD))
def pair(request: pytest.FixtureRequest, tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path]) -> tuple:
    """Our pipeline and the reference's, of one family."""
    model = str(tiny_model(request.param, HEAD))
    return onnxpipe.load(tiny_bundle(request.param, HEAD)), reference_pipeline("fill-mask", model, device="cpu")


def put_masks(texts: list[str], mask: str) -> list[str]:
    """The texts with a mask at the start, in the middle, at the end, and with several."""
    masked = []
    for index, text in enumerate(texts):
        left, right = text[: len(text) // 2], text[len(text) // 2 :]
        shapes = (f"{mask} {text}", f"{left}{mask}{right}", f"{text} {mask}.", f"{mask}{left} {mask} {mask}, {right}")
        masked.append(shapes[index % len(shapes)])
    return masked


def keeps_its_masks(text: str, reference: Callable) -> bool:
    """Whether truncation leaves every mask; the reference drops those behind it."""
    mask = reference.tokenizer.mask_token_id
    kept, all_of_it = (reference.tokenizer(text, truncation=cut, verbose=False)["input_ids"] for cut in (True, False))
    return kept.count(mask) == all_of_it.count(mask)


def same_fills(given: list, expected: list) -> None:
    """Same tokens in the same order, unless the reference's own scores tie; scores within 1e-4."""
    assert len(given) == len(expected)
    if isinstance(expected[0], list):
        for ours, theirs in zip(given, expected, strict=True):
            same_fills(ours, theirs)
        return
    assert [item.score for item in given] == pytest.approx([item["score"] for item in expected], abs=1e-4)
    by_token = {item["token"]: item for item in expected}
    for ours, theirs in zip(given, expected, strict=True):
        twin = by_token[ours.token]
        assert twin["score"] == pytest.approx(theirs["score"], abs=1e-6), (given, expected)
        assert (ours.sequence, ours.token_str) == (twin["sequence"], twin["token_str"])


def test_fills_equal_the_reference_on_hard_texts(pair: tuple, texts: list[str]) -> None:
    ours, reference = pair
    masked = put_masks(texts[::2], ours.model.tokenizer.special("mask_token"))
    fitting = [text for text in masked if keeps_its_masks(text, reference)]
    assert len(fitting) >= 200
    for given, text in zip(ours(fitting), fitting, strict=True):
        same_fills(given, reference(text, **CUT))
    for text in set(masked) - set(fitting):
        with pytest.raises(InvalidInput, match="stands beyond the model's limit"):
            ours(text)


def test_targets_equal_the_reference(pair: tuple, texts: list[str]) -> None:
    ours, reference = pair
    mask = ours.model.tokenizer.special("mask_token")
    words = [word for text in texts[::40] for word in text.split()[:2]]
    for start in range(0, len(words), 4):
        targets = words[start : start + 4]
        for text in (f"{mask} of the people.", f"the {mask} and {mask}"):
            same_fills(ours(text, targets=targets, top_k=3), reference(text, targets=targets, top_k=3))
        same_fills(ours(f"a {mask}", targets=targets[0]), reference(f"a {mask}", targets=targets[0]))


def test_the_whole_vocabulary_equals_the_reference_which_crashes_beyond(pair: tuple) -> None:
    ours, reference = pair
    text = f"All human beings are {ours.model.tokenizer.special('mask_token')}."
    size = reference.model.config.vocab_size
    given = ours(text, top_k=size + 1)
    expected = {item["token"]: item for item in reference(text, top_k=size)}
    assert len(given) == size
    for item in given:
        twin = expected[item.token]
        assert item.score == pytest.approx(twin["score"], abs=1e-4)
        assert (item.sequence, item.token_str) == (twin["sequence"], twin["token_str"])
    with pytest.raises(RuntimeError, match="out of range"):
        reference(text, top_k=size + 1)


def test_a_list_of_one_is_not_unwrapped_as_the_reference_does(pair: tuple) -> None:
    ours, reference = pair
    text = f"All human {ours.model.tokenizer.special('mask_token')} are born free."
    same_fills(ours([text])[0], reference([text]))
