import dataclasses
from collections.abc import Mapping

import pytest

from onnxpipe.load import load_model
from onnxpipe.verification.figures import Judge
from onnxpipe.verification.verifier import Verifier


@dataclasses.dataclass(frozen=True)
class Trial:
    """Texts of different lengths, for the classifier of single words."""

    samples: tuple[object, ...] = ("one", "two two", "three one three", "four four four four")
    verified_as: str | None = None
    parameters: Mapping[str, object] = dataclasses.field(default_factory=dict)
    judge: Judge = "scores"


@pytest.fixture
def verifier(classification_bundle):
    """A verifier of the classifier, which has answered, and the classifier itself."""
    model = load_model(classification_bundle())
    made = Verifier(model, Trial())
    steps = []
    made.ask_reference(lambda: steps.append(1))
    assert len(steps) == made.rows == 4
    return made, model


def test_a_model_beside_itself_is_off_by_nothing_and_batches_change_nothing(verifier):
    made, model = verifier
    steps = []
    figures, invariant = made.measure(model, lambda: steps.append(1))
    assert invariant
    assert figures == {"error": 0.0, "batch_error": 0.0, "agreement": 1.0, "score_error": 0.0}
    assert len(steps) == made.steps


def test_without_batches_nothing_is_known_of_them(verifier):
    made, model = verifier
    figures, invariant = made.measure(model, lambda: None, batches=False)
    assert not invariant
    assert "batch_error" not in figures


class Neighbourly:
    """A session whose answers depend on how many rows there are; with `wide`, in their shape."""

    device, threads = "cpu", 1

    def __init__(self, session, *, wide):
        self._session, self._wide = session, wide

    def run(self, feeds):
        outputs = self._session.run(feeds)
        rows = len(next(iter(feeds.values())))
        if self._wide and rows > 1:
            return {name: array.repeat(2, axis=1) for name, array in outputs.items()}
        return {name: array + rows - 1 for name, array in outputs.items()}


@pytest.mark.parametrize(("wide", "expected"), [(False, 2.0), (True, None)])
def test_answers_that_change_in_batches_are_told(verifier, wide, expected):
    made, model = verifier
    changed = dataclasses.replace(model, sessions={"model": Neighbourly(model.sessions["model"], wide=wide)})
    figures, invariant = made.measure(changed, lambda: None)
    assert not invariant
    assert figures["error"] == 0.0  # rows that run alone are as they were
    assert (figures.get("batch_error") is None) == (expected is None)
