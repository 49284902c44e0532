"""Labels and what turns logits into scores, from config.json as transformers 4.57.6 reads it."""

from collections.abc import Mapping
from typing import Any

from onnxpipe.sections import Activation, Classification


def label_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels in the order of the logits: as many as the config names, LABEL_0, LABEL_1, ... where it names none.

    A name that is missing among others is transformers' own for such.
    """
    named = {int(index): str(label) for index, label in (config.get("id2label") or {}).items()}
    count = len(named) or config.get("num_labels") or 2
    return tuple(named.get(index, f"LABEL_{index}") for index in range(count))


def classification_section(config: Mapping[str, Any], *, of_sound: bool = False) -> Classification:
    """Labels, and the activation that transformers' pipeline chooses by problem type and label count.

    Of sound, several labels at once go through a softmax too, as in that pipeline.
    """
    labels = label_names(config)
    activation = _activation(config.get("problem_type"), len(labels))
    softmax = of_sound and activation == "sigmoid" and len(labels) > 1
    return Classification(labels=labels, activation="softmax" if softmax else activation)


def has_entailment(config: Mapping[str, Any]) -> bool:
    """Whether one of a classifier's labels is entailment, in any spelling that starts so."""
    return any(str(label).lower().startswith("entail") for label in (config.get("id2label") or {}).values())


def _activation(problem: str | None, count: int) -> Activation:
    if problem == "regression":
        return "none"
    return "sigmoid" if problem == "multi_label_classification" or count == 1 else "softmax"
