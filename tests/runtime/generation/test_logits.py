"""What golden and parity tests do not say: our own penalties, and where we differ from transformers."""

from collections.abc import Callable

import numpy as np
import pytest

from onnxpipe.errors import InvalidInput
from onnxpipe.generation import logits, warpers
from onnxpipe.generation.logits import Processor
from onnxpipe.generation.processors import process


def test_counts_of_generated_tokens_cost_frequency_and_presence_once() -> None:
    tokens = np.array([[5, 5, 1, 1, 2], [5, 5, 3, 4, 4]])  # the prompt is 5 5
    scores = np.zeros((2, 6), np.float32)
    changed = logits.count_penalty(0.5, 0.25, 2)(tokens, scores)
    np.testing.assert_allclose(changed, [[0, -1.25, -0.75, 0, 0, 0], [0, 0, 0, -0.75, -1.25, 0]])


def test_before_anything_is_generated_counts_change_nothing() -> None:
    scores = np.ones((1, 4), np.float32)
    assert logits.count_penalty(1.0, 1.0, 2)(np.array([[1, 2]]), scores) is scores


def test_negative_penalties_reward() -> None:
    changed = logits.count_penalty(-1.0, 0.0, 1)(np.array([[0, 1, 1]]), np.zeros((1, 3), np.float32))
    assert changed.tolist() == [[0.0, 2.0, 0.0]]


def test_every_row_of_a_request_is_rewarded_for_tokens_of_the_source() -> None:
    processor = logits.encoder_repetition_penalty(2.0, np.array([1, 1, 99]))  # 99: of another vocabulary
    changed = processor(np.zeros((2, 1), np.int64), np.full((2, 3), 3.0, np.float32))
    assert changed.tolist() == [[3.0, 6.0, 3.0], [3.0, 6.0, 3.0]]


def test_no_number_is_too_small_for_a_penalty_and_a_temperature_together() -> None:
    scores = np.array([[3.0, 2.0, np.finfo(np.float32).min]], np.float32)
    penalized = logits.repetition_penalty(5e-324)(np.array([[1, 2]]), scores)
    changed = warpers.temperature(5e-324)(np.array([[1, 2]]), penalized)
    assert changed.argmax() == 1
    assert np.isfinite(changed[0, :2]).all()


@pytest.mark.parametrize("left", [-np.inf, np.nan])
@pytest.mark.parametrize(
    "warper", [warpers.top_p, warpers.min_p, warpers.typical_p, warpers.epsilon_cutoff, warpers.eta_cutoff]
)
def test_a_row_without_a_token_that_may_come_keeps_none(warper: Callable[[float], Processor], left: float) -> None:
    scores = np.full((1, 4), left, np.float32)
    changed = process([warpers.top_k(2), warper(0.5)], np.zeros((1, 1), np.int64), scores)
    assert not (changed > -np.inf).any()


def test_a_banned_end_does_not_come_back_by_decay() -> None:
    scores = np.array([[-np.inf, np.finfo(np.float32).min, -2.0]], np.float32)
    changed = logits.exponential_decay(1, 3.0, [0, 1, 2])(np.zeros((1, 4), np.int64), scores)
    np.testing.assert_allclose(changed, [[-np.inf, np.finfo(np.float32).min, -2.0 + 2.0 * 26]])


def test_decay_over_many_steps_stays_finite() -> None:
    changed = logits.exponential_decay(0, 2.0, [0])(np.zeros((1, 5000), np.int64), np.full((1, 2), 3.0, np.float32))
    assert np.isfinite(changed).all()


def test_tokens_that_earlier_groups_took_twice_cost_twice() -> None:
    changed = logits.penalize_taken(np.zeros((1, 4), np.float32), np.array([1, 1, 3]), 0.5)
    assert changed.tolist() == [[0.0, -1.0, 0.0, -0.5]]


def test_biases_of_several_sequences_with_one_end_add_up() -> None:
    processor = logits.sequence_bias({(1, 2): 1.0, (0, 1, 2): 2.0, (2,): 4.0})
    changed = processor(np.array([[0, 0, 1], [0, 1, 0]]), np.zeros((2, 3), np.float32))
    assert changed.tolist() == [[0.0, 0.0, 7.0], [0.0, 0.0, 4.0]]


def test_a_row_must_have_a_token_it_may_take() -> None:
    with pytest.raises(InvalidInput, match="no token may follow"):
        logits.allow_only(lambda _: [])(np.zeros((1, 1), np.int64), np.zeros((1, 3), np.float32))
