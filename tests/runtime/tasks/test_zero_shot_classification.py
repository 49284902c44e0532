import json
import math

import pytest

import onnxpipe
from onnxpipe.errors import InvalidInput, UnsupportedModel
from onnxpipe.tasks import zero_shot_classification
from onnxpipe.tasks.zero_shot_classification import Label, Ranking, ZeroShotClassification, list_labels

# the tiny classifier adds up its tokens' logits: one (1, 0, 0), two (0, 1, 0), three (0, 0, 1), four (-2, 0, 0); those
# of the hypothesis count ten times
TASKS = ("zero-shot-classification", "text-classification")
LABELS = ("contradiction", "neutral", "entailment")
E = math.e


@pytest.fixture
def load(classification_bundle):
    def make(labels=LABELS, **bundle):
        return onnxpipe.load(classification_bundle(labels=labels, tasks=TASKS, **bundle), threads=1)

    return make


@pytest.fixture
def classify(load):
    """A call with a template that adds nothing to the logits."""
    return lambda *inputs, **parameters: load()(*inputs, **{"hypothesis_template": "query {}", **parameters})


def test_labels_share_one_by_their_entailment_alone(classify):
    ranking = classify("one", candidate_labels=["query", "three", "one"])  # entailment 0, 10, 0
    assert ranking.sequence == "one"
    assert ranking.labels == ["three", "one", "query"]
    total = E**10 + 2
    assert ranking.scores == pytest.approx([E**10 / total, 1 / total, 1 / total], rel=1e-4)
    assert all(type(score) is float for score in ranking.scores)


def test_several_labels_may_fit_when_asked(classify):
    # entailment against contradiction: 10 - 0, 0 - 10, 0 - (-20), each beside the text's 1 for contradiction
    ranking = classify("one", candidate_labels=["three", "one", "four", "two"], multi_label=True)
    scores = dict(zip(ranking.labels, ranking.scores, strict=True))
    expected = {"four": 19, "three": 9, "two": -1, "one": -11}
    assert ranking.labels == list(expected)
    assert scores == pytest.approx({label: 1 / (1 + E**-logit) for label, logit in expected.items()}, rel=1e-4)


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_single_label_is_scored_on_its_own(classify, multi_label):
    ranking = classify("one one", candidate_labels=["query"], multi_label=multi_label)
    assert ranking == Ranking("one one", ["query"], [pytest.approx(1 / (1 + E**2))])


@pytest.mark.parametrize("text", ["query", "three one"])
def test_of_labels_with_one_score_the_later_comes_first(classify, text):
    labels = [f"query{index}" for index in range(40)]
    assert classify(text, candidate_labels=labels).labels == labels[::-1]


def test_a_label_given_twice_is_ranked_twice(classify):
    ranking = classify("one", candidate_labels=["three", "three"])
    assert (ranking.labels, ranking.scores) == (["three", "three"], [0.5, 0.5])


@pytest.mark.parametrize("labels", ["three, one", " three ,one,, ,", "three,one"])
def test_labels_may_be_a_string_with_commas(classify, labels):
    assert classify("one", candidate_labels=labels).labels == ["three", "one"]


def test_labels_of_a_list_are_taken_as_they_are(classify):
    assert classify("one", candidate_labels=[" three , one ", ""]).labels == [" three , one ", ""]


def test_labels_have_a_second_parameter_name(classify):
    assert classify("one", candidateLabels="three, one").labels == ["three", "one"]
    assert classify("one", candidateLabels="four", candidate_labels="three, one").labels == ["three", "one"]


@pytest.mark.parametrize(
    ("template", "score"), [("{}", 10), ("three {} query", 20), ("{0} {0}", 20), ("{{}} {}", 10), ("three{}", 0)]
)
def test_the_label_takes_its_place_in_the_template(classify, template, score):
    ranking = classify("query", candidate_labels=["three"], hypothesis_template=template)
    assert ranking.scores == pytest.approx([1 / (1 + E**-score)], rel=1e-4)


def test_the_templates_default_is_that_of_the_reference(load):
    assert zero_shot_classification.Parameters(candidate_labels="a").hypothesis_template == "This example is {}."
    assert load()("three", candidate_labels=["three"]).scores == pytest.approx([E / (1 + E)])  # "three." is unknown


@pytest.mark.parametrize(
    "template",
    ["", "three", "{{}}", "{", "}", "{}{}", "{0}{}", "{1}", "{label}", "{0.real}", "{0[0]}", "{!r}", "{:>9}"],
)
def test_a_template_without_a_plain_place_for_the_label_is_refused(classify, template):
    with pytest.raises(InvalidInput, match=r"`hypothesis_template`: expected a text with \{\} for the label, given"):
        classify("one", candidate_labels=["three"], hypothesis_template=template)


def test_braces_in_a_label_are_text(classify):
    assert classify("one", candidate_labels=["{}", "{0.real}"]).labels == ["{0.real}", "{}"]


@pytest.mark.parametrize(
    ("names", "entailment", "contradiction"),
    [
        (("contradiction", "neutral", "entailment"), "three", "one"),
        (("ENTAILMENT", "NEUTRAL", "CONTRADICTION"), "one", "three"),
        (("Contradiction", "Entailment", "Neutral"), "two", "one"),
        (("not_entailment", "Entail"), "two", "one"),
        (("entailment", "not_entailment"), "one", "two"),
    ],
)
def test_entailment_is_told_by_its_label_and_contradiction_is_first_or_last(load, names, entailment, contradiction):
    ranking = load(names)(
        "query", candidate_labels=[entailment, contradiction], hypothesis_template="{}", multi_label=True
    )
    scores = dict(zip(ranking.labels, ranking.scores, strict=True))
    assert scores == pytest.approx({entailment: 1 / (1 + E**-10), contradiction: 1 / (1 + E**10)}, rel=1e-4)


def test_without_a_label_for_entailment_the_last_is_taken_with_a_warning(load):
    classify = load(("LABEL_0", "LABEL_1", "LABEL_2"))
    parameters = zero_shot_classification.Parameters(candidate_labels=("one", "three"), hypothesis_template="{}")
    answer = classify.run(["query"], parameters)
    assert answer.results[0].labels == ["three", "one"]
    assert answer.warnings == ["the model has no label for entailment: 'LABEL_2' is taken"]


def test_a_model_with_a_label_for_entailment_gives_no_warning(load):
    assert load().run(["query"], zero_shot_classification.Parameters(candidate_labels="one")).warnings == []


def test_the_recorded_choices_of_the_entailment_label(load, test_data):
    golden = json.loads((test_data / "golden/zero_shot.json").read_text(encoding="utf-8"))
    for case in golden["entailment_id_from_label2id"]:
        names = tuple(sorted(case["label2id"], key=case["label2id"].get))
        words = ("one", "two", "three")[: len(names)]
        ranking = load(names)("query", candidate_labels=words, hypothesis_template="{}")
        assert ranking.labels[0] == words[case["id"]], case


def test_a_list_gives_one_ranking_per_text_in_their_order(classify):
    rankings = classify(["three", "one", "query"], candidate_labels=["three", "one"])
    assert [ranking.sequence for ranking in rankings] == ["three", "one", "query"]
    assert all(ranking.labels == ["three", "one"] for ranking in rankings)


def test_a_list_of_one_gives_a_list_of_one(classify):
    assert classify(["one"], candidate_labels="three") == [classify("one", candidate_labels="three")]


def test_an_empty_list_is_refused(classify):
    with pytest.raises(InvalidInput, match="`inputs`: expected at least one input, given an empty list"):
        classify([], candidate_labels="three")


@pytest.mark.parametrize("inputs", ["", ["one", ""]])
def test_an_empty_text_is_refused(classify, inputs):
    with pytest.raises(InvalidInput, match="the text is empty"):
        classify(inputs, candidate_labels="three")


def test_a_blank_text_is_classified(classify):
    assert classify(" ", candidate_labels="three").labels == ["three"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (3, "`inputs`: expected a string, given 3"),
        (["one", None], r"`inputs\[1\]`: expected a string, given None"),
        ([["one"]], "`inputs`: expected a string, given"),
        ("\ud800", "not valid Unicode"),
    ],
)
def test_anything_but_a_text_is_refused_and_named(classify, inputs, message):
    with pytest.raises(InvalidInput, match=message):
        classify(inputs, candidate_labels="three")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "`candidate_labels`: required, but missing"),
        ({"candidate_labels": None}, "`candidate_labels`: expected a string or a list, each item a string, given None"),
        ({"candidate_labels": []}, r"`candidate_labels`: expected at least one, given \(\)"),
        ({"candidate_labels": " , "}, "`candidate_labels`: expected at least one, given ' , '"),
        ({"candidate_labels": ["one", 2]}, r"`candidate_labels\[1\]`: expected a string, given 2"),
        ({"candidate_labels": ["\ud800"]}, "not valid Unicode"),
        ({"candidate_labels": ["x"] * 1001}, "`candidate_labels`: expected at most 1000, given 1001"),
        ({"candidate_labels": "x," * 1001}, "`candidate_labels`: expected at most 1000, given 1001"),
        ({"candidate_labels": "x", "multi_label": 1}, "`multi_label`: expected true or false, given 1"),
        (
            {"candidate_labels": "x", "hypothesis_template": None},
            "`hypothesis_template`: expected a string, given None",
        ),
        ({"candidate_labels": "x", "hypothesis_template": "{0}" * 40_000}, "expected at most 100000 characters"),
        ({"candidate_labels": "x" * 60_000, "hypothesis_template": "{0}{0}"}, "expected at most 100000 characters"),
        ({"candidate_labels": "x", "multi_class": True}, "`multi_class`: unknown name; expected `candidate_labels`, "),
    ],
)
def test_a_wrong_parameter_is_refused_and_named(classify, parameters, message):
    with pytest.raises(InvalidInput, match=message):
        classify("one", **parameters)


def test_as_many_labels_as_are_allowed(classify):
    ranking = classify("one", candidate_labels=["x"] * 999 + ["three"])
    assert ranking.labels[0] == "three"
    assert len(ranking.labels) == 1000


@pytest.mark.parametrize(("side", "score"), [("right", 1), ("left", -1)])
def test_of_a_long_text_and_a_hypothesis_only_the_text_is_cut(load, side, score):
    # [CLS] text [SEP] query label [SEP]: room for one token of the text, three or one
    classify = load(text={"max_tokens": 6, "truncation_side": side})
    parameters = zero_shot_classification.Parameters(
        candidate_labels=("query", "query query"), hypothesis_template="{}", multi_label=True
    )
    answer = classify.run(["three query one"], parameters)
    # room for two tokens beside the one, for one beside the other
    assert answer.results[0].scores == pytest.approx([1 / (1 + E**-score)] * 2)
    assert answer.truncated_tokens == 1 + 2


def test_a_hypothesis_that_leaves_no_room_for_the_text_is_an_error(load):
    classify = load(text={"max_tokens": 6})
    assert classify("one", candidate_labels=["x x"], hypothesis_template="{}").labels == ["x x"]
    with pytest.raises(
        InvalidInput, match=r"'x x x' has so many tokens that the text beside it does not fit.*limit of 6"
    ):
        classify("one", candidate_labels=["x x x"], hypothesis_template="{}")


def test_huge_logits_stay_finite(classify):
    assert classify("three " * 400, candidate_labels=["three " * 40, "one"], multi_label=True).scores == [1.0, 1.0]


def test_texts_of_any_length_share_batches(classify):
    texts = ["one", "three " * 40, "two one"]
    labels = ["three", "one two", "query"]
    together = classify(texts, candidate_labels=labels)
    for text, ranking in zip(texts, together, strict=True):
        alone = classify(text, candidate_labels=labels)
        assert (ranking.labels, ranking.scores) == (alone.labels, pytest.approx(alone.scores))


def test_the_tasks_form_is_a_list_of_labels():
    assert ZeroShotClassification.tasks_form.convert is list_labels
    assert list_labels(Ranking("text", ["a", "b"], [0.75, 0.25])) == [Label("a", 0.75), Label("b", 0.25)]


def test_a_model_without_labels_is_unsupported(embedding_bundle):
    model = onnxpipe.load(embedding_bundle(), threads=1).model
    with pytest.raises(UnsupportedModel, match="tiny has no labels; it serves: sentence-similarity"):
        ZeroShotClassification(model)
