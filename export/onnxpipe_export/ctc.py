"""The manifest's `ctc` section, and the frames of models that spell out speech.

Vocabularies of speech have no tokenizer.json: their few tokens and rules go into the manifest.
"""

import dataclasses
import math
from typing import Any

from onnxpipe.bundle import Convolved, Graph
from onnxpipe.errors import UnsupportedModel
from onnxpipe.sections import Ctc
from onnxpipe_export.quiet import loading
from onnxpipe_export.source import SourceModel


def ctc_section(source: SourceModel, model: Any) -> Ctc:  # a torch module
    """How frames become text, from the tokenizer's files, and how samples become frames, from the model's.

    Raises UnsupportedModel for a model without such a tokenizer, with one vocabulary per language (adapters), or whose
    frames are not those of its convolutions alone.
    """
    config, tokenizer = model.config, load_ctc_tokenizer(source)
    if tokenizer.target_lang is not None:
        raise UnsupportedModel(f"{source.name}: a vocabulary for each language is not supported")
    if getattr(config, "add_adapter", False):
        raise UnsupportedModel(f"{source.name}: an adapter behind the encoder is not supported")
    tokens = tokenizer.convert_ids_to_tokens([*range(config.vocab_size)])
    return Ctc(
        vocabulary=tuple(map(str, tokens)),
        blank=str(tokenizer.pad_token),
        delimiter=tokenizer.word_delimiter_token,
        space=tokenizer.replace_word_delimiter_char,
        lower_case=bool(tokenizer.do_lower_case),
        clean_up_spaces=bool(tokenizer.clean_up_tokenization_spaces),
        frame_samples=math.prod(config.conv_stride),
    )


def name_frames(graph: Graph, config: Any) -> Graph:  # the model's config
    """The graph, its output's second axis known as what convolutions make of the samples."""
    (output,) = graph.outputs
    batch, _, *others = output.shape
    samples = graph.inputs[0].shape[1]
    convolved = Convolved(of=str(samples), kernels=tuple(config.conv_kernel), strides=tuple(config.conv_stride))
    return Graph(
        inputs=graph.inputs,
        outputs=(dataclasses.replace(output, shape=(batch, "frames", *others)),),
        convolved={"frames": convolved},
    )


def load_ctc_tokenizer(source: SourceModel) -> Any:  # a slow tokenizer of transformers, which is untyped here
    """The tokenizer of a model that spells. Raises UnsupportedModel when there is none, or one of another kind."""
    import transformers

    with loading("tokenizer", source.name):
        tokenizer = transformers.AutoTokenizer.from_pretrained(source.folder, trust_remote_code=False)
    if not isinstance(tokenizer, transformers.Wav2Vec2CTCTokenizer):
        raise UnsupportedModel(
            f"{source.name}: expected a Wav2Vec2CTCTokenizer to spell with, found {type(tokenizer).__name__}"
        )
    return tokenizer
