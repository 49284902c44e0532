"""Pictures to the pixels a graph takes, as the manifest's `image` section says: resize, crop, scale, normalise, pad.

Reference: the slow (Pillow) image processors of transformers 4.57.6, whose numbers these are. Differences: a picture of
one or three rows is not taken for one with its channels first, and one too thin for the model is refused.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from onnxpipe.arrays import Floats
from onnxpipe.batching import Row
from onnxpipe.bundle import Graph, Manifest
from onnxpipe.errors import InvalidInput, UnsupportedModel
from onnxpipe.sections import Image, Pad, Resize, Size
from onnxpipe.vision.image import Picture, PixelSize

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

HeightWidth = tuple[int, int]

_ROUND: dict[str, Callable[[float], int]] = {"floor": math.floor, "ceil": math.ceil, "nearest": round}
_MASK = "pixel_mask"
_ROWS = 128
# pixels of a target that threads are worth it for (512 x 512), and how many rows each makes of it at least
_SHARED, _BAND = 2**18, 256
# rows that the widest filter looks up and down, and one
_REACH = 4
# how many times the pixels of the target `fast` leaves to the filter, along an edge; Pillow's thumbnails have as many
_GAP = 2.0


class PixelReader:
    """Makes rows of pictures for a graph. Safe to call from several threads.

    `fast` decodes JPEG files at a lower resolution where that is enough and resizes large pictures in two steps: faster
    and close, but not equal to the reference. `threads` make large targets together where both have rows to cut
    at: the same numbers, sooner by a quarter with two where processors are idle.
    """

    def __init__(self, image: Image, graph: Graph, *, fast: bool = False, threads: int = 1) -> None:
        self._image = image
        self._fast = fast
        self._threads = threads
        self._levels = channel_levels(image)
        dtypes = {tensor.name: np.dtype(tensor.dtype) for tensor in graph.inputs}
        self._name = next((name for name in dtypes if name != _MASK), "pixel_values")
        self._dtype = dtypes.get(self._name, np.dtype(np.float32))
        self._mask_dtype = dtypes.get(_MASK)
        self._mask_size = _fixed_mask(graph) if image.pad is None else None

    def row(self, picture: Picture) -> Row:
        """`pixel_values` (C, H, W), and where the graph has it `pixel_mask` (H, W) with ones where the picture is.

        A graph made for pictures without padding may have a mask of one size (transformers.js: 64 x 64): all ones.
        Raises InvalidInput when the picture cannot be decoded, is too thin to be resized, or does not fit.
        """
        pixels = self._pixels(picture)
        if self._image.channels == "bgr":
            pixels = pixels[::-1]
        height, width = pixels.shape[1:]
        mask = None if self._mask_dtype is None else np.ones(self._mask_size or (height, width), self._mask_dtype)
        if self._image.pad is not None:
            edges = pad_edges((height, width), self._image.pad)
            pixels = np.pad(pixels, ((0, 0), *edges))
            mask = None if mask is None else np.pad(mask, edges)
        row = {self._name: np.ascontiguousarray(pixels, dtype=self._dtype)}
        return row if mask is None else {**row, _MASK: mask}

    def _pixels(self, picture: Picture) -> Floats:
        """Pixels (3, H, W), red first, before any padding."""
        resize, crop = self._image.resize, self._image.crop
        if resize is None:
            image = picture.rgb()
        else:
            image = picture.rgb(fit=functools.partial(_least, resize=resize) if self._fast else None)
            # the size that was before a fast decoder made less of it
            target = _target(picture.size, resize)
            filter_ = PIL.Image.Resampling[resize.resample.upper()]
            bands = min(self._threads, _bands(image.size, target))
            if bands > 1 and crop is None and filter_ != PIL.Image.Resampling.NEAREST:
                return scale_in_bands(image, target, filter_, self._levels, self._pool, bands)
            image = image.resize(target, filter_, reducing_gap=_GAP if self._fast else None)
        return map_levels(image if crop is None else center_crop(image, crop), self._levels)

    @functools.cached_property
    def _pool(self) -> "ThreadPoolExecutor":
        # here, not above: most pictures are small
        from concurrent.futures import ThreadPoolExecutor

        return ThreadPoolExecutor(self._threads - 1, thread_name_prefix="onnxpipe-pixels")


def require_image(manifest: Manifest) -> Image:
    """The manifest's `image` section. Raises UnsupportedModel when the model takes no pictures."""
    if manifest.image is None:
        raise UnsupportedModel(f"{manifest.id} takes no images; it serves: {', '.join(manifest.tasks)}")
    return manifest.image


def target_size(size: HeightWidth, resize: Resize) -> HeightWidth:
    """The (height, width) a picture of `size` (height, width) is scaled to; an edge may come out as 0."""
    edges: tuple[float, float]
    if resize.size is None:
        edges = _by_shortest_edge(size, resize)
    elif resize.mode == "exact":
        edges = (resize.size.height, resize.size.width)
    else:
        scales = (resize.size.height / size[0], resize.size.width / size[1])
        if resize.mode == "within":
            edges = (int(size[0] * min(scales)), int(size[1] * min(scales)))
        else:
            scale = scales[1] if abs(1 - scales[1]) < abs(1 - scales[0]) else scales[0]
            edges = (scale * size[0], scale * size[1])
    step, to_integer = resize.multiple_of, _ROUND[resize.multiple]
    return to_integer(edges[0] / step) * step, to_integer(edges[1] / step) * step


def _by_shortest_edge(size: HeightWidth, resize: Resize) -> HeightWidth:
    height, width = size
    short, long = min(size), max(size)
    edge, limit = resize.shortest_edge or short, resize.longest_edge
    new = (edge, int(edge * long / short))
    if limit is not None:
        if resize.limit == "floor":
            if new[1] > limit:
                new = (int(limit * new[0] / new[1]), limit)
        elif long / short * edge > limit:
            exact = limit * short / long
            edge = round(exact)
            keep = edge == short and (height <= width or resize.limit == "round")
            new = (short, long) if keep else (edge, int(exact * long / short))
    return new if height <= width else new[::-1]


def center_crop(image: PIL.Image.Image, size: Size) -> PIL.Image.Image:
    """The middle of a picture, with zeros around what is smaller. Odd margins: the extra pixel is cut on the right and
    at the bottom, and added on the left and at the top.
    """
    # the floor of a negative margin does the second; Pillow fills what lies outside with zeros
    left, top = (image.width - size.width) // 2, (image.height - size.height) // 2
    return image.crop((left, top, left + size.width, top + size.height))


def channel_levels(image: Image) -> Floats:
    """What each of the 256 values of red, green and blue becomes, (3, 256): (value * factor + offset - mean) / std.

    Step by step in the reference's precision: these are its numbers to the bit.
    """
    values = (np.arange(256) * image.factor).astype(np.float32) + np.float32(image.offset)
    mean, std = (np.asarray(numbers, dtype=np.float32)[:, None] for numbers in (image.mean, image.std))
    levels: Floats = (values - mean) / std
    return levels


def map_levels(image: PIL.Image.Image, levels: Floats) -> Floats:
    """Pixels (3, H, W), red first, of an RGB picture with each value replaced by its level, to within 1e-6."""
    pixels = np.empty((3, image.height, image.width), np.float32)
    _write_levels(image, levels, pixels)
    return pixels


def scale_in_bands(
    image: PIL.Image.Image,
    size: PixelSize,
    filter_: PIL.Image.Resampling,
    levels: Floats,
    pool: "ThreadPoolExecutor",
    bands: int,
) -> Floats:
    """`map_levels` of an RGB picture enlarged to `size` (width, height), bands of its rows made side by side.

    The same numbers: where Pillow adds rows it scales across first, each row by itself, rounds to 8 bits, and then
    down. Bands begin where a row of the target and one of the picture do, so each is scaled from the same rows by the
    same weights; but for the nearest-pixel filter, which has none. As many bands as there are such places, `bands` at
    most, one of them in this thread.
    """
    width, height = size
    common = math.gcd(height, image.height)
    pixels = np.empty((3, height, width), np.float32)

    def scale(begin: int, end: int) -> None:  # in steps of which either edge has `common`
        top, bottom = (place * image.height // common for place in (begin, end))
        first, last = max(0, top - _REACH), min(image.height, bottom + _REACH)
        wide = image.crop((0, first, image.width, last)).resize((width, last - first), filter_)
        top_row, end_row = (place * height // common for place in (begin, end))
        band = wide.resize((width, end_row - top_row), filter_, box=(0, top - first, width, bottom - first))
        _write_levels(band, levels, pixels[:, top_row:end_row])

    count = min(bands, common)
    mine, *others = itertools.pairwise(common * band // count for band in range(count + 1))
    waiting = [pool.submit(scale, begin, end) for begin, end in others]
    scale(*mine)
    for future in waiting:
        future.result()
    return pixels


def _bands(size: PixelSize, target: PixelSize) -> int:
    """How many bands scaling to a target is worth; one where rows or columns are lost."""
    grows = target[0] >= size[0] and target[1] >= size[1]
    return target[1] // _BAND if grows and target[0] * target[1] >= _SHARED else 1


def _write_levels(image: PIL.Image.Image, levels: Floats, pixels: Floats) -> None:
    """Fill `pixels` (3, H, W) with the levels of a picture."""
    for band, table, values in zip(image.split(), levels, pixels, strict=True):
        given = np.asarray(band)
        write = _line_writer(table)
        # a few rows at a time, for what numpy makes on the way then stays in the processor's cache
        for top in range(0, image.height, _ROWS):
            write(given[top : top + _ROWS], values[top : top + _ROWS])


def _line_writer(table: Floats) -> Callable[[NDArray[np.uint8], Floats], None]:
    """Writes levels of given values. They lie on a line, but large ones not closely enough in single precision."""
    scale, offset = (table[255] - table[0]) / np.float32(255), table[0]

    def compute(given: NDArray[np.uint8], out: Floats) -> None:
        # step by step in place: an operation that also changes the type goes through a buffer
        np.copyto(out, given)
        np.multiply(out, scale, out=out)
        np.add(out, offset, out=out)

    def look_up(given: NDArray[np.uint8], out: Floats) -> None:
        # every index is in range; "clip" only spares numpy a copy
        np.take(table, given, out=out, mode="clip")

    line = np.arange(256, dtype=np.float32) * scale + offset
    return compute if np.abs(line - table).max() <= 1e-6 else look_up


def pad_edges(size: HeightWidth, pad: Pad) -> tuple[tuple[int, int], tuple[int, int]]:
    """How many zeros go (above, below) and (left, right) of a picture (height, width).

    Raises InvalidInput when it is larger than the pad's size.
    """
    if pad.size is None:
        rows, columns = (-edge % pad.multiple_of for edge in size)
    else:
        rows, columns = pad.size.height - size[0], pad.size.width - size[1]
    if rows < 0 or columns < 0:
        raise InvalidInput(
            f"the image is {size[1]} x {size[0]} after resizing, which is more than the "
            f"{size[1] + columns} x {size[0] + rows} that this model takes"
        )
    above, left = (rows // 2, columns // 2) if pad.centered else (0, 0)
    return (above, rows - above), (left, columns - left)


def _fixed_mask(graph: Graph) -> HeightWidth | None:
    """The only (height, width) of masks that a graph takes, where it takes but one."""
    shapes = [tensor.shape[-2:] for tensor in graph.inputs if tensor.name == _MASK]
    if not shapes:
        return None
    height, width = shapes[0]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _target(size: PixelSize, resize: Resize) -> PixelSize:
    """(width, height) for Pillow. Raises InvalidInput when nothing would be left of an edge."""
    height, width = target_size((size[1], size[0]), resize)
    if height < 1 or width < 1:
        raise InvalidInput(f"the image is {size[0]} x {size[1]}: too thin for this model, which would lose an edge")
    return width, height


def _least(size: PixelSize, resize: Resize) -> PixelSize:
    width, height = _target(size, resize)
    return round(_GAP * width), round(_GAP * height)
