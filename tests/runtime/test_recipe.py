import dataclasses
import json

import pytest

import onnxpipe
from onnxpipe.bundle import open_bundle
from onnxpipe.commands import inspect as inspect_command
from onnxpipe.errors import InvalidInput
from onnxpipe.load import load_model, make_pipeline
from onnxpipe.recipe import Recipe, choose, find_recipe, fingerprint, machine_facts, write_recipe


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The user's cache folder, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make(bundle, **changes):
    fields = {
        "bundle": bundle.digest,
        "fingerprint": fingerprint(),
        "precision": "int8",
        "providers": ("cpu",),
        "threads": 3,
        "machine": machine_facts(),
    }
    return Recipe(**fields | changes)


def test_a_bundle_without_a_recipe_loads_as_ever(folder):
    bundle = open_bundle(folder)
    assert find_recipe(bundle) is None
    assert dataclasses.astuple(choose(bundle, None, None, None)) == (None, None, None, "all")


def test_a_recipe_says_precision_and_threads_where_the_caller_names_none(folder):
    bundle = open_bundle(folder)
    file = write_recipe(bundle, make(bundle, level="basic", evidence={"speed": 2.5}))
    assert file == folder / "recipes" / f"{fingerprint()}.json"
    assert find_recipe(bundle) == make(bundle, level="basic", evidence={"speed": 2.5})
    model = onnxpipe.load(folder).model
    assert (model.precision, model.sessions["model"].threads) == ("int8", 3)


def test_what_the_caller_names_wins(folder):
    bundle = open_bundle(folder)
    write_recipe(bundle, make(bundle))
    assert load_model(folder, precision="fp32").precision == "fp32"
    assert load_model(folder, providers=["cpu"]).precision == "fp32"
    model = load_model(folder, threads=2)
    assert (model.precision, model.sessions["model"].threads) == ("int8", 2)


def test_a_recipe_leaves_the_bundle_as_it_was_verified(folder, capsys):
    bundle = open_bundle(folder)
    write_recipe(bundle, make(bundle))
    again = open_bundle(folder)
    again.verify()
    assert again.digest == bundle.digest
    args = type("Args", (), {"bundle": str(folder), "json": False, "verify": True})
    assert inspect_command.run(args) == 0
    told = capsys.readouterr().out
    assert "verified" in told
    assert "int8, 3 threads, cpu: tuned for this machine" in told


def test_a_recipe_of_another_machine_is_not_looked_at(folder, caplog):
    bundle = open_bundle(folder)
    write_recipe(bundle, make(bundle, fingerprint="0123456789abcdef"))
    assert find_recipe(bundle) is None
    assert not caplog.records


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.update(bundle="0" * 64), "made for another state of the bundle"),
        (lambda data: data.update(format_version=99), "made for another state of the bundle"),
        (lambda data: data.update(precision="fp8"), "the bundle has no precision 'fp8'"),
        (lambda data: data.update(threads=0), "`threads`: expected a number >= 1"),
        (lambda data: data.update(level="most"), "`level`: expected one of 'all'"),
        (lambda data: data.pop("precision"), "precision"),
    ],
)
def test_a_recipe_that_does_not_fit_is_told_and_not_used(folder, caplog, change, said):
    bundle = open_bundle(folder)
    file = write_recipe(bundle, make(bundle))
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))
    assert onnxpipe.load(folder).model.precision == "fp32"
    assert said in caplog.text
    assert "`onnxpipe tune` makes a new one" in caplog.text


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100000])
def test_a_damaged_recipe_is_told_and_not_used(folder, caplog, content):
    bundle = open_bundle(folder)
    write_recipe(bundle, make(bundle)).write_bytes(content)
    assert find_recipe(bundle) is None
    assert "not used" in caplog.text


def test_where_the_bundle_cannot_be_written_to_the_cache_keeps_the_recipe(folder, cache):
    bundle = open_bundle(folder)
    (folder / "recipes").write_text("a file where the folder would be")
    file = write_recipe(bundle, make(bundle))
    assert file.is_relative_to(cache)
    assert find_recipe(bundle) == make(bundle)
    assert onnxpipe.load(folder).model.precision == "int8"


def test_a_recipe_that_nobody_can_keep_is_an_error(folder, cache):
    bundle = open_bundle(folder)
    (folder / "recipes").touch()
    cache.touch()
    with pytest.raises(InvalidInput, match="the recipe cannot be written"):
        write_recipe(bundle, make(bundle))


@pytest.mark.parametrize("level", ["extended", "basic", "disabled"])
def test_how_far_graphs_are_rewritten_changes_no_answer(folder, level):
    plain = onnxpipe.load(folder, task="feature-extraction", precision="fp32")("a b")
    model = load_model(folder, precision="fp32", level=level)
    assert make_pipeline(model, "feature-extraction")("a b").tolist() == pytest.approx(plain.tolist())
