"""Detectors: how their predictions become objects."""

from collections.abc import Mapping
from typing import Any, Literal

from onnxpipe.errors import UnsupportedModel
from onnxpipe.sections import Detection
from onnxpipe_export.source import SourceModel

# The post-processing that transformers 4.57.6 gives each image processor: rule, and how many objects it keeps.
_RULES: Mapping[str, tuple[Literal["softmax_without_last", "sigmoid_top_k"], int | None]] = {
    "ConditionalDetrImageProcessor": ("sigmoid_top_k", 100),
    "DeformableDetrImageProcessor": ("sigmoid_top_k", 100),
    "DetrImageProcessor": ("softmax_without_last", None),
    "RTDetrImageProcessor": ("sigmoid_top_k", None),
    "YolosImageProcessor": ("softmax_without_last", None),
}


def detection_section(source: SourceModel, model: Any, processor: Any) -> Detection:  # transformers is untyped here
    """Which predictions are objects, as the image processor's own post-processing has it, and the labels by class.

    A class without a label gets transformers' own name for such, LABEL_7. Where the config says that an RT-DETR was
    trained without focal loss, its last class is none; transformers' pipeline does not look.
    Raises UnsupportedModel for a processor without post-processing that we have.
    """
    kind = type(processor).__name__
    if kind not in _RULES:
        names = ", ".join(sorted(_RULES))
        raise UnsupportedModel(f"{source.name}: cannot find objects as {kind} does; supported are: {names}")
    config = model.config
    scores, count = _RULES[kind]
    if not getattr(config, "use_focal_loss", True):
        scores, count = "softmax_without_last", None
    labels = tuple(str(config.id2label.get(index, f"LABEL_{index}")) for index in range(config.num_labels))
    return Detection(labels=labels, scores=scores, count=count)
