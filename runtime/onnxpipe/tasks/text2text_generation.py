"""text2text-generation: whatever an encoder-decoder model was trained to make of a text.

Models: T5, BART, Blenderbot and all others with an encoder and a decoder.
Reference: transformers 4.57.6 Text2TextGenerationPipeline, but the model's own defaults for lengths and beams.
"""

import dataclasses

from onnxpipe.generation.pipeline import Writing, WritingPipeline
from onnxpipe.generation.rewriting import RewritingParameters, require_encoder, rewritten
from onnxpipe.pipeline import Model

_TASK = "text2text-generation"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters(RewritingParameters):
    """How the text is read, and how the answer is written."""


@dataclasses.dataclass(frozen=True)
class Rewritten:
    """One text that was written."""

    generated_text: str


class Text2TextGeneration(WritingPipeline[str, Parameters, list[Rewritten]]):
    """The texts written about one, as many as `num_return_sequences`, best first where there are beams.

    >>> onnxpipe.load("flan-t5-small")("Translate to German: How old are you?")
    [Rewritten(generated_text='Wie alt bist du?')]
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        require_encoder(self._writer, model.bundle.manifest.id, _TASK)

    def preprocess(self, inputs: str, parameters: Parameters) -> Writing[list[Rewritten]]:
        """The text, behind the prefix that the model has for the task."""
        return rewritten(self._writer, inputs, parameters, task=_TASK, make=Rewritten)
