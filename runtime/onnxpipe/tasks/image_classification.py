"""image-classification: labels with scores for an image.

Models: image classifiers, transformers as well as convolutional networks, with one or several labels, and regressions.
Reference: transformers 4.57.6 ImageClassificationPipeline with slow (Pillow) image processors.
"""

import dataclasses
import functools

from onnxpipe.labels import FUNCTION_DESCRIPTION, Function, Label, require_labels, scored_labels
from onnxpipe.pipeline import Model, Pipeline, Work
from onnxpipe.records import Record, parameter
from onnxpipe.session import Arrays
from onnxpipe.vision.image import Picture
from onnxpipe.vision.pixels import PixelReader, require_image


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters(Record):
    """How many labels come back, and what turns logits into scores."""

    top_k: int | None = parameter(5, ge=1, description="How many labels come back; null means all.")
    function_to_apply: Function | None = parameter(None, description=FUNCTION_DESCRIPTION)


class ImageClassification(Pipeline[Picture, Parameters, list[Label]]):
    """Labels by falling score; scores are in [0, 1] except for regressions and `function_to_apply="none"`.

    >>> onnxpipe.load("vit")("cats.png", top_k=2)
    [Label(label='Egyptian cat', score=0.937...), Label(label='tabby, tabby cat', score=0.038...)]
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._classification = require_labels(model.bundle.manifest)
        threads = model.sessions["model"].threads
        self._reader = PixelReader(require_image(model.bundle.manifest), model.graph(), threads=threads)
        self._output = model.graph().outputs[0].name

    def preprocess(self, inputs: Picture, parameters: Parameters) -> Work[list[Label]]:
        """One row: the picture's pixels."""
        return Work([self._reader.row(inputs)], functools.partial(self.postprocess, parameters=parameters))

    def postprocess(self, outputs: list[Arrays], parameters: Parameters) -> list[Label]:
        """Logits (C,) to scored labels."""
        logits = outputs[0][self._output]
        return scored_labels(logits, self._classification, parameters.function_to_apply, parameters.top_k)
