"""What each task needs to be exported: one row per task.

A row says which transformers class to load, what to ask the exporter for, which output the runtime reads, and how far
each precision may be from torch. Everything else is read from the model's own files.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from onnxpipe.errors import UnsupportedModel
from onnxpipe_export.source import SourceModel

Head = Literal["embedding", "classification"]

# Bounds for the figures of `verify`, per precision. error: any output beside torch's, in units of max(1, the largest
# magnitude). cosine: a text's embedding to torch's. agreement: share of texts with torch's first label. score_error:
# mean distance of scores to torch's.
_EMBEDDING_TOLERANCE = {
    "fp32": {"error": 1e-4, "cosine_mean": 0.9999},
    "int8": {"cosine_mean": 0.97, "cosine_worst": 0.90},
}
_CLASSIFICATION_TOLERANCE = {
    "fp32": {"error": 1e-4, "agreement": 1.0, "score_error": 1e-4},
    "int8": {"agreement": 0.9, "score_error": 0.05},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How models of one task are exported.

    `architectures` are the endings of class names the task is guessed from; `golden_tolerance` says, per precision, how
    far any number of a golden answer may be from torch's on another machine.
    """

    task: str
    other_tasks: tuple[str, ...] = ()
    head: Head
    auto_class: str
    exporter_task: str
    architectures: tuple[str, ...]
    output: str
    tolerance: Mapping[str, Mapping[str, float]]
    golden_tolerance: Mapping[str, float]


RECIPES = {
    recipe.task: recipe
    for recipe in (
        Recipe(
            task="sentence-similarity",
            other_tasks=("feature-extraction",),
            head="embedding",
            auto_class="AutoModel",
            exporter_task="feature-extraction",
            architectures=(),
            output="last_hidden_state",
            tolerance=_EMBEDDING_TOLERANCE,
            golden_tolerance={"fp32": 1e-4, "int8": 0.1},
        ),
        Recipe(
            task="feature-extraction",
            other_tasks=("sentence-similarity",),
            head="embedding",
            auto_class="AutoModel",
            exporter_task="feature-extraction",
            architectures=("Model",),
            output="last_hidden_state",
            tolerance=_EMBEDDING_TOLERANCE,
            golden_tolerance={"fp32": 1e-4, "int8": 0.1},
        ),
        Recipe(
            task="text-classification",
            head="classification",
            auto_class="AutoModelForSequenceClassification",
            exporter_task="text-classification",
            architectures=("ForSequenceClassification",),
            output="logits",
            tolerance=_CLASSIFICATION_TOLERANCE,
            golden_tolerance={"fp32": 1e-4, "int8": 0.2},
        ),
    )
}


def choose_recipe(source: SourceModel, task: str | None) -> Recipe:
    """The row for `task`, or for the task the model's files show when None.

    A sentence-transformers model (modules.json) is a sentence-similarity model; otherwise the architecture tells.
    Raises UnsupportedModel naming the choices.
    """
    choices = ", ".join(sorted(RECIPES))
    if task is not None:
        if task not in RECIPES:
            raise UnsupportedModel(f"cannot export for task {task!r}; tasks: {choices}")
        return RECIPES[task]
    if (source.folder / "modules.json").is_file():
        return RECIPES["sentence-similarity"]
    for recipe in RECIPES.values():
        if source.architecture.endswith(recipe.architectures):
            return recipe
    known = f"its architecture is {source.architecture}" if source.architecture else "config.json names no architecture"
    raise UnsupportedModel(f"{source.name}: the task cannot be told ({known}); choose one with --task: {choices}")


# Texts every export is verified on: short and long, several scripts, symbols, and one beyond every model's limit.
SAMPLES = (
    "That is a happy person",
    "Today is a sunny day.",
    "No.",
    "The film was far too long, but the last twenty minutes made up for it.",
    "Please send the invoice to the accounting department before Friday, 3 pm.",
    "El perro duerme debajo de la mesa.",
    "Быстрая коричневая лиса перепрыгивает через ленивую собаку.",
    "今日は天気がとても良いので、公園を散歩しました。",
    "The meeting was moved; nobody told the people who had already travelled 400 km to attend it.",
    "Water boils at 100 °C at sea level, and at about 71 °C on top of Mount Everest.",
    "I can't believe they cancelled it again 😡😡 #disappointed",
    "a b c d e f g",
    "Her new book compares the railways of India, Japan and Switzerland.",
    "Terrible service. The soup was cold, the waiter rude, and the bill wrong.",
    "An excellent little phone: light, fast, and the battery lasts two days.",
    "if x > 0 and y != 1: return sqrt(x) / (y - 1)",
    "Il faut cultiver notre jardin, dit-il en souriant.",
    "The committee will publish its report on housing, transport and energy prices next spring. " * 3,
    "Le vent se lève sur la plaine et la pluie commence à tomber doucement sur les toits de la ville. " * 2,
    "long text that goes on and on without ever coming to a point, and then on again " * 80,
)
