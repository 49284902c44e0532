"""Typical inputs, which the scales of integers are taken from: a user's own pictures, or drawn ones."""

import dataclasses
import itertools
import json
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
_LONGEST_PATH = 256


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Pictures to calibrate on, or other inputs; `drawn` when they are not the user's."""

    pictures: Sequence[object]
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


def read_inputs(file: Path) -> list[object]:
    """The inputs in a file: of each line the text, or `inputs` of a JSON object, whose paths begin at its folder.

    Raises InvalidInput when it cannot be read, has none, or has a line that is something else.
    """
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file}: cannot be read as text ({error})") from None
    if not lines:
        raise InvalidInput(f"{file}: it is empty; expected an input in each line")
    if not lines[0].lstrip().startswith("{"):
        return list(lines)
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line)["inputs"])
        except (ValueError, KeyError, TypeError):
            raise InvalidInput(f'{file}: line {number} is no {{"inputs": ...}}') from None
    return [_beside(file, inputs) for inputs in found]


def _beside(file: Path, inputs: object) -> object:
    """A path as seen from the file that names it; anything else as it is."""
    short = isinstance(inputs, str) and len(inputs) < _LONGEST_PATH and "\0" not in inputs
    return file.parent / str(inputs) if short and (file.parent / str(inputs)).is_file() else inputs


def _is_picture(file: Path) -> bool:
    # here, not above: texts must not pay for loading Pillow
    from onnxpipe.vision.image import Picture

    try:
        Picture.read(file).rgb()
    except InvalidInput:
        return False
    return True
