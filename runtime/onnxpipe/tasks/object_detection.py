"""object-detection: labelled boxes around the objects in an image.

Models: detectors that predict a set: DETR and Conditional DETR, YOLOS, RT-DETR, D-FINE and their kin.
Reference: transformers 4.57.6 ObjectDetectionPipeline with slow (Pillow) image processors; boxes are clipped to the
picture, which the reference does not do.
"""

import dataclasses
import functools

import numpy as np

from onnxpipe.pipeline import Model, Pipeline, Work
from onnxpipe.records import Record, parameter
from onnxpipe.session import Arrays
from onnxpipe.vision.boxes import choose, pixel_boxes, require_detection
from onnxpipe.vision.image import Picture, PixelSize
from onnxpipe.vision.pixels import PixelReader, require_image


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters(Record):
    """Which objects come back."""

    threshold: float = parameter(0.5, ge=0, le=1, description="Only objects with a higher score come back.")


@dataclasses.dataclass(frozen=True)
class Box:
    """Edges in pixels of the image, upright; left and top count from 0."""

    xmin: int
    ymin: int
    xmax: int
    ymax: int


@dataclasses.dataclass(frozen=True)
class DetectedObject:
    """What is in a box; the score is in [0, 1]."""

    score: float
    label: str
    box: Box


class ObjectDetection(Pipeline[Picture, Parameters, list[DetectedObject]]):
    """Objects in the model's order, which is not always that of their scores; an empty list when there are none.

    >>> onnxpipe.load("detr")("cats.png", threshold=0.9)
    [DetectedObject(score=0.998..., label='cat', box=Box(xmin=344, ymin=24, xmax=640, ymax=372)), ...]
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._detection = require_detection(model.bundle.manifest)
        threads = model.sessions["model"].threads
        self._reader = PixelReader(require_image(model.bundle.manifest), model.graph(), threads=threads)
        self._logits, self._boxes = (tensor.name for tensor in model.graph().outputs[:2])

    def preprocess(self, inputs: Picture, parameters: Parameters) -> Work[list[DetectedObject]]:
        """One row: the picture's pixels."""
        row = self._reader.row(inputs)
        return Work([row], functools.partial(self.postprocess, size=inputs.size, parameters=parameters))

    def postprocess(self, outputs: list[Arrays], size: PixelSize, parameters: Parameters) -> list[DetectedObject]:
        """Logits (Q, C) and relative boxes (Q, 4) to the objects in a picture of `size`."""
        logits, boxes = (outputs[0][name].astype(np.float32, copy=False) for name in (self._logits, self._boxes))
        queries, classes, scores = choose(logits, self._detection)
        (kept,) = np.nonzero(scores > parameters.threshold)
        edges = pixel_boxes(boxes[queries[kept]], self._detection.box_format, size)
        return [
            DetectedObject(float(scores[index]), self._detection.labels[classes[index]], Box(*corners))
            for index, corners in zip(kept, edges.tolist(), strict=True)
        ]
