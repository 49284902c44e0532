from unittest import mock

import pytest

from onnxpipe.bundle import Golden
from onnxpipe.errors import InvalidInput
from onnxpipe_server import models as module
from onnxpipe_server.models import Models, load_served
from onnxpipe_server.status import UnknownModel


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
        Golden(task="text-classification", inputs=inputs, expected=[], tolerance={"fp32": 1.0})
        for inputs in ("a", ["b", "c"])
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
