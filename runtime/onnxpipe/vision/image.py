"""Pictures from bytes, paths, data: URLs, Pillow's images and arrays: opened within limits, decoded to upright RGB.

Reference: transformers 4.57.6 `image_utils.load_image` (Pillow's `exif_transpose`, then `convert("RGB")`), and for
arrays `image_transforms.to_pil_image`. Differences: EPS is refused, for Pillow hands it to another program; arrays have
their channels last.
"""

import contextlib
import dataclasses
import io
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from onnxpipe.errors import InvalidInput, MalformedImage
from onnxpipe.media import Media

PixelSize = tuple[int, int]  # width, height, as Pillow has them

# a filter in the form `warnings` keeps it
_SILENCE = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What a picture may have before it is decoded. Decoded, it takes 4 bytes a pixel.

    Pillow has a limit of its own, of 179 million pixels, which a higher one here does not lift.
    """

    max_bytes: int = 100_000_000
    max_pixels: int = 2**26
    max_frames: int = 10_000
    max_aspect_ratio: float = 200.0


class Picture(Media):
    """An image, opened but not yet decoded; of several frames or pages, the first. For one thread at a time."""

    kind: ClassVar[str] = "image"

    def __init__(self, source: bytes | Path | Image.Image, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._size: PixelSize | None = None

    @classmethod
    def read(cls, source: object, limits: Limits = Limits()) -> "Picture":
        """The picture in bytes, at a path, in a data: URL, a Pillow image, or an array.

        A string is a path unless it begins with "data:". Arrays are (H, W) or (H, W, 1|3|4), of integers in 0..255 or
        of floats in 0..1; an array whose floats are all whole numbers is taken for integers, as in the reference.
        Raises InvalidInput when it is none of these, is no image by its header, or is beyond a limit.
        """
        if isinstance(source, cls):
            return source
        picture = cls(_source_of(cls.take(source)), limits)
        with picture._open() as image:
            _check_size(image.size, limits)
            _check_frames(image, limits)
        return picture

    @property
    def size(self) -> PixelSize:
        """(width, height) in pixels, upright. Decodes the picture unless `rgb` has done so; raises as it does."""
        if self._size is None:
            self.rgb()
        assert self._size is not None  # noqa: S101 - rgb sets it
        return self._size

    def rgb(self, fit: Callable[[PixelSize], PixelSize] | None = None) -> Image.Image:
        """The picture decoded, upright, in mode RGB; maybe the very image that was given, so not to be altered.

        `fit` makes it faster and less exact: from the full size it tells the least size that is needed, and a JPEG file
        is decoded at a half, a quarter or an eighth where that is enough. `size` remains the full size.
        Raises InvalidInput when the file is corrupt or truncated.
        """
        with self._open() as image:
            _check_size(image.size, self._limits)
            if fit is not None and image.format in ("JPEG", "MPO") and image is not self._source:
                self._size = _draft(image, fit)
            upright = _upright(image)
            if self._size is None:
                self._size = upright.size
            return _to_rgb(upright)

    @contextlib.contextmanager
    def _open(self) -> Iterator[Image.Image]:
        """The image with its header read. Whatever goes wrong inside is InvalidInput."""
        with _decoding(self._limits), contextlib.ExitStack() as stack:
            if isinstance(self._source, Image.Image):
                image = self._source
            elif isinstance(self._source, Path):
                image = Image.open(stack.enter_context(self._open_file(self._source)))
            else:
                self.check_bytes(len(self._source), self._limits.max_bytes)
                image = Image.open(io.BytesIO(self._source))
            if image.format == "EPS":
                raise InvalidInput("the image is EPS, which takes another program to draw; convert it to PNG")
            yield image

    def _open_file(self, path: Path) -> io.BufferedReader:
        return self.open_path(path, self._limits.max_bytes, lambda path: path.open("rb"))


def _source_of(source: object) -> bytes | Path | Image.Image:
    if isinstance(source, bytes | Path | Image.Image):
        return source
    if isinstance(source, np.ndarray):
        return _from_array(source)
    raise InvalidInput(
        "expected an image as bytes, a path, a data: URL, a Pillow image or a numpy array, "
        f"given {type(source).__name__}"
    )


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or not array.size:
        raise InvalidInput(f"expected an array (H, W) or (H, W, 1|3|4), given one of shape {array.shape}")
    if array.dtype != np.uint8:
        array = _as_bytes(array)
    return Image.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array)


def _as_bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise InvalidInput(f"expected an array of integers or finite floats, given {array.dtype}")
    low, high = array.min(), array.max()
    if low < 0 or high > 255:
        raise InvalidInput(f"expected an array with values in 0..255 or 0..1, given {low:g}..{high:g}")
    if np.allclose(array, np.trunc(array)):
        return array.astype(np.uint8)
    if high > 1:
        raise InvalidInput(f"expected floats in 0..1, given {low:g}..{high:g}; scale them, or round them to integers")
    # float32 and then cut off, as in the reference
    return (array.astype(np.float64) * 255).astype(np.float32).astype(np.uint8)


def _check_size(size: PixelSize, limits: Limits) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise InvalidInput(f"the image has no pixels: it is {width} x {height}")
    if width * height > limits.max_pixels:
        raise InvalidInput(
            f"the image is {width} x {height}, {width * height} pixels; at most {limits.max_pixels} are accepted: "
            "make it smaller"
        )
    if max(size) > limits.max_aspect_ratio * min(size):
        raise InvalidInput(
            f"the image is {width} x {height}; one edge may be at most {limits.max_aspect_ratio:g} times the other"
        )


def _check_frames(image: Image.Image, limits: Limits) -> None:
    try:
        frames = getattr(image, "n_frames", 1)
    except Exception:  # noqa: BLE001 - a later frame is broken; the first may be whole, and is all that is used
        return
    if frames > limits.max_frames:
        raise InvalidInput(f"the image has {frames} frames; at most {limits.max_frames} are accepted")


def _orientation(image: Image.Image) -> int:
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))


def _draft(image: Image.Image, fit: Callable[[PixelSize], PixelSize]) -> PixelSize:
    """The upright size of a JPEG that from here on decodes at the smallest scale that `fit` finds large enough."""
    width, height = image.size
    if _orientation(image) not in (5, 6, 7, 8):
        image.draft(None, fit((width, height)))
        return width, height
    least = fit((height, width))
    image.draft(None, (least[1], least[0]))
    return height, width


def _upright(image: Image.Image) -> Image.Image:
    # first load, for some formats find their orientation behind the pixels, or turn by themselves
    image.load()
    # exif_transpose would copy what needs no turn
    return ImageOps.exif_transpose(image) if _orientation(image) in range(2, 9) else image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if "transparency" in image.info:
        # it changes nothing about the colours, but Pillow warns of some kinds of it
        image = image.copy()
        del image.info["transparency"]
    return image.convert("RGB")


@contextlib.contextmanager
def _decoding(limits: Limits) -> Iterator[None]:
    """Pillow at work: without warnings, and with whatever it raises on bad files turned into InvalidInput."""
    _silence_pillow()
    try:
        yield
    except InvalidInput:
        raise
    except UnidentifiedImageError:
        raise MalformedImage("not an image in a format known here, such as JPEG, PNG or WebP") from None
    except Image.DecompressionBombError:
        raise InvalidInput(f"the image has too many pixels; at most {limits.max_pixels} are accepted") from None
    except MemoryError:
        raise InvalidInput("the image does not fit into memory; make it smaller") from None
    except Exception as error:  # decoders fed with hostile bytes may raise anything
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        raise MalformedImage(f"the image is corrupt, truncated or of an unsupported kind ({reason})") from error


def _silence_pillow() -> None:
    """Let no warning about an odd file out of Pillow, from here on.

    Not by `warnings.catch_warnings`: it puts back what it found, which may be what another thread had set meanwhile.
    """
    if _SILENCE not in warnings.filters:
        warnings.filterwarnings("ignore", module=_SILENCE[3].pattern)
