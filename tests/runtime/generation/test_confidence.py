import numpy as np
import pytest

from onnxpipe.generation.confidence import TokenScores, compression_ratio

END = 2
# log probabilities that add up to 1, so that softmax leaves them alone
STEP = np.log(np.array([0.5, 0.3, 0.2], np.float32))


def test_the_mean_counts_every_token_and_the_end():
    scores = TokenScores(1, (END,))
    for tokens in ([9], [9, 0], [9, 0, 1]):
        assert scores(np.array([tokens]), STEP[None]) == pytest.approx(STEP[None])
    assert scores.mean(np.array([0, 1, END])) == pytest.approx(np.log([0.5, 0.3, 0.2]).mean())
    # an end that came earlier, as beams have them, and a text that the length cut off
    assert scores.mean(np.array([0, END])) == pytest.approx(np.log([0.5, 0.2]).mean())
    assert scores.mean(np.array([0, 1, 1])) == pytest.approx(np.log([0.5, 0.3, 0.3]).mean())


def test_what_may_not_come_has_no_share():
    scores = TokenScores(0, (END,))
    with np.errstate(invalid="ignore"):
        scores(np.zeros((1, 0), np.int64), np.array([[STEP[0], -np.inf, STEP[2]]], np.float32))
    assert scores.mean(np.array([0])) == pytest.approx(np.log(0.5 / 0.7))


def test_rows_follow_their_own_tokens():
    scores = TokenScores(0, (END,))
    scores(np.zeros((1, 0), np.int64), STEP[None])
    scores(np.array([[1], [0]]), np.stack([STEP, STEP[::-1]]))
    assert scores.mean(np.array([0, 1])) == pytest.approx(np.log([0.5, 0.3]).mean())
    assert scores.mean(np.array([0, END])) == pytest.approx(np.log([0.5, 0.5]).mean())


def test_a_text_that_repeats_itself_can_be_compressed():
    repeated, drawn = np.tile([7, 8, 9], 40), np.random.default_rng(0).integers(0, 50000, 120)
    assert compression_ratio(repeated, 51865) > 10 > 2 > compression_ratio(drawn, 51865)
