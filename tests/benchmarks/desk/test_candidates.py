import shutil

import pytest

from onnxpipe.errors import InvalidInput
from onnxpipe_bench.desk.candidates import Candidate, main_task, name_candidates, open_bundles, plan_candidates
from onnxpipe_bench.desk.grid import group_by_memory, make_grid


def test_every_precision_is_taken_where_none_is_named(folder):
    candidates = plan_candidates(open_bundles([str(folder)]), threads=[1, 2])
    assert [(one.precision, one.threads) for one in candidates] == [
        *(("fp32", count) for count in (1, 2)),
        *(("int8", count) for count in (1, 2)),
        *(("int4", count) for count in (1, 2)),
    ]
    assert candidates[2].baseline == candidates[0]


def test_names_tell_only_what_differs(folder, tmp_path):
    bundles = open_bundles([str(folder)])
    named = name_candidates(plan_candidates(bundles, precisions=["fp32", "int8"], threads=[2]))
    assert list(named.values()) == ["fp32", "int8"]
    named = name_candidates(plan_candidates(bundles, precisions=["fp32"], threads=[1, 2], levels=["all", "basic"]))
    assert list(named.values())[1:3] == ["fp32, 1 thread, level basic", "fp32, 2 threads, level all"]
    shutil.copytree(folder, tmp_path / "other")
    both = open_bundles([str(folder), str(tmp_path / "other")])
    assert list(name_candidates(plan_candidates(both, precisions=["fp32"])).values()) == ["bundle, fp32", "other, fp32"]


def test_a_precision_that_no_bundle_has_is_an_error(folder):
    with pytest.raises(InvalidInput, match="--variant: no bundle has 'fp8'; there are: fp32, int8, int4"):
        plan_candidates(open_bundles([str(folder)]), precisions=["fp8"])


def test_a_candidate_loads_as_it_says(folder):
    pipeline = Candidate(path=str(folder), precision="int8", threads=1, level="basic").load("feature-extraction")
    assert (pipeline.model.precision, pipeline.model.sessions["model"].threads) == ("int8", 1)


def test_vectors_are_measured_rather_than_their_similarities(folder):
    (bundle,) = open_bundles([str(folder)])
    assert main_task(bundle) == "feature-extraction"


def test_the_grid_is_what_is_worth_a_try_here(folder):
    (bundle,) = open_bundles([str(folder)])
    grid = make_grid(bundle, precisions=["int8"], threads=[1], providers=["cpu"])
    assert [one.key for one in grid] == [f"int8, 1 thread, cpu, {level}" for level in ("all", "extended", "basic")]
    assert {one.precision for one in make_grid(bundle)} == {"fp32", "int8", "int4"}


def test_candidates_that_do_not_fit_into_memory_go_in_groups(folder, monkeypatch):
    (bundle,) = open_bundles([str(folder)])
    grid = make_grid(bundle, threads=[1], providers=["cpu"])
    assert list(group_by_memory(bundle, grid)) == [grid]
    monkeypatch.setattr("onnxpipe_bench.desk.grid._LOADED_SHARE", 1e-9)
    assert list(group_by_memory(bundle, grid)) == [[one] for one in grid]
