"""Scores before and after each processor, recorded by transformers' own tests.

`filter_value` is what the reference puts in the place of a removed token: ours is always -inf, replaced here.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from onnxpipe.generation import logits, warpers
from onnxpipe.generation.logits import Processor

NAMES = (
    "min_length",
    "min_new_tokens",
    "temperature",
    "repetition_penalty",
    "encoder_repetition_penalty",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "no_repeat_ngram",
    "encoder_no_repeat_ngram",
    "bad_words",
    "sequence_bias",
    "prefix_allowed_tokens",
    "hamming_diversity",
    "forced_bos",
    "forced_eos",
    "remove_invalid_values",
    "exponential_decay_length_penalty",
    "renormalize_logits",
    "classifier_free_guidance",
    "bark_eos_prioritizer",
)
SPECIAL = {
    "nan": np.nan,
    "inf": np.inf,
    "-inf": -np.inf,
    "float32_max": np.finfo(np.float32).max,
    "float32_min(lowest)": np.finfo(np.float32).min,
}


@pytest.fixture(scope="module")
def cases(test_data: Path) -> list[dict]:
    file = test_data / "golden/logits_processors.json"
    return json.loads(file.read_text(encoding="utf-8"))["cases"]


def numbers(rows: list[list[float | str]]) -> np.ndarray:
    return np.array([[SPECIAL.get(value, value) for value in row] for row in rows], np.float32)


def ids(rows: list[list[int]]) -> np.ndarray:
    return np.array(rows, np.int64)


def run(processor: Processor, tokens: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The processed scores, after a check that neither input was changed."""
    before = tokens.copy(), scores.copy()
    processed = processor(tokens, scores)
    assert processed.dtype == np.float32
    np.testing.assert_array_equal(before[0], tokens)
    np.testing.assert_array_equal(before[1], scores)
    return processed


def check_outcome(case: Mapping, processed: np.ndarray) -> None:
    if "scores_out" in case:
        np.testing.assert_allclose(processed, numbers(case["scores_out"]), rtol=1e-6)
    if "probs_out" in case:
        np.testing.assert_allclose(np.exp(processed), case["probs_out"], atol=1e-3)
    if "filtered" in case:
        assert np.isneginf(processed).tolist() == case["filtered"]
    replaced = np.where(np.isneginf(processed), case.get("filter_value", -np.inf), processed)
    if "zeros_per_row" in case:
        assert (replaced == 0).sum(axis=1).tolist() == case["zeros_per_row"]
    if "nonzero_per_row" in case:
        assert (replaced != 0).sum(axis=1).tolist() == case["nonzero_per_row"]
    for place, value in case.get("expect", {}).items():
        row, token = map(int, place.split(","))
        assert processed[row, token] == pytest.approx(value)


def check_processor(case: Mapping) -> None:
    """Cases that say what goes in and what comes out."""
    if "probs_in" in case:
        with np.errstate(divide="ignore"):
            scores = np.log(np.array(case["probs_in"], np.float32))
    else:
        scores = numbers(case["scores_in"])
    tokens = ids(case.get("input_ids", [[0]] * len(scores)))
    keep = case.get("min_tokens_to_keep", 1)
    makers: dict[str, Callable[[], Processor]] = {
        "repetition_penalty": lambda: logits.repetition_penalty(case["penalty"]),
        "top_k": lambda: warpers.top_k(case["top_k"], keep),
        "top_p": lambda: warpers.top_p(case["top_p"], keep),
        "min_p": lambda: warpers.min_p(case["min_p"], keep),
        "typical_p": lambda: warpers.typical_p(case["typical_p"], keep),
        "epsilon_cutoff": lambda: warpers.epsilon_cutoff(case["epsilon"], keep),
        "eta_cutoff": lambda: warpers.eta_cutoff(case["eta"], keep),
        "no_repeat_ngram": lambda: logits.no_repeat_ngram(case["ngram"]),
        "bad_words": lambda: logits.bad_words(case["bad_words_ids"], [case["eos_token_id"]]),
        "sequence_bias": lambda: logits.sequence_bias({tuple(key): bias for key, bias in case["sequence_bias"]}),
        "remove_invalid_values": lambda: logits.remove_invalid_values,
        "bark_eos_prioritizer": lambda: logits.prefer_end(case["min_eos_p"], case["eos_token_id"]),
    }
    check_outcome(case, run(makers[case["proc"]](), tokens, scores))


def check_by_source(case: Mapping) -> None:
    """Processors that know one source: the rows of each are a request of their own."""
    scores = numbers(case["scores_in"])
    beams = case.get("num_beams", 1)
    processed = []
    for number, source in enumerate(case["encoder_input_ids"]):
        rows = slice(number * beams, (number + 1) * beams)
        tokens = ids(case.get("input_ids", [[0]] * len(scores))[rows])
        if case["proc"] == "encoder_repetition_penalty":
            processor = logits.encoder_repetition_penalty(case["penalty"], np.array(source))
        else:
            processor = logits.encoder_no_repeat_ngram(case["ngram"], np.array(source))
        processed.append(run(processor, tokens, scores[rows]))
    check_outcome(case, np.concatenate(processed))


def check_prefix_allowed_tokens(case: Mapping) -> None:
    tokens, scores = ids(case["input_ids"]), numbers(case["scores_in"])
    allowed = dict(zip(map(tuple, case["input_ids"]), case["allowed_by_batch"], strict=True))
    check_outcome(case, run(logits.allow_only(lambda row: allowed[tuple(row.tolist())]), tokens, scores))
    with pytest.raises(ValueError, match="no token may follow"):
        logits.allow_only(lambda _: [])(tokens, scores)


def check_hamming_diversity(case: Mapping) -> None:
    scores = numbers(case["scores_in"])
    size = case["num_beams"] // case["num_beam_groups"]
    processed = []
    for number, row in enumerate(scores):  # one beam of this group for each source
        current = case["current_tokens"][number * case["num_beams"] :][: case["beam_group_idx"] * size]
        processed.append(logits.penalize_taken(row[None], np.array(current), case["diversity_penalty"])[0])
    check_outcome(case, np.array(processed))


def check_temperature(case: Mapping) -> None:
    scores = numbers(case["scores_in"])
    softmax = np.exp(warpers.renormalize(ids([[0], [0]]), scores))
    for value in case["temperatures"]:
        scaled = np.exp(warpers.renormalize(ids([[0], [0]]), run(warpers.temperature(value), ids([[0], [0]]), scores)))
        np.testing.assert_allclose(scaled[0], softmax[0], atol=1e-6)
        sharper = value < 1
        assert (scaled[1].max() > softmax[1].max()) == sharper
        assert (scaled[1].min() < softmax[1].min()) == sharper


def check_steps(case: Mapping) -> None:
    """Processors that depend on the length alone."""
    eos = np.atleast_1d(case.get("eos_token_id", case.get("bos_token_id")))
    makers: dict[str, Callable[[], Processor]] = {
        "min_length": lambda: logits.min_length(case["min_length"], eos),
        "min_new_tokens": lambda: logits.min_length(case["prompt_length"] + case["min_new_tokens"], eos),
        "forced_bos": lambda: logits.force_at(1, eos),
        "forced_eos": lambda: logits.force_at(case["max_length"] - 1, eos),
        "exponential_decay_length_penalty": lambda: logits.exponential_decay(
            case["start"] + case["prompt_length"], case["factor"], eos
        ),
    }
    processor = makers[case["proc"]]()
    for step in case["steps"]:
        sign = -1 if "negative" in step.get("scores", "") else 1
        scores = np.full((2, case["vocab"]), sign / 20, np.float32)
        processed = run(processor, np.zeros((2, step["cur_len"]), np.int64), scores)
        others = np.setdiff1d(np.arange(case["vocab"]), eos)
        outcome = step.get("out", "")
        if outcome.startswith("token 0 -> 0.0"):
            assert (processed[:, 0] == 0).all()
            assert np.isneginf(processed[:, others]).all()
            continue
        np.testing.assert_array_equal(processed[:, others], scores[:, others])
        if step.get("eos_is_neg_inf"):
            assert np.isneginf(processed[:, eos]).all()
        elif "greater" in outcome:
            power = step["cur_len"] - case["start"] - case["prompt_length"]
            expected = scores[:, eos] + np.abs(scores[:, eos]) * (case["factor"] ** power - 1)
            assert (processed[:, eos] > scores[:, eos]).all()
            np.testing.assert_allclose(processed[:, eos], expected, rtol=1e-5)
        else:
            assert outcome in ("", "unchanged", "eos score unchanged")
            np.testing.assert_array_equal(processed, scores)


def check_renormalize_logits(case: Mapping) -> None:
    scores = numbers(case["scores_in"])
    exact = scores.astype(np.float64)
    expected = exact - np.log(np.exp(exact).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(run(warpers.renormalize, ids([[0], [0]]), scores), expected, rtol=1e-6, atol=1e-6)


def check_classifier_free_guidance(case: Mapping) -> None:
    conditional, unconditional = numbers([case["logits_cond"]]), numbers([case["logits_uncond"]])
    scale = case["guidance_scale"]
    free, bound = (warpers.renormalize(ids([[0]]), given) for given in (unconditional, conditional))
    np.testing.assert_allclose(
        logits.guide(conditional, unconditional, scale), free + scale * (bound - free), rtol=1e-6
    )


CHECKS: dict[str, Callable[[Mapping], None]] = {
    "encoder_repetition_penalty": check_by_source,
    "encoder_no_repeat_ngram": check_by_source,
    "prefix_allowed_tokens": check_prefix_allowed_tokens,
    "hamming_diversity": check_hamming_diversity,
    "temperature": check_temperature,
    "renormalize_logits": check_renormalize_logits,
    "classifier_free_guidance": check_classifier_free_guidance,
    **dict.fromkeys(
        ("min_length", "min_new_tokens", "forced_bos", "forced_eos", "exponential_decay_length_penalty"), check_steps
    ),
}


def test_every_recorded_processor_is_checked(cases: list[dict]) -> None:
    assert {case["proc"] for case in cases} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_recorded_scores_come_out(name: str, cases: list[dict]) -> None:
    for case in cases:
        if case["proc"] == name:
            CHECKS.get(name, check_processor)(case)
