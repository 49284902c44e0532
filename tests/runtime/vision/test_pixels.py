import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpipe.bundle import Graph, Manifest, Source, Tensor
from onnxpipe.errors import InvalidInput, UnsupportedModel
from onnxpipe.sections import Image, Pad, Resize, Size
from onnxpipe.vision.image import Picture
from onnxpipe.vision.pixels import (
    PixelReader,
    center_crop,
    channel_levels,
    map_levels,
    pad_edges,
    require_image,
    target_size,
)

SHAPE = ("batch", 3, "height", "width")


def graph(*, mask: bool = False, dtype: str = "float32", name: str = "pixel_values") -> Graph:
    inputs = [Tensor(name=name, dtype=dtype, shape=SHAPE)]
    if mask:
        inputs.append(Tensor(name="pixel_mask", dtype="int64", shape=("batch", "height", "width")))
    return Graph(inputs=tuple(inputs), outputs=(Tensor(name="logits", dtype="float32", shape=("batch", 2)),))


def exact(height: int, width: int) -> Resize:
    return Resize(mode="exact", size=Size(height=height, width=width), resample="bilinear")


def by_edge(shortest: int, longest: int | None = None, **options: object) -> Resize:
    return Resize(mode="shortest_edge", shortest_edge=shortest, longest_edge=longest, resample="bilinear", **options)


@pytest.fixture
def colours() -> PIL.Image.Image:
    """Red 10, green 20, blue 30, and 40 x 24 of them."""
    return PIL.Image.new("RGB", (40, 24), (10, 20, 30))


@pytest.mark.parametrize(
    ("size", "resize", "expected"),
    [
        ((480, 640), exact(30, 20), (30, 20)),
        ((480, 640), by_edge(240), (240, 320)),
        ((640, 480), by_edge(240), (320, 240)),
        ((100, 301), by_edge(50), (50, 150)),  # 150.5 is cut off
        ((480, 640), by_edge(800, 1333), (800, 1066)),
        ((480, 1000), by_edge(800, 1333), (640, 1333)),  # 639.84 is rounded up, 1333.0 stays
        ((400, 1334), by_edge(800, 1333), (400, 1334)),  # 399.7 rounds to what it has
        ((1334, 400), by_edge(800, 1333), (1334, 400)),
        ((1334, 400), by_edge(800, 1333, limit="round_tall"), (1333, 400)),
        ((400, 1334), by_edge(800, 1333, limit="round_tall"), (400, 1334)),
        ((480, 1000), by_edge(800, 1333, limit="floor"), (640, 1333)),
        ((50, 40), by_edge(20, 22, limit="floor"), (22, 17)),
        ((50, 40), by_edge(20, 22), (22, 18)),
        ((480, 640), by_edge(800, 1333, multiple_of=16), (800, 1056)),
        ((480, 640), by_edge(800, 1333, multiple_of=32, multiple="ceil"), (800, 1088)),
    ],
)
def test_edges_follow_the_rule(size, resize, expected):
    assert target_size(size, resize) == expected


def test_within_touches_one_bound():
    resize = Resize(mode="within", size=Size(height=100, width=100), resample="bilinear")
    assert target_size((480, 640), resize) == (75, 100)
    assert target_size((10, 5), resize) == (100, 50)


def test_closest_keeps_the_shape_by_the_edge_that_changes_less():
    resize = Resize(mode="closest", size=Size(height=384, width=384), resample="bicubic", multiple="nearest")
    assert target_size((480, 640), resize) == (384, 512)
    resize = Resize(
        mode="closest", size=Size(height=518, width=518), resample="bicubic", multiple_of=14, multiple="nearest"
    )
    assert target_size((480, 640), resize) == (518, 686)  # 690.67 is nearer to 686 than to 700


@given(
    st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    st.integers(1, 900),
    st.integers(1, 900),
    st.sampled_from(["floor", "round"]),
)
def test_no_longest_edge_gets_beyond_its_limit_by_more_than_rounding(size, edge, more, limit):
    longest = edge + more
    new = target_size(size, by_edge(edge, longest, limit=limit))
    if new != size:
        assert max(new) <= longest
    assert target_size(size[::-1], by_edge(edge, longest, limit=limit)) == new[::-1]


def test_the_middle_is_cut_out():
    values = np.arange(20, dtype=np.uint8).reshape(4, 5)
    image = PIL.Image.fromarray(np.repeat(values[..., None], 3, axis=2))
    given = np.asarray(center_crop(image, Size(height=2, width=2)))[..., 0]
    np.testing.assert_array_equal(given, [[6, 7], [11, 12]])


def test_a_small_picture_gets_zeros_around_it_the_odd_one_first():
    image = PIL.Image.new("RGB", (1, 2), (9, 9, 9))
    given = np.asarray(center_crop(image, Size(height=3, width=4)))[..., 0]
    np.testing.assert_array_equal(given, [[0, 0, 0, 0], [0, 0, 9, 0], [0, 0, 9, 0]])


def test_levels_are_scaled_shifted_and_normalised_by_channel():
    image = Image(factor=1 / 127.5, offset=-1.0, mean=(0.0, 0.5, 0.0), std=(1.0, 1.0, 0.25))
    levels = channel_levels(image)
    assert (levels.shape, levels.dtype) == ((3, 256), np.float32)
    np.testing.assert_allclose(levels[:, [0, 255]], [[-1, 1], [-1.5, 0.5], [-4, 4]], atol=1e-6)


@pytest.mark.parametrize("image", [Image(factor=1 / 255, mean=(0.4,) * 3, std=(0.2,) * 3), Image(std=(0.001,) * 3)])
def test_every_value_becomes_its_level(image):
    levels = channel_levels(image)
    values = np.arange(256 * 70, dtype=np.uint8).reshape(70, 256)
    bands = [PIL.Image.fromarray(np.roll(values, shift)) for shift in (0, 1, 2)]
    given = map_levels(PIL.Image.merge("RGB", bands), levels)
    expected = [table[np.asarray(band)] for table, band in zip(levels, bands, strict=True)]
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "pad", "expected"),
    [
        ((30, 64), Pad(multiple_of=32), ((0, 2), (0, 0))),
        ((30, 63), Pad(multiple_of=32, centered=True), ((1, 1), (0, 1))),
        ((30, 63), Pad(size=Size(height=35, width=63)), ((0, 5), (0, 0))),
    ],
)
def test_padding_fills_up(size, pad, expected):
    assert pad_edges(size, pad) == expected


def test_a_picture_larger_than_its_padding_is_refused():
    with pytest.raises(InvalidInput, match=r"63 x 30 after resizing, .* 63 x 29 that this model takes"):
        pad_edges((30, 63), Pad(size=Size(height=29, width=63)))


def test_a_row_has_red_first_and_the_mask_that_the_graph_asks_for(colours):
    row = PixelReader(Image(resize=exact(4, 6)), graph(mask=True)).row(Picture.read(colours))
    assert list(row) == ["pixel_values", "pixel_mask"]
    assert row["pixel_values"].shape == (3, 4, 6)
    assert row["pixel_values"].dtype == np.float32
    assert row["pixel_values"][:, 0, 0].tolist() == [10, 20, 30]
    assert row["pixel_mask"].dtype == np.int64
    np.testing.assert_array_equal(row["pixel_mask"], np.ones((4, 6)))


def test_a_mask_of_one_size_is_all_ones(colours):
    small = Tensor(name="pixel_mask", dtype="int64", shape=("batch", 3, 2))
    pictures, *_ = graph().inputs
    fixed = Graph(inputs=(pictures, small), outputs=graph().outputs)
    row = PixelReader(Image(resize=exact(4, 6)), fixed).row(Picture.read(colours))
    assert row["pixel_values"].shape == (3, 4, 6)
    np.testing.assert_array_equal(row["pixel_mask"], np.ones((3, 2)))


def test_there_is_no_mask_for_a_graph_without_one(colours):
    assert list(PixelReader(Image(), graph()).row(Picture.read(colours))) == ["pixel_values"]


def test_blue_comes_first_where_the_manifest_says_so_with_its_own_mean(colours):
    row = PixelReader(Image(channels="bgr", mean=(1.0, 2.0, 3.0)), graph()).row(Picture.read(colours))
    assert row["pixel_values"][:, 0, 0].tolist() == [27, 18, 9]
    assert row["pixel_values"].flags.c_contiguous


def test_the_graph_says_the_type_and_the_name(colours):
    row = PixelReader(Image(), graph(dtype="float16", name="input")).row(Picture.read(colours))
    assert row["input"].dtype == np.float16


def test_padding_is_zero_and_not_of_the_picture(colours):
    image = Image(offset=5.0, crop=Size(height=2, width=3), pad=Pad(size=Size(height=3, width=5)))
    row = PixelReader(image, graph(mask=True)).row(Picture.read(colours))
    np.testing.assert_array_equal(row["pixel_values"][0], [[15, 15, 15, 0, 0], [15, 15, 15, 0, 0], [0] * 5])
    np.testing.assert_array_equal(row["pixel_mask"], [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [0] * 5])


def test_zeros_around_a_crop_are_colours_and_get_normalised(colours):
    image = Image(offset=5.0, crop=Size(height=26, width=40))
    row = PixelReader(image, graph(mask=True)).row(Picture.read(colours))
    assert row["pixel_values"][:, 0, 0].tolist() == [5, 5, 5]
    assert row["pixel_mask"].all()


def test_a_picture_too_thin_for_the_model_is_refused():
    reader = PixelReader(Image(resize=by_edge(96, 160, multiple_of=16)), graph())
    with pytest.raises(InvalidInput, match="the image is 160 x 2: too thin for this model"):
        reader.row(Picture.read(PIL.Image.new("RGB", (160, 2))))


def test_fast_rows_are_close_and_of_the_same_shape(test_data):
    content = io.BytesIO()
    with PIL.Image.open(test_data / "images/coco/000000039769.png") as photo:
        photo.convert("RGB").resize((1283, 961)).save(content, "JPEG", quality=90)
    image = Image(resize=by_edge(96), factor=1 / 255)
    picture = Picture.read(content.getvalue())
    exact_row = PixelReader(image, graph()).row(picture)["pixel_values"]
    fast_row = PixelReader(image, graph(), fast=True).row(Picture.read(content.getvalue()))["pixel_values"]
    assert exact_row.shape == fast_row.shape == (3, 96, 128)
    assert 0 < np.abs(exact_row - fast_row).mean() < 0.01


def test_threads_share_a_reader(colours):
    reader = PixelReader(Image(resize=exact(50, 60), factor=1 / 255), graph(mask=True))
    expected = reader.row(Picture.read(colours))["pixel_values"]
    with ThreadPoolExecutor(4) as pool:
        rows = [pool.submit(reader.row, Picture.read(colours)) for _ in range(40)]
        assert all(np.array_equal(row.result()["pixel_values"], expected) for row in rows)


@pytest.mark.parametrize("filter_", ["bilinear", "bicubic", "nearest", "lanczos"])
@pytest.mark.parametrize("deviation", [0.2, 1e-6])
@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize(
    ("height", "width", "resize"),
    [
        (480, 640, {"mode": "shortest_edge", "shortest_edge": 800}),
        (640, 426, {"mode": "shortest_edge", "shortest_edge": 800}),  # two steps of 320 rows
        (487, 641, {"mode": "shortest_edge", "shortest_edge": 701}),  # no place to cut
        (700, 500, {"mode": "exact", "size": Size(height=640, width=640)}),  # Pillow scales these down first
        (500, 700, {"mode": "exact", "size": Size(height=640, width=640)}),
    ],
)
def test_large_targets_are_the_same_to_the_bit_whatever_the_number_of_threads(
    filter_, deviation, threads, height, width, resize
):
    array = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    section = Image(
        resize=Resize(**resize, resample=filter_), factor=1 / 255, mean=(0.5, 0.4, 0.3), std=(deviation,) * 3
    )
    alone, together = (PixelReader(section, graph(), threads=count).row(Picture.read(array)) for count in (1, threads))
    np.testing.assert_array_equal(together["pixel_values"], alone["pixel_values"])


def test_threads_are_started_for_large_targets_alone_and_as_many_as_allowed():
    def pool_threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("onnxpipe-pixels")]

    readers = [PixelReader(Image(resize=exact(600, edge)), graph(), threads=2) for edge in (300, 1000)]
    picture = Picture.read(np.zeros((480, 640, 3), np.uint8))
    readers[0].row(picture)
    assert not pool_threads()
    readers[1].row(picture)
    assert 1 <= len(pool_threads()) <= 2


def test_a_model_without_pictures_says_what_it_serves():
    manifest = Manifest(
        format_version=1,
        id="tiny",
        task="fill-mask",
        source=Source(model="tiny"),
        graphs={"model": graph()},
        variants={},
        tools={},
        files={},
    )
    with pytest.raises(UnsupportedModel, match="tiny takes no images; it serves: fill-mask"):
        require_image(manifest)
