import io
import json

import PIL.Image
import pytest

from onnxpipe_bench import image_preprocessing


@pytest.fixture
def small(monkeypatch, test_data):
    monkeypatch.setattr(image_preprocessing, "_PHOTO", test_data / "images/coco/000000039769.png")
    cases = (("tiny", "ViTImageProcessor", (700, 500)), ("small", "DetrImageProcessor", (64, 48)))
    monkeypatch.setattr(image_preprocessing, "CASES", cases)


def test_every_engine_is_measured_from_the_file_and_from_the_decoded_picture(small, results, arguments, capsys):
    arguments("--repeats", 2)
    image_preprocessing.main()
    written = json.loads((results / "image_preprocessing.json").read_text(encoding="utf-8"))
    assert written["model"].startswith("transformers 4.57.6, pillow ")
    assert list(dict.fromkeys(row["picture"] for row in written["rows"])) == ["tiny", "small"]
    for row in written["rows"]:
        assert row["file_ms"]["p50"] > 0
        assert row["decoded_ms"]["p50"] > 0
        assert (row["file_ratio"] == 1) or row["engine"] != "transformers, slow"
    engines = {row["engine"] for row in written["rows"]}
    assert {"transformers, slow", "onnxpipe", "onnxpipe, `fast`"} <= engines
    assert ("transformers, fast, 1 thread" in engines) == image_preprocessing.has_torchvision()
    assert capsys.readouterr().out.splitlines()[-1] == f"-> {results / 'image_preprocessing.json'}"


def test_a_torchvision_that_does_not_fit_torch_is_as_good_as_none(monkeypatch):
    def fail(name: str) -> None:
        raise RuntimeError(name)

    image_preprocessing.has_torchvision.cache_clear()
    monkeypatch.setattr(image_preprocessing.importlib, "import_module", fail)
    assert not image_preprocessing.has_torchvision()
    image_preprocessing.has_torchvision.cache_clear()


def test_the_photo_is_a_jpeg_of_the_size_asked_for(small):
    with PIL.Image.open(io.BytesIO(image_preprocessing.make_photo((900, 500)))) as photo:
        assert (photo.format, photo.size) == ("JPEG", (900, 500))
        # the second tile is the mirror image of the first
        left, right = (photo.convert("L").getpixel((x, 200)) for x in (600, 679))
    assert abs(left - right) < 12
