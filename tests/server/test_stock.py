"""What a server knows of its models before they are loaded, where `onnxpipe tune` has left a recipe."""

import dataclasses

import pytest

from onnxpipe.bundle import open_bundle, write_manifest
from onnxpipe.recipe import Recipe, fingerprint, write_recipe
from onnxpipe_server.settings import Settings
from onnxpipe_server.stock import Choice, open_stock


@pytest.fixture
def folder(served, tmp_path):
    """A bundle in two precisions that says what it is, but could not be loaded."""
    folder = tmp_path / "models/acme"
    (folder / "onnx").mkdir(parents=True)
    (folder / "onnx/model.onnx").write_bytes(b"xxxx")
    manifest = served("acme", "labels").bundle.manifest
    entry = dataclasses.replace(manifest.files["onnx/model.onnx"], size_bytes=4)
    (variant,) = manifest.variants.values()
    variants = {"fp32": variant, "int8": variant}
    write_manifest(folder, dataclasses.replace(manifest, files={"onnx/model.onnx": entry}, variants=variants))
    return folder


@pytest.fixture
def tuned(folder):
    bundle = open_bundle(folder)
    recipe = Recipe(
        bundle=bundle.digest, fingerprint=fingerprint(), precision="int8", providers=("cpu",), threads=3, machine={}
    )
    write_recipe(bundle, recipe)
    return folder


def described(choice):
    (model,) = open_stock(choice, Settings()).models.all()
    return model.precision, model.threads


def test_a_recipe_says_how_a_model_is_served(tuned):
    assert described(Choice(named=[str(tuned)])) == ("int8", 3)
    assert described(Choice(named=[], folder=tuned.parent)) == ("int8", 3)


def test_what_the_command_line_names_wins_over_it(tuned):
    assert described(Choice(named=[str(tuned)], precision="fp32", threads=2)) == ("fp32", 2)
    assert described(Choice(named=[str(tuned)], providers=["cpu"], threads=2)) == ("fp32", 2)
    assert described(Choice(named=[str(tuned)], threads=2)) == ("int8", 2)


def test_without_a_recipe_the_first_precision_is_served(folder):
    assert described(Choice(named=[str(folder)], threads=2)) == ("fp32", 2)
