import dataclasses

import numpy as np
import PIL.Image

from onnxpipe_bench.datasets import Dataset, Example
from onnxpipe_bench.quality import compare
from onnxpipe_bench.vision_quality import RECIPES, bundle_answers, fit, split_digits, torch_answers, write_pictures
from onnxpipe_export.export import export


def test_digits_are_split_always_the_same_and_all_kinds_are_on_both_sides():
    (train, test), again = split_digits(), split_digits()
    assert (len(train), len(test)) == (1000, 797)
    assert [digit.label for digit in again[1]] == [digit.label for digit in test]
    assert {digit.label for digit in train} == {digit.label for digit in test} == set("0123456789")
    assert np.asarray(train[0].picture).shape == (8, 8)


def test_pictures_are_written_as_they_are(tmp_path):
    train, _ = split_digits()
    folder = write_pictures(train[:3], tmp_path / "pictures")
    assert len(list(folder.iterdir())) == 3
    np.testing.assert_array_equal(PIL.Image.open(folder / "2.png"), train[2].picture)


def test_the_bundle_of_a_trained_classifier_answers_as_torch(tmp_path):
    train, test = split_digits()
    fit(dataclasses.replace(RECIPES["ViT"], epochs=3), train, tmp_path / "model")
    export(tmp_path / "model", tmp_path / "bundle", precisions=["fp32"])
    answers = {
        "torch": torch_answers(tmp_path / "model", test[:100]),
        "fp32": bundle_answers(tmp_path / "bundle", "fp32", test[:100]),
    }
    examples = [Example("", label=digit.label) for digit in test[:100]]
    _, ours = compare(Dataset([], examples), answers)
    assert ours["same_answers"] == 100
    assert len(set(answers["fp32"])) > 1  # three epochs are not enough for more
