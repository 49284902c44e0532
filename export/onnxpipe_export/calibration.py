"""Typical inputs, which the scales of integers are taken from: a user's own pictures, or drawn ones."""

import dataclasses
import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from onnxpipe.batching import Row
from onnxpipe.errors import InvalidInput, UnsupportedModel
from onnxpipe.pipeline import AnyPipeline
from onnxpipe.records import read
from onnxpipe_export.pictures import draw_pictures
from onnxpipe_export.recipe import Recipe

# of a folder: scales gain little by more
_PICTURES = 64
_DRAWN = 32


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Pictures to calibrate on; `drawn` when they are not the user's."""

    pictures: Sequence[Path | str]
    drawn: bool

    def rows(self, pipeline: AnyPipeline, recipe: Recipe) -> Iterator[Row]:
        """The rows that a pipeline makes of the pictures, one picture in memory at a time."""
        parameters = read(pipeline.types()[1], recipe.parameters)
        for picture in self.pictures:
            yield from pipeline.preprocess(pipeline.check_inputs([picture])[0], parameters).rows


def find_calibration(recipe: Recipe, folder: Path | None) -> Calibration | None:
    """Some pictures of a folder and its subfolders, drawn ones when None; nothing for tasks without pictures.

    Files that are no pictures are passed over. Raises UnsupportedModel when there is none, or no use for them.
    """
    if "image" not in recipe.sections:
        if folder is not None:
            raise UnsupportedModel(f"{recipe.task} takes no pictures, so there is nothing to calibrate with {folder}")
        return None
    if folder is None:
        return Calibration(draw_pictures(_DRAWN), drawn=True)
    if not folder.is_dir():
        raise UnsupportedModel(f"{folder}: no such folder; expected one with pictures to calibrate on")
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    random.Random(0).shuffle(files)  # noqa: S311 - a sample, not a secret
    pictures = list(itertools.islice(filter(_is_picture, files), _PICTURES))
    if not pictures:
        raise UnsupportedModel(f"{folder}: no picture in it; expected some of the kind the model is for")
    return Calibration(pictures, drawn=False)


def _is_picture(file: Path) -> bool:
    # here, not above: texts must not pay for loading Pillow
    from onnxpipe.vision.image import Picture

    try:
        Picture.read(file).rgb()
    except InvalidInput:
        return False
    return True
