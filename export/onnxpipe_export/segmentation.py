"""Segmentation models: what heads give, and the manifest's section."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from onnxpipe.bundle import Graph
from onnxpipe.errors import UnsupportedModel
from onnxpipe.sections import Segmentation, Size, Subtask
from onnxpipe_export.recipe import Head
from onnxpipe_export.source import SourceModel

# The end of an architecture's name -> what such models are loaded and traced as. Masks are the last output.
HEADS: Mapping[str, Head] = {
    "ForSegmentation": Head(
        auto_class="AutoModelForImageSegmentation",
        exporter_task="image-segmentation",
        outputs=("logits", "pred_masks"),
    ),
    "ForInstanceSegmentation": Head(
        auto_class="AutoModelForInstanceSegmentation",
        exporter_task="image-segmentation",
        outputs=("class_queries_logits", "masks_queries_logits"),
    ),
    "ForUniversalSegmentation": Head(
        auto_class="AutoModelForUniversalSegmentation",
        exporter_task="image-segmentation",
        outputs=("class_queries_logits", "masks_queries_logits"),
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Rules:
    instances: Literal["queries", "pairs"]
    mask_size: Size | None = None


# The post-processing that transformers 4.57.6 gives each image processor, where queries have masks.
_RULES: Mapping[str, _Rules] = {
    "DetrImageProcessor": _Rules(instances="queries"),
    "MaskFormerImageProcessor": _Rules(instances="pairs"),
    "Mask2FormerImageProcessor": _Rules(instances="pairs", mask_size=Size(height=384, width=384)),
}
_SUBTASKS: tuple[Subtask, ...] = ("panoptic", "instance", "semantic")  # transformers' pipeline takes the first there is


def segmentation_section(source: SourceModel, model: Any, processor: Any, graph: Graph) -> Segmentation:
    """How outputs become segments, as the image processor's own post-processing has it, and the labels by class.

    Transformers are untyped here. A class without a label gets transformers' own name for such, LABEL_7. Which labels
    to fuse no file of transformers tells; where config.json has `label_ids_to_fuse`, as the processor's argument is
    called, those. Raises UnsupportedModel for a processor without post-processing that we have.
    """
    kind = type(processor).__name__
    config = model.config
    labels = tuple(str(config.id2label.get(index, f"LABEL_{index}")) for index in range(config.num_labels))
    subtasks = tuple(name for name in _SUBTASKS if hasattr(processor, f"post_process_{name}_segmentation"))
    if len(graph.outputs) == 1:
        if "semantic" not in subtasks:
            raise UnsupportedModel(f"{source.name}: its {kind} has no post-processing for segmentation")
        return Segmentation(labels=labels, subtasks=("semantic",), predicts="pixels")
    if kind not in _RULES:
        names = ", ".join(sorted(_RULES))
        raise UnsupportedModel(f"{source.name}: cannot find segments as {kind} does; supported are: {names}")
    fused = getattr(config, "label_ids_to_fuse", None) or ()
    return Segmentation(
        labels=labels,
        subtasks=subtasks,
        predicts="queries",
        instances=_RULES[kind].instances,
        mask_size=_RULES[kind].mask_size,
        fused_labels=tuple(labels[index] for index in fused),
    )
