"""summarization: a shorter text that says the same.

Models: BART, Pegasus, T5 and other encoder-decoder models.
Reference: transformers 4.57.6 SummarizationPipeline, but the model's own defaults for lengths and beams.
"""

import dataclasses

from onnxpipe.generation.pipeline import Writing, WritingPipeline
from onnxpipe.generation.rewriting import RewritingParameters, require_encoder, rewritten
from onnxpipe.pipeline import Model

_TASK = "summarization"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters(RewritingParameters):
    """How the text is read, and how the summary is written."""


@dataclasses.dataclass(frozen=True)
class Summary:
    """One text that was written."""

    summary_text: str


class Summarization(WritingPipeline[str, Parameters, list[Summary]]):
    """The texts written about one, as many as `num_return_sequences`, best first where there are beams.

    >>> onnxpipe.load("bart-large-cnn")("The tower is 324 metres tall, about the same height as ...")
    [Summary(summary_text='The tower is 324 metres tall ...')]
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        require_encoder(self._writer, model.bundle.manifest.id, _TASK)

    def preprocess(self, inputs: str, parameters: Parameters) -> Writing[list[Summary]]:
        """The text, behind the prefix that the model has for the task."""
        return rewritten(self._writer, inputs, parameters, task=_TASK, make=Summary)
