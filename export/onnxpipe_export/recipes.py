"""What each task needs to be exported: one row per task, by what a model takes.

A row says which transformers class to load, what to ask the exporter for, which outputs the runtime reads, the inputs
an export is verified on, and how far each precision may be from torch. All else is read from the model's own files.
"""

import dataclasses

from onnxpipe.bundle import Manifest
from onnxpipe.errors import UnsupportedModel
from onnxpipe_export.audio_recipes import AUDIO_RECIPES
from onnxpipe_export.generation_recipes import GENERATION_RECIPES
from onnxpipe_export.recipe import Recipe
from onnxpipe_export.source import SourceModel
from onnxpipe_export.speech_recipes import SPEECH_RECIPES
from onnxpipe_export.text_recipes import TEXT_RECIPES
from onnxpipe_export.vision_recipes import VISION_RECIPES

# those on sound first: the classes of their classifiers end like those of texts
_ROWS = (*AUDIO_RECIPES, *SPEECH_RECIPES, *GENERATION_RECIPES, *TEXT_RECIPES, *VISION_RECIPES)
RECIPES = {task: next(row for row in _ROWS if row.task == task) for task in dict.fromkeys(row.task for row in _ROWS)}
# further rows of tasks that models of different kinds do in different ways
_OTHER_KINDS = [row for row in _ROWS if RECIPES[row.task] is not row]


def choose_recipe(source: SourceModel, task: str | None) -> Recipe:
    """The row for `task`, or for the task the model's files show when None.

    A sentence-transformers model (modules.json) is a sentence-similarity model; otherwise the architecture tells.
    Raises UnsupportedModel naming the choices.
    """
    choices = ", ".join(sorted(RECIPES))
    if task is not None:
        if task not in RECIPES:
            raise UnsupportedModel(f"cannot export for task {task!r}; tasks: {choices}")
        others = (recipe for recipe in _OTHER_KINDS if recipe.task == task and _fits(recipe, source))
        return next(others, RECIPES[task]).fit(source)
    if (source.folder / "modules.json").is_file():
        return RECIPES["sentence-similarity"]
    for recipe in (*RECIPES.values(), *_OTHER_KINDS):
        if _fits(recipe, source):
            return recipe.fit(source)
    known = f"its architecture is {source.architecture}" if source.architecture else "config.json names no architecture"
    raise UnsupportedModel(f"{source.name}: the task cannot be told ({known}); choose one with --task: {choices}")


def recipe_of(manifest: Manifest) -> Recipe:
    """The row that a bundle was, or could have been, exported by. Raises UnsupportedModel when there is none."""
    backend = "optimum" if manifest.generation is None else "generation"
    for recipe in _ROWS:
        if recipe.task == manifest.task and recipe.exporter == backend:
            return dataclasses.replace(recipe, other_tasks=manifest.other_tasks)
    raise UnsupportedModel(f"{manifest.id}: nothing says how precisions of {manifest.task} are judged")


def _fits(recipe: Recipe, source: SourceModel) -> bool:
    """Whether a model shows by its files that a row is for it."""
    return source.architecture.endswith(recipe.architectures) and (
        recipe.applies is None or recipe.applies(source.config)
    )
