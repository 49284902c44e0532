"""The model in torch, with the processors that its recipe calls for."""

import dataclasses
from typing import Any

from onnxpipe.errors import UnsupportedModel
from onnxpipe_export.audio import load_feature_extractor
from onnxpipe_export.quiet import first_line, loading, quiet
from onnxpipe_export.recipe import Recipe
from onnxpipe_export.source import SourceModel
from onnxpipe_export.timm_backbones import Weights, dilate, without_timm
from onnxpipe_export.tokenizer import load_tokenizer


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What transformers makes of a model's files; a processor is None where the recipe has no use for it.

    All of transformers is untyped here: `model` is a torch module.
    """

    source: SourceModel
    model: Any
    tokenizer: Any = None
    image_processor: Any = None
    feature_extractor: Any = None


def load_parts(source: SourceModel, recipe: Recipe) -> Loaded:
    """The torch model and its processors. Raises UnsupportedModel when transformers cannot load one of them."""
    return Loaded(
        source,
        load_torch(source, recipe),
        load_tokenizer(source, recipe.tokenizer_class) if "text" in recipe.sections else None,
        load_image_processor(source) if "image" in recipe.sections else None,
        load_feature_extractor(source) if "audio" in recipe.sections else None,
    )


def load_torch(source: SourceModel, recipe: Recipe) -> Any:  # a torch module: torch is untyped here
    """The torch model in evaluation mode, from safetensors, with no code of the repository's own.

    Raises UnsupportedModel when transformers cannot load it.
    """
    import transformers

    auto_class = getattr(transformers, recipe.auto_class)
    with quiet():
        try:
            renamed = without_timm(source)
            if renamed is not None:
                return _load_renamed(source, auto_class, *renamed)
            # of models that write, some other forms of attention leave out what the eager one does: Gemma 2 its caps,
            # GPT-2 its scales by layer
            attention = {"attn_implementation": "eager"} if recipe.exporter == "generation" else {}
            model = auto_class.from_pretrained(
                source.folder, use_safetensors=True, trust_remote_code=False, **attention
            )
        except (ValueError, OSError, KeyError, RuntimeError, ImportError) as error:
            raise UnsupportedModel(f"{source.name}: transformers cannot load it ({first_line(error)})") from error
    return model.eval().float()


def _load_renamed(source: SourceModel, auto_class: Any, config: Any, weights: Weights) -> Any:  # as above
    """The model with these weights, all of which it must have."""
    model = auto_class.from_config(config, trust_remote_code=False)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if wrong := [*missing, *unexpected]:
        raise UnsupportedModel(f"{source.name}: its weights do not fit a ResNet in the place of timm's ({wrong[0]})")
    dilate(model)
    return model.eval().float()


def load_image_processor(source: SourceModel) -> Any:  # a slow image processor of transformers
    """The slow (Pillow) image processor, which the runtime follows. Raises UnsupportedModel when there is none."""
    import transformers

    with loading("image processor", source.name):
        return transformers.AutoImageProcessor.from_pretrained(source.folder, use_fast=False, trust_remote_code=False)
