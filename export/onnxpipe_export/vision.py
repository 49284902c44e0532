"""The manifest's `image` section, of a model's slow image processor.

The processor's class knows the old spellings of preprocessor_config.json, so its attributes are read and not the file.
"""

from typing import Any

from onnxpipe.hub.vision import processed_image
from onnxpipe.sections import Image
from onnxpipe_export.source import SourceModel

Processor = Any  # a slow image processor: transformers is untyped here


def image_section(source: SourceModel, processor: Processor, *, fixed_size: tuple[int, int] | None = None) -> Image:
    """How the model's pictures are made, for a graph that takes but one (height, width) if there is a `fixed_size`.

    Raises UnsupportedModel for a processor we do not have, or a size it could not use itself.
    """
    kind = type(processor).__name__.replace("FeatureExtractor", "ImageProcessor")  # as they were called before
    return processed_image(source.name, kind, vars(processor), fixed_size=fixed_size)
