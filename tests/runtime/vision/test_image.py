import base64
import io
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL.Image
import PIL.ImageFile
import pytest

from onnxpipe.errors import InvalidInput
from onnxpipe.vision.image import Limits, Picture


def encode(image: PIL.Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, file_format, **options)
    return content.getvalue()


def turned(orientation: int, size: tuple[int, int] = (40, 24)) -> bytes:
    """A JPEG whose EXIF says how it is to be turned."""
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return encode(PIL.Image.new("RGB", size, "red"), "JPEG", exif=exif)


@pytest.fixture
def photo() -> PIL.Image.Image:
    ramp = np.add.outer(np.arange(24), np.arange(40))[..., None] * np.array([1, 2, 3])
    return PIL.Image.fromarray(ramp.astype(np.uint8))


def test_bytes_paths_strings_and_urls_give_the_same_pixels(photo, tmp_path):
    content = encode(photo)
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    url = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    for source in (content, bytearray(content), memoryview(content), path, str(path), url, photo):
        picture = Picture.read(source)
        assert picture.size == (40, 24)
        assert picture.rgb().tobytes() == photo.tobytes()


def test_a_picture_is_left_as_it_is(photo):
    picture = Picture.read(photo)
    assert Picture.read(picture) is picture


def test_a_file_is_not_kept_open(photo, tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(encode(photo))
    picture = Picture.read(path)
    path.unlink()
    with pytest.raises(InvalidInput, match="no such file"):
        picture.rgb()


def test_other_things_are_refused_by_their_type():
    with pytest.raises(InvalidInput, match="a Pillow image or a numpy array, given int"):
        Picture.read(5)


@pytest.mark.parametrize("name", ["missing.png", "https://example.com/cats.png", "", "a\0b"])
def test_a_missing_file_is_told(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput):
        Picture.read(name)


def test_a_bad_url_is_told():
    with pytest.raises(InvalidInput, match="expected base64"):
        Picture.read("data:image/png;base64,???")


def test_shades_colours_and_colours_with_alpha_are_taken():
    shades = np.arange(6, dtype=np.uint8).reshape(2, 3)
    expected = np.repeat(shades[..., None], 3, axis=2)
    alpha = np.full((2, 3, 1), 7, np.uint8)
    for array in (shades, shades[..., None], expected, np.concatenate([expected, alpha], axis=2)):
        picture = Picture.read(array)
        assert picture.size == (3, 2)
        np.testing.assert_array_equal(np.asarray(picture.rgb()), expected)


def test_floats_in_0_to_1_are_scaled_and_cut_off():
    array = np.array([[0.0, 0.5, 0.999, 1.0]], dtype=np.float32)
    assert list(Picture.read(array).rgb().getchannel(0).tobytes()) == [0, 127, 254, 255]


@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.uint16])
def test_whole_numbers_are_values_of_0_to_255(dtype):
    array = np.array([[0, 1, 255]], dtype=dtype)
    assert list(Picture.read(array).rgb().getchannel(0).tobytes()) == [0, 1, 255]


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.zeros((3, 4, 5)), "one of shape"),
        (np.zeros(4), "one of shape"),
        (np.zeros((0, 4)), "one of shape"),
        (np.array([[-1.0, 0.5]]), "given -1..0.5"),
        (np.array([[0, 256]]), "given 0..256"),
        (np.array([[0.5, 2.0]]), "floats in 0..1"),
        (np.array([[np.nan, 0.5]]), "finite"),
        (np.array([["a"]]), "integers or finite floats"),
        (np.array([[True]]), "integers or finite floats"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(array, problem):
    with pytest.raises(InvalidInput, match=problem):
        Picture.read(array)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16"]
)
def test_every_mode_becomes_rgb(mode, photo):
    if mode == "LAB":
        given = PIL.Image.new("LAB", (3, 2), (53, 80, 67))
    elif mode in ("PA", "I;16"):
        given = photo.convert("L").convert(mode)
    else:
        given = photo.convert(mode)
    picture = Picture.read(given)
    assert picture.rgb().mode == "RGB"
    assert picture.rgb().tobytes() == given.convert("RGB").tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(orientation):
    picture = Picture.read(turned(orientation))
    assert picture.size == ((24, 40) if orientation >= 5 else (40, 24))
    assert picture.rgb().size == picture.size


def test_the_first_frame_of_an_animation_counts(photo):
    frames = [PIL.Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    for file_format in ("GIF", "PNG", "WEBP", "TIFF"):
        content = encode(frames[0], file_format, save_all=True, append_images=frames[1:])
        red, green, _ = Picture.read(content).rgb().getpixel((4, 4))
        assert red > 200 > 60 > green, file_format


def test_a_picture_decodes_as_often_as_it_is_asked_to(photo):
    picture = Picture.read(encode(photo))
    assert picture.rgb().tobytes() == picture.rgb().tobytes() == photo.tobytes()


def test_the_caller_s_image_stays_as_it_is(photo):
    given = photo.convert("P")
    given.info["transparency"] = bytes(range(256))
    before = given.tobytes()
    Picture.read(given).rgb()
    assert given.info["transparency"] == bytes(range(256))
    assert (given.mode, given.tobytes()) == ("P", before)


def test_a_fast_jpeg_is_decoded_smaller_but_its_size_is_that_of_the_file():
    picture = Picture.read(encode(PIL.Image.new("RGB", (800, 403), "red"), "JPEG"))
    asked = []

    def fit(size: tuple[int, int]) -> tuple[int, int]:
        asked.append(size)
        return 190, 96

    assert picture.rgb(fit).size == (200, 101)  # a quarter
    assert picture.size == (800, 403)
    assert asked == [(800, 403)]


def test_a_fast_jpeg_on_its_side_is_asked_for_upright():
    picture = Picture.read(turned(6, (800, 400)))
    assert picture.rgb(lambda size: (size[0] // 4, size[1] // 4)).size == (100, 200)
    assert picture.size == (400, 800)


def test_other_formats_do_not_get_smaller(photo):
    assert Picture.read(encode(photo)).rgb(lambda size: (1, 1)).size == (40, 24)
    assert Picture.read(photo).rgb(lambda size: (1, 1)).size == (40, 24)


def test_what_is_no_image_is_told_when_it_is_read():
    for content in (b"", b"GIF", b"%PDF-1.7", b"\x89PNG\r\n\x1a\n", bytes(1000)):
        with pytest.raises(InvalidInput):
            Picture.read(content)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "JPEG2000", "AVIF", "PPM"])
def test_a_truncated_file_is_told(file_format, photo):
    content = encode(photo.resize((200, 120)), file_format)
    with pytest.raises(InvalidInput, match=r"corrupt, truncated or of an unsupported kind|not an image"):
        Picture.read(content[: len(content) * 3 // 4]).rgb()


def test_any_prefix_or_flipped_byte_gives_pixels_or_invalid_input(photo):
    for file_format in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "ICO"):
        content = encode(photo, file_format)
        draws = np.random.default_rng(7)
        for _ in range(60):
            broken = bytearray(content)
            broken[draws.integers(len(broken))] ^= int(draws.integers(1, 256))
            try:
                Picture.read(bytes(broken[: draws.integers(len(broken) // 2, len(broken) + 1)])).rgb()
            except InvalidInput:
                continue


def test_eps_is_refused_because_another_program_would_draw_it():
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(InvalidInput, match="EPS"):
        Picture.read(content)


def test_the_size_of_a_broken_picture_cannot_be_had(photo):
    content = encode(photo)
    with pytest.raises(InvalidInput):
        Picture.read(content[:-30]).size  # noqa: B018 - a property that decodes


def test_bytes_are_counted_before_anything_is_opened(photo, tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(encode(photo))
    for source in (path, path.read_bytes()):
        with pytest.raises(InvalidInput, match="bytes; at most 90 are accepted"):
            Picture.read(source, Limits(max_bytes=90))


def test_pixels_are_counted_from_the_header():
    # a PNG of 400 million pixels in 49 KB: nothing may decode it
    content = encode(PIL.Image.new("1", (8000, 8000)))
    with pytest.raises(InvalidInput, match="8000 x 8000, 64000000 pixels; at most 1000000 are accepted"):
        Picture.read(content, Limits(max_pixels=10**6))


def test_a_decompression_bomb_is_refused(test_data):
    # 3,000,000 x 2,000,000 by its header
    with pytest.raises(InvalidInput, match="too many pixels"):
        Picture.read(test_data / "images/modes/pillow/bmp/b/reallybig.bmp")


def test_arrays_and_images_in_memory_have_the_same_limits(photo):
    for source in (photo, np.asarray(photo)):
        with pytest.raises(InvalidInput, match="at most 100 are accepted"):
            Picture.read(source, Limits(max_pixels=100))


def test_very_thin_pictures_are_refused():
    assert Picture.read(PIL.Image.new("RGB", (200, 1))).size == (200, 1)
    for size in ((201, 1), (1, 201)):
        with pytest.raises(InvalidInput, match="at most 200 times the other"):
            Picture.read(PIL.Image.new("RGB", size))


def test_pictures_without_pixels_are_refused():
    with pytest.raises(InvalidInput, match="no pixels"):
        Picture.read(PIL.Image.new("RGB", (0, 5)))


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_frames_are_counted(file_format):
    frames = [PIL.Image.new("RGB", (8, 8), (number * 40, 0, 0)) for number in range(5)]
    content = encode(frames[0], file_format, save_all=True, append_images=frames[1:])
    assert Picture.read(content, Limits(max_frames=5)).size == (8, 8)
    with pytest.raises(InvalidInput, match="5 frames; at most 4 are accepted"):
        Picture.read(content, Limits(max_frames=4))


def test_pillow_s_warnings_stay_inside(test_data):
    names = ["apng/mode_palette_1bit_alpha.png", "hopper.ico", "exif_gps_typeerror.jpg", "iptc.jpg"]
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for name in names:
            Picture.read(test_data / "images/modes/pillow" / name).rgb()
    assert [str(warning.message) for warning in heard] == []


def test_other_warnings_are_still_heard(photo):
    Picture.read(photo).rgb()
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)


def test_pillow_s_own_settings_stay_as_they_are(photo):
    limit, lenient = PIL.Image.MAX_IMAGE_PIXELS, PIL.ImageFile.LOAD_TRUNCATED_IMAGES
    Picture.read(encode(photo)).rgb()
    assert limit == PIL.Image.MAX_IMAGE_PIXELS
    assert lenient == PIL.ImageFile.LOAD_TRUNCATED_IMAGES


def test_many_threads_read_at_once(test_data):
    path = test_data / "images/modes/pillow/apng/mode_palette_1bit_alpha.png"
    expected = Picture.read(path).rgb().tobytes()
    barrier = threading.Barrier(8)

    def work() -> bool:
        barrier.wait()
        return all(Picture.read(path).rgb().tobytes() == expected for _ in range(20))

    with ThreadPoolExecutor(8) as pool:
        assert all(future.result() for future in [pool.submit(work) for _ in range(8)])


def test_pillow_is_not_loaded_for_text():
    code = "import sys, onnxpipe.tasks.text_classification; sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
