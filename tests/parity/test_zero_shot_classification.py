"""zero-shot-classification beside transformers 4.57.6 on the same weights."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import onnxpipe
from onnxpipe.errors import InvalidInput
from onnxpipe.tasks.zero_shot_classification import Ranking

pytest.importorskip("optimum", reason="parity needs the export extra")
from transformers import pipeline as reference_pipeline

from zoo import families

HEAD = "ForSequenceClassification"
TASK = "zero-shot-classification"
CANDIDATES = ["travel", "two words", "été", "politics, economics"]


def names(*labels: str) -> dict[str, object]:
    """A config's labels."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }


NLI = names("contradiction", "neutral", "entailment")


@pytest.fixture(params=families(HEAD))
def pair(request: pytest.FixtureRequest, tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path]) -> tuple:
    """Our pipeline and the reference's, of one family."""
    model = str(tiny_model(request.param, HEAD, **NLI))
    return onnxpipe.load(tiny_bundle(request.param, HEAD, **NLI)), reference_pipeline(TASK, model, device="cpu")


def same_ranking(given: Ranking, expected: dict) -> None:
    """Same labels in the same order, unless the reference's own scores tie; scores within 1e-4."""
    assert given.sequence == expected["sequence"]
    assert given.scores == pytest.approx(expected["scores"], abs=1e-4)
    scores = dict(zip(expected["labels"], expected["scores"], strict=True))
    assert sorted(given.labels) == sorted(expected["labels"])
    assert [scores[label] for label in given.labels] == pytest.approx(expected["scores"], abs=1e-6)


@pytest.mark.parametrize("multi_label", [False, True])
def test_rankings_equal_the_reference_on_hard_texts(pair: tuple, multi_label: bool, texts: list[str]) -> None:
    ours, reference = pair
    sequences = [text for text in texts[multi_label::5] if text]
    assert len(sequences) >= 110
    candidates = CANDIDATES[: 3 - multi_label]
    parameters = {"candidate_labels": candidates, "multi_label": multi_label}
    for given, text in zip(ours(sequences, **parameters), sequences, strict=True):
        same_ranking(given, reference(text, **parameters))


@pytest.mark.parametrize(
    "parameters",
    [
        {"candidate_labels": "travel"},
        {"candidate_labels": " a b,, c "},
        {"candidate_labels": CANDIDATES, "hypothesis_template": "{}"},
        {"candidate_labels": CANDIDATES, "hypothesis_template": "{0}? Oh, {0}!", "multi_label": True},
        {"candidate_labels": ["", " travel "], "hypothesis_template": "Das ist {} über {{Reisen}}."},
        {"candidate_labels": ["travel", "travel"]},
    ],
    ids=["one-label", "commas", "bare", "twice", "braces", "equal-labels"],
)
def test_labels_and_templates_equal_the_reference(pair: tuple, parameters: dict[str, object], texts: list[str]) -> None:
    ours, reference = pair
    for text in filter(None, texts[-12:]):
        same_ranking(ours(text, **parameters), reference(text, **parameters))


@pytest.mark.parametrize(
    "labels",
    [("entailment", "neutral", "contradiction"), ("NOT_ENTAILMENT", "Entailment"), ("LABEL_0", "LABEL_1", "LABEL_2")],
    ids=["first", "last", "none"],
)
@pytest.mark.parametrize("multi_label", [False, True])
def test_the_models_labels_choose_the_logits_of_the_reference(
    labels: tuple[str, ...],
    multi_label: bool,
    tiny_model: Callable[..., Path],
    tmp_path: Path,
    texts: list[str],
) -> None:
    from onnxpipe_export.export import export

    source = tiny_model("bert", HEAD, **names(*labels))
    export(source, tmp_path / "bundle", task=TASK, precisions=["fp32"])
    ours, reference = onnxpipe.load(tmp_path / "bundle"), reference_pipeline(TASK, str(source), device="cpu")
    parameters = {"candidate_labels": CANDIDATES, "multi_label": multi_label}
    sequences = [text for text in texts[:20] if text]
    for given, text in zip(ours(sequences, **parameters), sequences, strict=True):
        same_ranking(given, reference(text, **parameters))


def test_a_hypothesis_that_leaves_no_room_is_an_error_where_the_reference_crashes(
    tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path]
) -> None:
    ours = onnxpipe.load(tiny_bundle("bert", HEAD, **NLI))
    reference = reference_pipeline(TASK, str(tiny_model("bert", HEAD, **NLI)), device="cpu")
    with pytest.raises(RuntimeError):  # it does not cut at all, so there are more tokens than positions
        reference("a text", candidate_labels=["a " * 70])
    with pytest.raises(InvalidInput, match="the text beside it does not fit into the model's limit of 64"):
        ours("a text", candidate_labels=["a " * 70])


def test_a_label_that_is_the_place_of_a_label_is_refused_by_the_reference_only(
    tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path]
) -> None:
    ours = onnxpipe.load(tiny_bundle("bert", HEAD, **NLI))
    reference = reference_pipeline(TASK, str(tiny_model("bert", HEAD, **NLI)), device="cpu")
    with pytest.raises(ValueError, match="was not able to be formatted"):
        reference("a text", candidate_labels=["{}", "travel"])
    same_ranking(
        ours("a text", candidate_labels=["{}", "travel"]), reference("a text", candidate_labels=["travel", "{}"])
    )


def test_a_template_without_place_for_the_label_is_an_error_where_the_reference_ranks_nothing(
    tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path]
) -> None:
    parameters = {"candidate_labels": CANDIDATES, "hypothesis_template": "{{}}"}
    reference = reference_pipeline(TASK, str(tiny_model("bert", HEAD, **NLI)), device="cpu")
    assert reference("a text", **parameters)["scores"] == pytest.approx([0.25] * 4)
    with pytest.raises(InvalidInput, match="`hypothesis_template`"):
        onnxpipe.load(tiny_bundle("bert", HEAD, **NLI))("a text", **parameters)


def test_large_logits_stay_finite_where_the_reference_overflows(
    tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = onnxpipe.load(tiny_bundle("bert", HEAD, **NLI))
    reference = reference_pipeline(TASK, str(tiny_model("bert", HEAD, **NLI)), device="cpu")
    logits = np.array([[1.0, 0, 100], [2, 0, 99]], np.float32)

    class Logits:
        def __init__(self, row: np.ndarray) -> None:
            self.row = row

        def float(self) -> "Logits":
            return self

        def numpy(self) -> np.ndarray:
            return self.row[None]

    outputs = [
        {"candidate_label": str(index), "sequence": "a", "logits": Logits(row)} for index, row in enumerate(logits)
    ]
    with np.errstate(all="ignore"):
        assert np.isnan(reference.postprocess(outputs)["scores"]).all()
    name = ours.model.graph().outputs[0].name
    ranking = ours.postprocess([{name: row} for row in logits], "a", ("0", "1"), multi_label=False)
    assert ranking.scores == pytest.approx([1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))])
