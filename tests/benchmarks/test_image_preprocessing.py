import io
import json

import PIL.Image
import pytest

from onnxpipe.machine import inspect_machine
from onnxpipe_bench import image_preprocessing


@pytest.fixture
def small(monkeypatch, test_data):
    monkeypatch.setattr(image_preprocessing, "_PHOTO", test_data / "images/coco/000000039769.png")
    cases = (("tiny", "ViTImageProcessor", (700, 500)), ("small", "DetrImageProcessor", (64, 48)))
    monkeypatch.setattr(image_preprocessing, "CASES", cases)


def test_every_engine_is_measured_from_file_and_from_decoded_picture(small, results, arguments, capsys, tmp_path):
    arguments("--repeats", 2, "--torchvision", tmp_path / "none")
    image_preprocessing.main()
    written = json.loads((results / "image_preprocessing.json").read_text(encoding="utf-8"))
    assert written["model"].startswith("transformers 4.57.6, pillow ")
    assert list(dict.fromkeys(row["picture"] for row in written["rows"])) == ["tiny", "small"]
    for row in written["rows"]:
        assert row["file_ms"]["p50"] > 0
        assert row["decoded_ms"]["p50"] > 0
        assert (row["file_ratio"] == 1) or row["engine"] != "transformers, slow"
    engines = {row["engine"] for row in written["rows"]}
    assert {"transformers, slow", "onnxpipe, 1 thread"} <= engines
    assert sum("`fast`" in engine for engine in engines) == 1
    assert ("onnxpipe, 2 threads" in engines) == (inspect_machine().threads == 2)
    assert capsys.readouterr().out.splitlines()[-1] == f"-> {results / 'image_preprocessing.json'}"


def test_the_photo_is_a_jpeg_of_the_size_asked_for(small):
    with PIL.Image.open(io.BytesIO(image_preprocessing.make_photo((900, 500)))) as photo:
        assert (photo.format, photo.size) == ("JPEG", (900, 500))
        # the second tile is the mirror image of the first
        left, right = (photo.convert("L").getpixel((x, 200)) for x in (600, 679))
    assert abs(left - right) < 12
