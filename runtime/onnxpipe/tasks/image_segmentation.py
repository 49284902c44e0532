"""image-segmentation: what is where in an image, as labelled masks.

Models: those that score every label at every pixel (SegFormer and its like), and those that give a number of queries a
label and a mask each (DETR, MaskFormer, Mask2Former).
Reference: transformers 4.57.6 ImageSegmentationPipeline with slow (Pillow) image processors. Differences: `score` is
left out where there is none, `fused_labels` can be asked for, and scores are not rounded.
"""

import dataclasses
import functools

import numpy as np

from onnxpipe.arrays import Floats
from onnxpipe.bundle import Manifest
from onnxpipe.errors import UnsupportedModel
from onnxpipe.pipeline import Model, Pipeline, Work
from onnxpipe.records import FieldError, Record, parameter, show
from onnxpipe.sections import Segmentation, Subtask
from onnxpipe.session import Arrays
from onnxpipe.vision.image import Picture
from onnxpipe.vision.mask_png import Mask, decode_mask, encode_mask
from onnxpipe.vision.masks import Segments, find_instances, find_panoptic, find_semantic, label_scores
from onnxpipe.vision.pixels import PixelReader, require_image
from onnxpipe.vision.upsampling import HeightWidth


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters(Record):
    """What kind of segments come back, and how sure they must be; thresholds do not concern `semantic`."""

    subtask: Subtask | None = parameter(
        None,
        description="Things and backgrounds without overlap (panoptic), things one by one (instance), or a label for "
        "each pixel (semantic). When absent, the first of these that the model can do.",
    )
    threshold: float = parameter(0.9, ge=0, le=1, description="How probable a segment's label must be.")
    mask_threshold: float = parameter(
        0.5, ge=0, le=1, description="How probable a pixel must be to count as a part of a mask."
    )
    overlap_mask_area_threshold: float = parameter(
        0.5, ge=0, le=1, description="Which share of its mask a segment must keep where others overlap it."
    )
    fused_labels: tuple[str, ...] | None = parameter(
        None, description="Labels whose panoptic segments become one each, such as sky. When absent, the model's own."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of the image: `mask` is a PNG in base64, of the upright image's size, 255 inside and 0 outside.

    `score` is absent for semantic segments.
    """

    score: float | None = None
    label: str
    mask: str

    def pixels(self) -> Mask:
        """Where the segment is: the mask decoded, (H, W), true inside."""
        return decode_mask(self.mask)


class ImageSegmentation(Pipeline[Picture, Parameters, list[Segment]]):
    """Segments in the order of the model's queries, semantic ones in the order of labels.

    >>> onnxpipe.load("detr-panoptic")("cats.png", threshold=0.95)
    [Segment(score=0.9914..., label='cat', mask='iVBORw0KGgo...'), Segment(score=0.9942..., label='remote', ...), ...]
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._segmentation = require_segmentation(model.bundle.manifest)
        threads = model.sessions["model"].threads
        self._reader = PixelReader(require_image(model.bundle.manifest), model.graph(), threads=threads)
        self._outputs = [tensor.name for tensor in model.graph().outputs]

    def preprocess(self, inputs: Picture, parameters: Parameters) -> Work[list[Segment]]:
        """One row: the picture's pixels. Raises InvalidInput for a subtask or a label that the model does not have."""
        _check_parameters(parameters, self._segmentation)
        row = self._reader.row(inputs)
        width, height = inputs.size
        return Work([row], functools.partial(self.postprocess, size=(height, width), parameters=parameters))

    def postprocess(self, outputs: list[Arrays], size: HeightWidth, parameters: Parameters) -> list[Segment]:
        """Logits, or those of queries and their masks, to segments of an image (height, width)."""
        arrays = [outputs[0][name].astype(np.float32, copy=False) for name in self._outputs]
        segments = find_segments(arrays, size, parameters, self._segmentation)
        labels = self._segmentation.labels
        return [
            Segment(score=segment.score, label=labels[segment.label], mask=encode_mask(segments.mask(segment)))
            for segment in segments.found
        ]


def require_segmentation(manifest: Manifest) -> Segmentation:
    """The manifest's `segmentation` section. Raises UnsupportedModel when the model finds no segments."""
    if manifest.segmentation is None:
        raise UnsupportedModel(f"{manifest.id} finds no segments; it serves: {', '.join(manifest.tasks)}")
    return manifest.segmentation


def find_segments(
    outputs: list[Floats], size: HeightWidth, parameters: Parameters, segmentation: Segmentation
) -> Segments:
    """The segments in one image's outputs, as the model and the parameters want them."""
    subtask = parameters.subtask or segmentation.subtasks[0]
    if segmentation.predicts == "pixels":
        return find_semantic(outputs[0], size)
    logits, masks = outputs[:2]
    between = segmentation.mask_size
    mask_size = None if between is None else (between.height, between.width)
    if subtask == "semantic":
        return find_semantic(label_scores(logits, masks, mask_size), size)
    if subtask == "instance" and segmentation.instances == "pairs":
        return find_instances(logits, masks, size, threshold=parameters.threshold, mask_size=mask_size)
    fused = segmentation.fused_labels if parameters.fused_labels is None else parameters.fused_labels
    return find_panoptic(
        logits,
        masks,
        size,
        threshold=parameters.threshold,
        mask_threshold=parameters.mask_threshold,
        overlap_mask_area_threshold=parameters.overlap_mask_area_threshold,
        mask_size=mask_size,
        fused={place for place, label in enumerate(segmentation.labels) if subtask == "panoptic" and label in fused},
    )


def _check_parameters(parameters: Parameters, segmentation: Segmentation) -> None:
    if parameters.subtask not in (None, *segmentation.subtasks):
        raise FieldError(
            "subtask", f"this model can do {' or '.join(segmentation.subtasks)}, given {parameters.subtask!r}"
        )
    if unknown := set(parameters.fused_labels or ()) - set(segmentation.labels):
        raise FieldError("fused_labels", f"expected labels of the model, given {show(min(unknown))}")
