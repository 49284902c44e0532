"""The benchmark of search steps compares the same work."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="the reference needs the export extra")
from onnxpipe_bench.logits_speed import CASES, Case, our_step, reference_step


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_both_sides_take_a_step_and_without_chance_the_same(case: Case) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(case.rows, 300)).astype(np.float32)
    logits[:, 2] = -30
    prompt = generator.integers(300, size=20)
    ours, theirs = our_step(case, prompt, logits)(), reference_step(case, prompt, logits)()
    if case.name == "greedy":
        assert ours.tokens.tolist() == theirs.tolist()
    if "num_beams" not in case.options:
        assert len(ours.tokens) == len(theirs) == case.rows
