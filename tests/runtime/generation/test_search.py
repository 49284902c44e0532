"""Searches over scores that depend on the last token alone, so that every step can be worked out by hand."""

from collections.abc import Sequence
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from onnxpipe.errors import InvalidInput
from onnxpipe.generation.history import History
from onnxpipe.generation.options import resolve
from onnxpipe.generation.results import Generated, LogprobOptions, Step
from onnxpipe.generation.search import make_search
from onnxpipe.records import FieldError

EOS = 0
# probabilities of the next token (columns) behind each (rows)
CHAIN = np.array(
    [
        [1.0, 0.0, 0.0, 0.0],
        [0.1, 0.0, 0.5, 0.4],
        [0.3, 0.3, 0.0, 0.4],
        [0.9, 0.05, 0.05, 0.0],
    ]
)
with np.errstate(divide="ignore"):
    LOGITS = np.log(CHAIN).astype(np.float32)


def run(
    given: dict[str, Any], prompt: Sequence[int] = (1,), steps: list[Step] | None = None, **extra: Any
) -> list[Generated]:
    options = resolve({"eos_token_id": EOS, "max_new_tokens": 8, **given})
    search = make_search(options, np.array(prompt), max_length=options.total_length(len(prompt)), **extra)
    rows = np.array([prompt])
    while search.rows:
        assert search.rows == len(rows)
        logits = LOGITS[rows[:, -1]]
        before = logits.copy()
        step = search.step(logits)
        np.testing.assert_array_equal(logits, before)
        if steps is not None:
            steps.append(step)
        rows = np.concatenate([rows[step.parents], step.tokens[:, None]], axis=1)
    return search.results()


def test_greedy_search_takes_the_best_until_the_end() -> None:
    (text,) = run({})
    assert (text.ids.tolist(), text.finish_reason) == ([2, 3, EOS], "eos_token")
    assert text.score is text.logprobs is text.seed is None


def test_a_text_of_the_greatest_length_ends_there() -> None:
    (text,) = run({"max_new_tokens": 2})
    assert (text.ids.tolist(), text.finish_reason) == ([2, 3], "length")


def test_an_end_at_the_greatest_length_counts_as_end() -> None:
    assert run({"max_new_tokens": 3})[0].finish_reason == "eos_token"


def test_time_that_is_up_ends_all_texts() -> None:
    options = resolve({"do_sample": True, "n": 3, "seed": 1, "max_new_tokens": 9})
    search = make_search(options, np.array([1]), max_length=10)
    step = search.step(LOGITS[[1]], last=True)
    assert (search.rows, len(step.parents), len(step.choices)) == (0, 0, 3)
    assert [text.finish_reason for text in search.results()] == ["length"] * 3
    options = resolve({"num_beams": 2, "max_new_tokens": 9, "eos_token_id": EOS})
    search = make_search(options, np.array([1]), max_length=10)
    search.step(LOGITS[[1]], last=True)
    assert search.rows == 0
    assert [text.ids.tolist() for text in search.results()] == [[2]]


def test_a_callback_may_end_a_text() -> None:
    seen = []

    def stops(sequence: int | None, ids: np.ndarray) -> bool:
        seen.append((sequence, ids.tolist()))
        return ids[-1] == 3

    (text,) = run({}, stops=stops)
    assert (text.ids.tolist(), text.finish_reason) == ([2, 3], "stop_sequence")
    assert seen == [(0, [2]), (0, [2, 3])]


def test_each_choice_is_told_with_what_was_asked_for() -> None:
    steps: list[Step] = []
    (text,) = run({}, steps=steps, logprobs=LogprobOptions(top_n=2))
    choices = [choice for step in steps for choice in step.choices]
    assert [choice.token for choice in choices] == [2, 3, EOS]
    assert [choice.finish_reason for choice in choices] == [None, None, "eos_token"]
    np.testing.assert_allclose([choice.logprob or 0 for choice in choices], np.log([0.5, 0.4, 0.9]), rtol=1e-5)
    assert [[token for token, _ in choice.top] for choice in choices] == [[2, 3], [3, 0], [0, 1]]
    assert text.top == tuple(choice.top for choice in choices)
    assert text.score == pytest.approx(np.log([0.5, 0.4, 0.9]).mean())


def test_log_probabilities_are_those_of_the_scores_or_of_the_model() -> None:
    given = {"suppress_tokens": [2]}
    processed = run(given, logprobs=LogprobOptions(top_n=4))[0]
    raw = run(given, logprobs=LogprobOptions(of="logits", top_n=4))[0]
    assert processed.logprobs is not None
    assert raw.logprobs is not None
    assert np.exp(processed.logprobs[0]) == pytest.approx(0.4 / 0.5)
    assert np.exp(raw.logprobs[0]) == pytest.approx(0.4)
    assert [token for token, _ in processed.top[0]] == [3, 0]
    assert [token for token, _ in raw.top[0]] == [2, 3, 0]


def test_the_same_seed_draws_the_same_text_alone_and_among_others() -> None:
    (alone,) = run({"do_sample": True, "seed": 5})
    several = run({"do_sample": True, "seed": 5, "n": 4})
    assert several[0].ids.tolist() == alone.ids.tolist()
    assert alone.seed == 5
    other = [run({"do_sample": True, "seed": seed})[0].ids.tolist() for seed in range(20)]
    assert len({tuple(ids) for ids in other}) > 3


def test_without_a_seed_the_one_that_was_drawn_is_told() -> None:
    (text,) = run({"do_sample": True})
    assert run({"do_sample": True, "seed": text.seed})[0].ids.tolist() == text.ids.tolist()


def test_rows_leave_when_their_text_ends() -> None:
    steps: list[Step] = []
    texts = run({"do_sample": True, "seed": 0, "n": 6}, steps=steps)
    assert steps[0].parents.tolist() == [0] * len(steps[0].parents)
    assert sorted(choice.sequence for choice in steps[0].choices) == [0, 1, 2, 3, 4, 5]
    for step in steps:
        assert len(step.tokens) == sum(choice.finish_reason is None for choice in step.choices)
    for number, text in enumerate(texts):
        told = [choice.token for step in steps for choice in step.choices if choice.sequence == number]
        assert told == text.ids.tolist()


def test_the_best_of_several_has_the_highest_mean_log_probability_and_the_losers_keep_their_order() -> None:
    drawn = run({"do_sample": True, "seed": 3, "num_return_sequences": 6}, logprobs=LogprobOptions())
    assert all(text.score == pytest.approx(text.logprobs.mean()) for text in drawn if text.logprobs is not None)
    ranked = sorted(range(6), key=lambda number: -(drawn[number].score or 0.0))
    for wanted in (1, 2):
        texts = run({"do_sample": True, "seed": 3, "best_of": 6, "num_return_sequences": wanted})
        expected = ranked[:wanted] + sorted(ranked[wanted:])
        assert [text.ids.tolist() for text in texts] == [drawn[number].ids.tolist() for number in expected]


def test_beams_find_a_text_that_is_likelier_than_the_greedy_one() -> None:
    best, second = run({"num_beams": 2, "num_return_sequences": 2})
    # 0.4 * 0.9 against 0.5 * 0.4 * 0.9, per token
    assert best.ids.tolist() == [3, EOS]
    assert best.score == pytest.approx(np.log(0.4 * 0.9) / 2)
    assert second.ids.tolist() == [2, 3, EOS]
    assert second.score == pytest.approx(np.log(0.5 * 0.4 * 0.9) / 3)
    assert {best.finish_reason, second.finish_reason} == {"eos_token"}


def test_beams_have_no_choices_to_stream() -> None:
    steps: list[Step] = []
    run({"num_beams": 2}, steps=steps)
    assert not any(step.choices for step in steps)


def test_beams_end_by_a_callback_too() -> None:
    texts = run(
        {"num_beams": 2, "num_return_sequences": 2}, stops=lambda sequence, ids: sequence is None and ids[-1] == 3
    )
    assert [text.finish_reason for text in texts] == ["stop_sequence", "stop_sequence"]
    assert all(3 not in text.ids[:-1] for text in texts)


def test_groups_of_beams_avoid_each_others_tokens() -> None:
    given = {"num_beams": 2, "num_return_sequences": 2, "max_new_tokens": 1, "suppress_tokens": [EOS]}
    plain = run(given)
    diverse = run(given | {"num_beam_groups": 2, "diversity_penalty": 5.0})
    assert sorted(text.ids[0] for text in plain) == [2, 3]
    assert sorted(text.ids[0] for text in diverse) == [2, 3]
    strong = run(given | {"num_beam_groups": 2, "diversity_penalty": 0.01})
    assert [text.ids[0] for text in strong] == [2, 2]  # the second group may take the same


class Grammar:
    """Alternates between tokens 2 and 3, counting what it was told."""

    def __init__(self) -> None:
        self.texts: list[tuple[int, ...]] = [()]

    def __call__(self, tokens: np.ndarray, scores: np.ndarray) -> np.ndarray:
        assert [tuple(row) for row in tokens[:, 1:].tolist()] == self.texts
        changed = np.full_like(scores, -np.inf)
        for row, text in enumerate(self.texts):
            changed[row, 3 if text and text[-1] == 2 else 2] = 0
        return changed

    def follow(self, parents: np.ndarray, tokens: np.ndarray) -> None:
        self.texts = [(*self.texts[parent], int(token)) for parent, token in zip(parents, tokens, strict=True)]


@pytest.mark.parametrize("given", [{}, {"do_sample": True, "n": 3}, {"num_beams": 3}])
def test_a_processor_with_a_state_is_told_what_becomes_of_the_rows(given: dict[str, Any]) -> None:
    for text in run(given | {"max_new_tokens": 5}, extra=[Grammar()]):
        assert text.ids.tolist() == [2, 3, 2, 3, 2]


def test_groups_of_beams_do_not_follow_a_grammar() -> None:
    with pytest.raises(FieldError, match="cannot follow a grammar"):
        run({"num_beams": 2, "num_beam_groups": 2, "diversity_penalty": 1.0}, extra=[Grammar()])


@pytest.mark.parametrize("given", [{}, {"do_sample": True}, {"num_beams": 2}, {"num_beams": 2, "do_sample": True}])
def test_when_no_token_may_follow_the_request_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="no token may follow"):
        run(given | {"suppress_tokens": [0, 1, 2, 3]})


def test_a_prompt_must_have_tokens_and_leave_room() -> None:
    for length, most in ((0, 5), (5, 5)):
        with pytest.raises(InvalidInput, match="expected a prompt of 1 to 4 tokens"):
            make_search(resolve({}), np.zeros(length, np.int64), max_length=most)


@hypothesis.given(seed=st.integers(0, 10**6), steps=st.integers(1, 200))
def test_histories_are_what_lists_would_be(seed: int, steps: int) -> None:
    generator = np.random.default_rng(seed)
    prompt = generator.integers(9, size=generator.integers(1, 6))
    history, rows = History(prompt), [prompt.tolist()]
    for _ in range(steps):
        count = int(generator.choice([len(rows), len(rows), len(rows), 1, 3]))
        parents, tokens = generator.integers(len(rows), size=count), generator.integers(9, size=count)
        history.extend(parents, tokens)
        rows = [[*rows[parent], token] for parent, token in zip(parents, tokens.tolist(), strict=True)]
        if len(rows) > 1 and generator.random() < 0.1:
            rows.pop()
            history.keep(list(range(len(rows))))
    assert history.tokens.tolist() == rows
    assert history.generated.tolist() == [row[len(prompt) :] for row in rows]
