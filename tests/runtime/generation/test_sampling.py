import numpy as np
import pytest

from onnxpipe.errors import InvalidInput
from onnxpipe.generation.sampling import draw, draw_several, make_generators, settled_seed, token_logprobs, top_tokens


def test_tokens_come_as_often_as_their_probabilities_say() -> None:
    generator = np.random.default_rng(0)
    for size in (3, 40, 700):  # the last in several blocks
        scores = generator.normal(size=size).astype(np.float32)
        scores[size // 2] = -np.inf
        probabilities = np.exp(scores) / np.exp(scores).sum()
        draws = 20_000
        counts = np.bincount([draw(scores, generator) for _ in range(draws)], minlength=size)
        assert counts[size // 2] == 0
        expected = np.delete(probabilities, size // 2) * draws
        statistic = float(((np.delete(counts, size // 2) - expected) ** 2 / expected).sum())
        freedom = size - 2
        # four standard deviations of the chi-square distribution
        assert abs(statistic - freedom) < 4 * np.sqrt(2 * freedom) + 4


def test_several_tokens_are_drawn_without_putting_them_back() -> None:
    generator = np.random.default_rng(1)
    probabilities = np.array([0.5, 0.3, 0.2])
    scores = np.log(probabilities).astype(np.float32)
    pairs = [tuple(draw_several(scores, 2, generator).tolist()) for _ in range(20_000)]
    for first in range(3):
        for second in range(3):
            share = pairs.count((first, second)) / len(pairs)
            rest = probabilities[second] / (1 - probabilities[first]) if first != second else 0
            assert share == pytest.approx(probabilities[first] * rest, abs=0.012)


def test_fewer_are_drawn_where_fewer_can_come() -> None:
    scores = np.array([-np.inf, 1.0, -np.inf, 2.0, -500.0], np.float32)
    assert sorted(draw_several(scores, 4, np.random.default_rng(0)).tolist()) == [1, 3]
    assert draw_several(np.full(4, -np.inf, np.float32), 2, np.random.default_rng(0)).tolist() == []


def test_a_row_draws_the_same_however_many_there_are() -> None:
    alone, together = make_generators(9, 1), make_generators(9, 4)
    assert alone[0].random() == together[0].random()
    assert len({generator.random() for generator in together}) == 4


def test_seeds_of_nobody_differ() -> None:
    seeds = {settled_seed(None) for _ in range(20)}
    assert len(seeds) == 20
    assert max(seeds) < 2**64


@pytest.mark.parametrize("scores", [[-np.inf, -np.inf], [np.nan, np.nan], [np.inf, 0.0]])
def test_without_any_token_left_nothing_is_drawn(scores: list[float]) -> None:
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(InvalidInput, match="no token may follow"),
    ):
        draw(np.array(scores, np.float32), np.random.default_rng(0))


def test_log_probabilities_are_those_of_the_softmax() -> None:
    scores = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]], np.float32)) + 3
    np.testing.assert_allclose(token_logprobs(scores, np.array([1, 2])), np.log([0.25, 0.7]), rtol=1e-5)
    ids, values = zip(*top_tokens(scores[0], 2), strict=True)
    assert ids == (0, 1)  # of equals the first
    np.testing.assert_allclose(values, np.log([0.5, 0.25]), rtol=1e-5)


def test_tokens_that_cannot_come_are_not_among_the_top() -> None:
    assert top_tokens(np.array([-np.inf, 2.0, -np.inf], np.float32), 3) == [(1, 0.0)]
    assert top_tokens(np.zeros(3, np.float32), 0) == []
