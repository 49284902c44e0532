from unittest import mock

import pytest

from onnxpipe.bundle import Golden
from onnxpipe.errors import BundleError, InvalidInput, UnprocessableInput
from onnxpipe_server import models as module
from onnxpipe_server.models import Models, load_served
from onnxpipe_server.status import UnknownModel

ANSWER = [{"label": "a", "score": 0.5}]


@pytest.fixture
def models(served):
    return Models([served(name, "labels") for name in ("acme/labels", "acme/other", "umbrella/other", "bare")])


@pytest.mark.parametrize(
    ("name", "found"),
    [("acme/labels", "acme/labels"), ("labels", "acme/labels"), ("bare", "bare"), ("umbrella/other", "umbrella/other")],
)
def test_a_model_is_found_by_its_id_or_its_bare_name(models, name, found):
    assert models.find(name).id == found


def test_a_name_of_several_models_is_refused_with_the_choices(models):
    with pytest.raises(InvalidInput, match="acme/other, umbrella/other"):
        models.find("other")


@pytest.mark.parametrize("name", ["nothing", "acme", "abels", "acme/labels/more", ""])
def test_an_unknown_name_is_said_so(models, name):
    with pytest.raises(UnknownModel, match=f"Model {name} does not exist"):
        models.find(name)


def test_the_only_model_of_several_is_refused_with_the_choices(models):
    with pytest.raises(InvalidInput, match=r"acme/labels, acme/other, .*bare"):
        models.only()


def test_the_only_model_needs_no_name(served):
    assert Models([served("acme/labels", "labels")]).only().id == "acme/labels"


def test_two_models_of_one_id_are_refused(served):
    with pytest.raises(InvalidInput, match="same id"):
        Models([served("a", "labels"), served("a", "embedder")])


def test_a_task_that_is_not_served_is_refused_with_the_choices(served):
    with pytest.raises(InvalidInput, match="'fill-mask'; it serves: sentence-similarity, feature-extraction"):
        served("a", "embedder").candidates("fill-mask")


def test_without_a_task_every_pipeline_is_a_candidate_the_own_first(served):
    embedder = served("a", "embedder")

    assert embedder.candidates(None) == [
        embedder.pipelines["sentence-similarity"],
        embedder.pipelines["feature-extraction"],
    ]


def test_the_sha_is_the_hub_commit_or_the_digest_of_the_bundle(served):
    assert served("a", "labels", revision="abc").sha == "abc"
    assert served("a", "labels").sha == "d" * 64


def test_a_loaded_model_has_every_task_ready_and_its_golden_requests_run_once(served, monkeypatch):
    golden = [
        Golden(task="text-classification", inputs=inputs, expected=expected, tolerance={"fp32": 1e-4})
        for inputs, expected in (("a", ANSWER), (["b", "c"], [[{**ANSWER[0], "label": text}] for text in ("b", "c")]))
    ]
    ready = served("acme/labels", "labels", golden=golden)
    pipeline = ready.pipelines["text-classification"]
    run = mock.Mock(wraps=pipeline.run)
    monkeypatch.setattr(pipeline, "run", run)
    monkeypatch.setattr(module, "load_model", lambda path, **options: ready.model)
    monkeypatch.setattr(module, "make_pipeline", lambda model, task: ready.pipelines[task])

    loaded = load_served("bundle", precision="fp32")

    assert list(loaded.pipelines) == ["text-classification"]
    assert [call.args[0] for call in run.call_args_list] == [["a"], ["b", "c"]]


def test_a_model_with_a_wrong_answer_to_a_golden_request_does_not_serve(served, monkeypatch):
    wrong = [{"label": "a", "score": 0.6}]
    golden = Golden(task="text-classification", inputs="a", expected=wrong, tolerance={"fp32": 1e-4})
    ready = served("acme/labels", "labels", golden=[golden])
    monkeypatch.setattr(module, "load_model", lambda path, **options: ready.model)
    monkeypatch.setattr(module, "make_pipeline", lambda model, task: ready.pipelines[task])

    with pytest.raises(BundleError, match=r"does not answer as it should: .* off by 0.1, allowed is 0.0001"):
        load_served("bundle")


def test_what_a_model_can_do_is_known_from_its_tasks(served, writing):
    labels = served("acme/labels", "labels")
    plain, talking = writing("acme/a", "text-generation"), writing("acme/b", "text-generation", chat=True)
    encoder = writing("acme/c", "summarization", encoder=True)

    assert [one.writes for one in (labels, plain, talking, encoder)] == [False, True, True, True]
    assert [one.continues for one in (labels, plain, talking, encoder)] == [False, True, True, False]
    assert [one.chats for one in (labels, plain, talking, encoder)] == [False, False, True, False]
    assert [one.reads_text for one in (labels, plain, talking, encoder)] == [False, True, True, True]
    assert [one.rewrites for one in (labels, plain, talking, encoder)] == [False, False, False, True]
    assert plain.generator is plain.pipelines["text-generation"]
    assert encoder.generator is encoder.generator
    with pytest.raises(UnprocessableInput, match="acme/labels does not continue texts; it serves: text-classification"):
        _ = labels.generator


@pytest.mark.parametrize("name", [None, "", "tgi", "dummy", "https://host/models/x", "labels", "acme/labels"])
def test_the_body_may_name_a_model_or_mean_the_only_one_that_fits(served, name):
    models = Models([served("acme/labels", "labels"), served("acme/embedder", "embedder")])

    assert models.choose(name, lambda one: one.id == "acme/labels", "labels texts").id == "acme/labels"


def test_a_named_model_need_not_fit(served):
    models = Models([served("acme/labels", "labels"), served("acme/embedder", "embedder")])

    assert models.choose("embedder", lambda one: False, "labels texts").id == "acme/embedder"


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        (None, InvalidInput, "several models of this server label texts, name one of them: acme/labels, acme/other"),
        ("gpt-4", UnknownModel, "Model gpt-4 does not exist"),
        (7, InvalidInput, "`model`: expected a model's id, given 7"),
    ],
)
def test_a_choice_that_cannot_be_made_is_said_so(models, name, error, words):
    with pytest.raises(error, match=words):
        models.choose(name, lambda one: one.id.startswith("acme"), "label texts")


def test_without_a_model_that_fits_the_others_are_named(served):
    with pytest.raises(UnprocessableInput, match="no model that sings; it has: acme/labels"):
        Models([served("acme/labels", "labels")]).choose("tgi", lambda one: False, "sings")
