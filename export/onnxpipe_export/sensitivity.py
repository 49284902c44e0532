"""Which products spoil a precision's answers, found by trying, and given a safer form until the answers are good.

What one site contributes is measured with all others in float. On MiniLM contributions add up: 24 of them come to
59e-4 of cosine, all together lose 62e-4. So steps are put in order without trying combinations: always the one that
takes away the most for its time. How many of them it takes is then found by measuring the whole.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from onnxpipe_export.maker import Maker, Plan
from onnxpipe_export.products import Form

# how much of what was left before may be left at the next try
_STRIDE = 0.75
# of the whole, what a site must contribute for forms between the first and float to be tried
_WORTH = 0.01

Step = tuple[str, Form]  # a site and the form it gets
Errors = Mapping[Step, float]


@dataclasses.dataclass(frozen=True)
class Protected:
    """A plan, and what is wrong with it still."""

    plan: Plan
    problems: list[str]


def protect(
    maker: Maker, plan: Plan, problems: list[str], noise: Callable[[Plan], float], judge: Callable[[Plan], list[str]]
) -> Protected:
    """The plan with the fewest steps that has no problems; with the last ones where all but float has some.

    `noise` measures how far outputs of a plan are off, sites that it does not name being in float; `judge` makes a plan
    and says what is wrong with it. The plan returned is the one that was made last.
    """
    free = {name: form for name, form in plan.items() if name not in maker.fixed and form != "float"}
    errors = _measure(maker, free, noise)
    steps = _order(maker, free, errors)
    failing, tried = 0, 0
    while problems and tried < len(steps):
        failing, tried = tried, _next(plan, steps, errors, tried)
        if set(_after(plan, steps[:tried]).values()) == {"float"}:
            break
        problems = judge(_after(plan, steps[:tried]))
    if problems:
        return Protected(_after(plan, steps), problems)
    last = tried
    while tried - failing > 1:
        last = (tried + failing) // 2
        if judge(_after(plan, steps[:last])):
            failing = last
        else:
            tried = last
    chosen = _after(plan, steps[:tried])
    return Protected(chosen, [] if last == tried else judge(chosen))


def _measure(maker: Maker, free: Plan, noise: Callable[[Plan], float]) -> dict[Step, float]:
    """What each site contributes in its form and in safer ones."""
    errors = {(name, form): noise({name: form}) for name, form in free.items()}
    whole = sum(errors.values())
    for name, form in free.items():
        worth = errors[name, form] >= _WORTH * whole
        for later in _safer(maker, form):
            errors[name, later] = 0.0 if later == "float" else noise({name: later}) if worth else errors[name, form]
    return errors


def _order(maker: Maker, free: Plan, errors: Errors) -> list[Step]:
    """Steps until all is in float, the one first that takes away the most error for its time."""
    forms, steps = dict(free), list[Step]()

    def gain(name: str, later: Form) -> float:
        form = forms[name]
        return (errors[name, form] - errors[name, later]) / max(1.0, maker.cost(name, later) - maker.cost(name, form))

    while any(form != "float" for form in forms.values()):
        choices = [(gain(name, later), name, later) for name, form in forms.items() for later in _safer(maker, form)]
        # what takes nothing away is no step, but float is the end of all
        _, name, later = max([choice for choice in choices if choice[0] > 0 or choice[2] == "float"])
        forms[name] = later
        steps.append((name, later))
    return steps


def _next(plan: Plan, steps: Sequence[Step], errors: Errors, tried: int) -> int:
    """How many steps to take at the next try."""
    forms = dict(_after(plan, steps[:tried]))
    left = _left(forms, errors)
    allowed, count = _STRIDE * left, tried
    while count < len(steps) and (left > allowed or count == tried):
        name, later = steps[count]
        left -= errors[name, forms[name]] - errors[name, later]
        forms[name] = later
        count += 1
    return count


def _left(plan: Plan, errors: Errors) -> float:
    return sum(errors.get((name, form), 0.0) for name, form in plan.items())


def _after(plan: Plan, steps: Sequence[Step]) -> Plan:
    return dict(plan) | dict(steps)


def _safer(maker: Maker, form: Form) -> tuple[Form, ...]:
    return maker.forms[maker.forms.index(form) + 1 :]
