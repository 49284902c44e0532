import numpy as np
import pytest

from onnxpipe.errors import InvalidInput
from onnxpipe.generation.options import resolve
from onnxpipe.generation.search import make_search
from onnxpipe.generation.watermark import WatermarkOptions, detect, watermark

VOCABULARY = 1000
SCHEMES = [
    WatermarkOptions(),
    WatermarkOptions(seeding_scheme="selfhash", context_width=4),
    WatermarkOptions(greenlist_ratio=0.5, bias=2.5, hashing_key=2**40 + 7),
]


def write(mark: WatermarkOptions | None, length: int, seed: int) -> np.ndarray:
    """Tokens drawn from a model without any preference of its own."""
    options = resolve({"do_sample": True, "seed": seed, "max_new_tokens": length, "watermark": mark})
    search = make_search(options, np.array([7, 8, 9, 10]), max_length=4 + length)
    generator = np.random.default_rng(seed)
    while search.rows:
        search.step(generator.normal(size=(1, VOCABULARY)).astype(np.float32))
    (text,) = search.results()
    return text.ids


@pytest.mark.parametrize("mark", SCHEMES)
def test_a_marked_text_is_detected_and_a_plain_one_is_not(mark: WatermarkOptions) -> None:
    for seed in range(3):
        found = detect(write(mark, 200, seed), mark)
        assert found.z_score > 6
        assert found.p_value < 1e-8
        plain = detect(write(None, 200, seed), mark)
        assert abs(plain.z_score) < 3.5
        assert plain.p_value > 1e-4


def test_another_key_finds_nothing() -> None:
    other = WatermarkOptions(hashing_key=4)
    assert abs(detect(write(SCHEMES[0], 200, 0), other).z_score) < 3.5


@pytest.mark.parametrize("mark", SCHEMES)
def test_the_green_part_of_the_vocabulary_has_the_given_ratio_and_gets_the_bias(mark: WatermarkOptions) -> None:
    scores = np.zeros((50, 20_000), np.float32)
    tokens = np.random.default_rng(0).integers(20_000, size=(50, 6))
    changed = watermark(mark)(tokens, scores)
    assert set(np.unique(changed).tolist()) == {0.0, mark.bias}
    assert (changed > 0).mean() == pytest.approx(mark.greenlist_ratio, abs=0.01)
    # lists of different contexts are independent of each other
    both = (changed[0] > 0) & (changed[1] > 0)
    assert both.mean() == pytest.approx(mark.greenlist_ratio**2, abs=0.02) or mark.seeding_scheme == "selfhash"


def test_z_scores_of_plain_texts_are_those_of_chance() -> None:
    generator = np.random.default_rng(1)
    scores = [detect(generator.integers(50_000, size=300), WatermarkOptions()).z_score for _ in range(200)]
    assert np.mean(scores) == pytest.approx(0, abs=0.25)
    assert np.std(scores) == pytest.approx(1, abs=0.2)


def test_a_text_that_repeats_itself_is_judged_once() -> None:
    ids = np.array([1, 2] * 100)
    assert detect(ids, WatermarkOptions()).judged == 2
    assert detect(ids, WatermarkOptions(), ignore_repeated=False).judged == 199


def test_a_text_too_short_to_judge_is_refused() -> None:
    with pytest.raises(InvalidInput, match="expected at least 2 tokens"):
        detect(np.array([1]), WatermarkOptions())


def test_a_row_shorter_than_the_context_is_left_alone() -> None:
    scores = np.zeros((1, 10), np.float32)
    mark = WatermarkOptions(seeding_scheme="selfhash", context_width=3)
    assert watermark(mark)(np.array([[1, 2]]), scores) is scores
