"""The manifest's pre- and post-processing sections, read from the model's own files.

Poolings, limits and prompts come from sentence-transformers' files where the model has them; limits otherwise from the
tokenizer and the position table; labels and activation from config.json.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from onnxpipe.bundle import Graph
from onnxpipe.hub.text import embedding_section
from onnxpipe.records import Record
from onnxpipe.sections import Activation, Classification, Image, Table, Text
from onnxpipe_export.audio import audio_section
from onnxpipe_export.ctc import ctc_section
from onnxpipe_export.detection import detection_section
from onnxpipe_export.generation_sections import chat_section, generation_section, translation_section
from onnxpipe_export.loaded import Loaded
from onnxpipe_export.recipe import Recipe, Section
from onnxpipe_export.segmentation import segmentation_section
from onnxpipe_export.source import SourceModel
from onnxpipe_export.tokenizer_conversions import known_ids
from onnxpipe_export.transcription import transcription_section
from onnxpipe_export.vision import image_section


def make_sections(loaded: Loaded, recipe: Recipe, graph: Graph) -> dict[str, Any]:  # fields of the manifest
    """The manifest's sections a recipe asks for, by name. Raises UnsupportedModel when the files do not tell."""
    return {name: _MAKERS[name](loaded, recipe, graph) for name in recipe.sections}


def text_section(
    source: SourceModel,
    model: Any,  # a torch module
    tokenizer: Any,
    *,
    limited: bool = True,
) -> Text:
    """How text becomes tokens: limits, and sentence-transformers' cleaning and prompts where the model has them.

    `limited` is false for texts that a model goes on with: what it holds is for both, see `Generation.max_length`.
    """
    limits = [limit for limit in (tokenizer.model_max_length, _positions(model)) if limit is not None and limit < 10**6]
    if not limited:
        limits.clear()
    section = Text(
        tokenizer="tokenizer.json",
        max_tokens=min(limits, default=None),
        truncation_side=tokenizer.truncation_side,
        special_tokens={
            role: str(token) for role, token in tokenizer.special_tokens_map.items() if isinstance(token, str)
        },
        clean_up_spaces=tokenizer.clean_up_tokenization_spaces,
        unknown_from=known_ids(tokenizer),
    )
    if source.read_json("modules.json") is None:
        return section
    settings = source.read_json("sentence_bert_config.json") or {}
    prompts = source.read_json("config_sentence_transformers.json") or {}
    if settings.get("max_seq_length"):
        limits.append(settings["max_seq_length"])
    return dataclasses.replace(
        section,
        max_tokens=min(limits, default=None),
        prompts=prompts.get("prompts") or {},
        default_prompt=prompts.get("default_prompt_name"),
    )


def _text(loaded: Loaded, recipe: Recipe, _: Graph) -> Text:
    continues = "generation" in recipe.sections and not loaded.model.config.is_encoder_decoder
    return text_section(loaded.source, loaded.model, loaded.tokenizer, limited=not continues)


def _positions(model: Any) -> int | None:
    """Tokens the position table has room for; tables with a padding row start counting behind it (RoBERTa).

    Without such a table (relative or rotary positions, BART's own): what the config says it was made for.
    """
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and hasattr(module, "num_embeddings"):
            padding = getattr(module, "padding_idx", None)
            return int(module.num_embeddings) - (0 if padding is None else padding + 1)
    positions = getattr(model.config, "max_position_embeddings", None)
    return int(positions) if positions else None


def table_section(source: SourceModel, model: Any, tokenizer: Any) -> Table:  # a torch module and its tokenizer
    """How tables are read, from the tokenizer's settings, and how their cells are chosen, from the model's."""
    settings = source.read_json("tokenizer_config.json") or {}
    config = model.config
    # ids count from 1, 0 being the header, and the largest that the tokenizer knows is never reached
    columns, rows = (
        min(settings.get(name) or tokenizer.model_max_length, size) - 1
        for name, size in zip(("max_column_id", "max_row_id"), config.type_vocab_sizes[1:3], strict=True)
    )
    trim = settings.get("cell_trim_length", -1)
    labels = config.aggregation_labels or {}
    return Table(
        empty_token=settings.get("empty_token", "[EMPTY]"),
        type_sizes=tuple(config.type_vocab_sizes),
        max_columns=columns,
        max_rows=rows,
        max_cell_tokens=None if trim < 0 else max(trim, 1),  # the reference reads one word of a cell at 0 too
        min_question_tokens=settings.get("min_question_length"),
        max_question_tokens=settings.get("max_question_length"),
        read_header=not settings.get("strip_column_names", False),
        aggregations=tuple(str(labels[index]) for index in range(config.num_aggregation_labels) if labels),
        no_aggregation=config.no_aggregation_label_index,
    )


def _image(loaded: Loaded, graph: Graph) -> Image:
    return image_section(loaded.source, loaded.image_processor, fixed_size=_fixed_size(graph))


def _fixed_size(graph: Graph) -> tuple[int, int] | None:
    """The only (height, width) a graph takes, when it takes but one."""
    height, width = next(tensor for tensor in graph.inputs if tensor.name == "pixel_values").shape[-2:]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def classification_section(model: Any, *, of_sound: bool = False) -> Classification:
    """Labels in the order of the logits, and what the model's kind of problem turns logits into scores with.

    Of sound, transformers' pipeline and the Inference API put several labels at once through a softmax too.
    """
    config = model.config
    labels = tuple(str(config.id2label[index]) for index in range(config.num_labels))
    activation = _activation(config)
    softmax = of_sound and activation == "sigmoid" and config.num_labels > 1
    return Classification(labels=labels, activation="softmax" if softmax else activation)


def _activation(config: Any) -> Activation:
    """As transformers' pipeline chooses, by problem type and label count."""
    if config.problem_type == "regression":
        return "none"
    if config.problem_type == "multi_label_classification" or config.num_labels == 1:
        return "sigmoid"
    return "softmax"


# a section is None where a model has no use for it
_MAKERS: dict[Section, Callable[[Loaded, Recipe, Graph], Record | None]] = {
    "text": _text,
    "embedding": lambda loaded, *_: embedding_section(loaded.source),
    "classification": lambda loaded, recipe, _: classification_section(
        loaded.model, of_sound="audio" in recipe.sections
    ),
    "table": lambda loaded, *_: table_section(loaded.source, loaded.model, loaded.tokenizer),
    "image": lambda loaded, _, graph: _image(loaded, graph),
    "audio": lambda loaded, *_: audio_section(loaded.source, loaded.feature_extractor, loaded.model.config),
    "detection": lambda loaded, *_: detection_section(loaded.source, loaded.model, loaded.image_processor),
    "segmentation": lambda loaded, _, graph: segmentation_section(
        loaded.source, loaded.model, loaded.image_processor, graph
    ),
    "generation": lambda loaded, recipe, _: generation_section(loaded, recipe.tasks),
    "transcription": lambda loaded, *_: transcription_section(loaded),
    "translation": lambda loaded, *_: translation_section(loaded),
    "chat": lambda loaded, *_: chat_section(loaded),
    "ctc": lambda loaded, *_: ctc_section(loaded.source, loaded.model),
}
