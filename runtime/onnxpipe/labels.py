"""Logits of a whole input to labels with scores: what texts, images and sounds that are classified have in common."""

import dataclasses
from typing import Literal

import numpy as np

from onnxpipe.arrays import Floats, descending, sigmoid, softmax
from onnxpipe.bundle import Manifest
from onnxpipe.errors import UnsupportedModel
from onnxpipe.sections import Activation, Classification

Function = Literal["sigmoid", "softmax", "none"]
FUNCTION_DESCRIPTION = (
    "What turns logits into scores. When absent: nothing for a regression, sigmoid for several labels at once or a "
    "single one, else softmax."
)


@dataclasses.dataclass(frozen=True)
class Label:
    """A label and its score."""

    label: str
    score: float


def require_labels(manifest: Manifest) -> Classification:
    """The manifest's labels. Raises UnsupportedModel when it has none."""
    if manifest.classification is None:
        raise UnsupportedModel(f"{manifest.id} has no labels; it serves: {', '.join(manifest.tasks)}")
    return manifest.classification


def scored_labels(
    logits: Floats, classification: Classification, function: Function | None, top_k: int | None
) -> list[Label]:
    """The `top_k` labels (all when None) of logits (C,) by falling score; `function` None means the model's own."""
    scores = apply_activation(logits.astype(np.float32, copy=False), function or classification.activation)
    labels = classification.labels
    return [Label(labels[index], float(scores[index])) for index in descending(scores, top_k)]


def apply_activation(logits: Floats, activation: Activation) -> Floats:
    """Scores of logits along the last axis."""
    if activation == "none":
        return logits
    return softmax(logits) if activation == "softmax" else sigmoid(logits)
