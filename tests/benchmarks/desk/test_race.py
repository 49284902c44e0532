"""Races of made-up times: who is slower for sure leaves, who is as good stays."""

import numpy as np
import pytest

from onnxpipe_bench.desk import race as module
from onnxpipe_bench.desk.race import BLOCK, Race
from onnxpipe_bench.desk.timing import BURST


@pytest.fixture
def race(monkeypatch):
    """Makes a race whose candidates take their mean and 5 % more or less; all share each turn's luck."""

    def make(**means):
        draws = np.random.default_rng(0)

        def take_turns(calls, turns):
            luck = draws.normal(1, 0.05, turns).repeat(BURST)
            return {name: list(call() * luck * draws.normal(1, 0.05, len(luck))) for name, call in calls.items()}

        monkeypatch.setattr(module, "take_turns", take_turns)
        found = Race({name: {16: [], 64: []} for name in means})
        found.calls = {
            name: {16: lambda mean=mean: mean, 64: lambda mean=mean: 3 * mean} for name, mean in means.items()
        }
        return found

    return make


def run(race, percentile=50):
    while not (race.turns and race.is_over(percentile)):
        race.run_block(race.calls)
        race.eliminate(percentile)
    return race


def test_the_fastest_is_left(race):
    found = run(race(slow=4.0, fast=2.0, middle=3.0))
    assert found.alive == ["fast"]
    assert "slower than (fast) after 4 turns" in found.out["slow"]


def test_who_is_as_fast_stays_and_is_a_tie(race):
    found = run(race(one=2.0, same=2.0, slow=2.5))
    assert sorted(found.alive) == ["one", "same"]
    assert sorted(found.ties(50)) == ["one", "same"]


def test_little_difference_wants_more_than_a_first_look(race):
    found = race(fast=2.0, slower=2.2)
    found.run_block(found.calls)
    assert found.eliminate(50) == []
    run(found)
    assert found.alive == ["fast"]
    assert found.turns > BLOCK


def test_a_race_ends_however_close_it_is(race, monkeypatch):
    monkeypatch.setattr(module, "TIE", 0.0)
    monkeypatch.setattr(module, "_MOST_TURNS", 3 * BLOCK)
    found = run(race(one=2.0, same=2.0))
    assert found.turns == 3 * BLOCK


def test_turns_are_those_of_who_is_left(race):
    found = race(fast=2.0, slow=5.0)
    assert (found.turns, found.alive) == (0, ["fast", "slow"])
    run(found)
    assert len(found.times["slow"][16]) == BLOCK * BURST
