"""The real pictures on which image tasks are held against the reference, and how many of them a run takes.

With ONNXPIPE_PARITY=full all of them, everywhere. Else most large ones are left out where the reference is slow, and
tests of something that hardly depends on the picture take a part. None is ever made smaller.
"""

import functools
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import PIL.Image
import transformers
from transformers.image_utils import load_image

from onnxpipe_export.quiet import quiet

FULL = os.environ.get("ONNXPIPE_PARITY") == "full"
_MANY_PIXELS, _MOST_PIXELS = 90_000, 10**6
_FOLDERS = ("coco", "photos", "modes", "modes_skimage")

Item = TypeVar("Item")


@functools.cache
def real_pictures(test_data: Path) -> dict[Path, PIL.Image.Image]:
    """Every picture that Pillow opens, decoded as the reference does, by its file: of equal ones the first."""
    found: dict[bytes, tuple[Path, PIL.Image.Image]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd files, of which Pillow complains
        for folder in _FOLDERS:
            for file in sorted((test_data / "images" / folder).rglob("*")):
                try:
                    picture = load_image(str(file))
                except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
                    continue
                found.setdefault(repr(picture.size).encode() + picture.tobytes(), (file, picture))
    return dict(found.values())


def some(items: Sequence[Item], step: int) -> Sequence[Item]:
    """All in a full run, else one of `step`."""
    return items if FULL else items[::step]


def few_large(pictures: Sequence[PIL.Image.Image]) -> list[PIL.Image.Image]:
    """All in a full run, else the small ones, and one of five with more than 300 x 300 pixels, up to a million."""
    large = [picture for picture in pictures if picture.width * picture.height > _MANY_PIXELS]
    kept = [picture for picture in large if picture.width * picture.height <= _MOST_PIXELS][::5]
    left_out = () if FULL else {id(picture) for picture in large} - {id(picture) for picture in kept}
    return [picture for picture in pictures if id(picture) not in left_out]


def reference_pipeline(task: str, source: Path) -> Callable:
    """The reference's pipeline with the slow (Pillow) image processor of a model.

    It is told that channels come last, for it would take the rows of a picture with one or three of them for channels.
    """
    with quiet():
        processor = transformers.AutoImageProcessor.from_pretrained(source, use_fast=False)
        processor.preprocess = functools.partial(processor.preprocess, input_data_format="channels_last")
        return transformers.pipeline(task, str(source), image_processor=processor, device="cpu")


def too_thin(picture: PIL.Image.Image, reference: Callable) -> bool:
    """Whether the reference's own processor fails: nothing would be left of an edge."""
    if max(picture.size) < 8 * min(picture.size):
        return False
    try:
        reference.image_processor([picture])
    except ValueError as error:
        assert "height and width must be > 0" in str(error)  # noqa: PT017 - this one only
        return True
    return False
