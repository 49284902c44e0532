from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import onnxpipe
from onnxpipe.cli import main
from onnxpipe.errors import UnsupportedModel
from onnxpipe_export.calibration import find_calibration
from onnxpipe_export.pictures import PICTURES
from onnxpipe_export.recipes import RECIPES

RECIPE = RECIPES["image-classification"]
HEAD = "ForImageClassification"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seventy pictures in subfolders, one of them not whole, and files that are none."""
    for number in range(70):
        file = tmp_path / f"class {number % 3}" / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        PIL.Image.new("L", (20, 10 + number), number).save(file)
    whole = tmp_path / "class 0" / "0.png"
    whole.write_bytes(whole.read_bytes()[:40])
    (tmp_path / "labels.txt").write_text("cat")
    return tmp_path


def test_some_pictures_of_a_folder_are_taken_always_the_same(folder):
    calibration = find_calibration(RECIPE, folder)
    assert len(set(calibration.pictures)) == 64
    assert all(file.suffix == ".png" for file in calibration.pictures)
    assert folder / "class 0" / "0.png" not in calibration.pictures
    assert not calibration.drawn
    assert find_calibration(RECIPE, folder) == calibration


def test_all_pictures_of_a_small_folder_are_taken(folder):
    assert len(find_calibration(RECIPE, folder / "class 0").pictures) == 23


def test_without_a_folder_pictures_are_drawn_that_nothing_is_verified_on():
    calibration = find_calibration(RECIPE, None)
    assert calibration.drawn
    assert len(set(calibration.pictures)) == 32
    assert not set(calibration.pictures) & set(PICTURES)


def test_rows_are_those_of_the_pipeline(tiny_bundle, folder):
    classify = onnxpipe.load(tiny_bundle("vit", HEAD), threads=1)
    calibration = find_calibration(RECIPE, folder / "class 1")
    rows = list(calibration.rows(classify, RECIPE))
    assert [row["pixel_values"].shape for row in rows] == [(3, 64, 64)] * len(calibration.pictures)
    level = int(calibration.pictures[0].stem)
    np.testing.assert_allclose(rows[0]["pixel_values"], level / 255 * 2 - 1, atol=1e-6)


def test_texts_have_no_use_for_pictures(folder):
    assert find_calibration(RECIPES["fill-mask"], None) is None
    with pytest.raises(UnsupportedModel, match="fill-mask takes no pictures, so there is nothing to calibrate"):
        find_calibration(RECIPES["fill-mask"], folder)


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "labels.txt").write_text("cat")
    with pytest.raises(UnsupportedModel, match="no picture in it; expected some of the kind the model is for"):
        find_calibration(RECIPE, tmp_path)
    with pytest.raises(UnsupportedModel, match="no such folder; expected one with pictures to calibrate on"):
        find_calibration(RECIPE, tmp_path / "nowhere")


def test_export_says_that_drawn_pictures_are_second_best(tiny_model, tmp_path, capsys):
    source = str(tiny_model("resnet", HEAD))
    assert main(["export", source, str(tmp_path / "drawn"), "--precision", "int8"]) == 0
    assert "onnxpipe: int8: calibrated on drawn pictures; " in capsys.readouterr().err


def test_pictures_of_ones_own_are_counted_and_not_warned_about(tiny_model, tmp_path, capsys, test_data):
    source, photos = str(tiny_model("resnet", HEAD)), str(test_data / "images" / "photos")
    assert main(["export", source, str(tmp_path / "own"), "--precision", "int8", "--calibration", photos]) == 0
    assert "calibrated" not in capsys.readouterr().err
    measured = onnxpipe.load(tmp_path / "own").model.variant.measured
    assert 30 <= measured["calibration_rows"] <= 64


@pytest.mark.parametrize("family", ["vit", "convnext"])
def test_what_takes_no_calibration_is_not_warned_about(tiny_model, tmp_path, capsys, family):
    main(["export", str(tiny_model(family, HEAD)), str(tmp_path / "out")])
    assert "calibrated" not in capsys.readouterr().err
