"""The search on made-up errors: what it measures, in which order it goes, and where it ends."""

import pytest

from onnxpipe_export.sensitivity import protect

ERRORS = {"a": 8.0, "b": 1.0, "c": 4.0, "d": 0.0001}
FORMS = ("static", "smooth", "float")


class Maker:
    forms = FORMS
    fixed = frozenset({"e"})

    def cost(self, name, form):
        return {"static": 1.0, "smooth": 2.0, "float": 10.0}[form]


def share(form):
    return {"static": 1.0, "smooth": 0.25, "float": 0.0}[form]


def left(plan):
    return sum(ERRORS.get(name, 0.0) * share(form) for name, form in plan.items())


@pytest.fixture
def search():
    """The plan for a budget, and all that was measured on the way."""

    def run(budget, plan=None):
        asked, judged = [], []

        def noise(one):
            asked.append(next(iter(one.items())))
            return left(one)

        def judge(whole):
            judged.append(dict(whole))
            return [] if left(whole) <= budget else ["too far off"]

        plan = plan or dict.fromkeys(ERRORS, "static")
        return protect(Maker(), plan, ["too far off"], noise, judge), asked, judged

    return run


def test_the_worst_get_a_safer_form_and_no_more_than_it_takes(search):
    found, _, _ = search(7.5)
    assert found.problems == []
    assert found.plan == {"a": "smooth", "b": "static", "c": "static", "d": "static"}


def test_the_plan_that_is_returned_was_made_last(search):
    for budget in (12.0, 7.0, 5.0, 3.0, 2.0, 1.0, 0.1):
        found, _, judged = search(budget)
        assert found.plan == judged[-1]
        assert found.problems == []
        assert left(found.plan) <= budget


def test_products_go_back_to_float_one_after_the_other_where_nothing_else_helps(search):
    found, _, _ = search(1.0)
    assert found.plan["a"] == "float"
    assert found.plan["d"] == "static"


def test_what_contributes_next_to_nothing_is_not_tried_in_safer_forms(search):
    _, asked, _ = search(7.0)
    assert ("d", "smooth") not in asked
    assert ("b", "smooth") in asked


def test_a_form_that_was_chosen_by_hand_stays(search):
    found, asked, _ = search(0.5, {"a": "float", "b": "static", "d": "static", "e": "smooth"})
    assert (found.plan["a"], found.plan["e"]) == ("float", "smooth")
    assert {"a", "e"}.isdisjoint(name for name, _ in asked)


def test_where_nothing_but_float_is_good_enough_the_problem_is_told(search):
    found, _, judged = search(-1.0)
    assert found.problems == ["too far off"]
    assert set(found.plan.values()) == {"float"}
    assert found.plan not in judged
