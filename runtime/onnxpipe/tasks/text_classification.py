"""text-classification: labels with scores for a text or a pair of texts.

Models: sequence classifiers with one or several labels, regressions, and cross-encoders (rerankers).
Reference: transformers 4.57.6 TextClassificationPipeline.
"""

import dataclasses
import functools

from onnxpipe.labels import FUNCTION_DESCRIPTION, Function, Label, require_labels, scored_labels
from onnxpipe.pipeline import Model, Pipeline, Work
from onnxpipe.records import Record, parameter
from onnxpipe.session import Arrays
from onnxpipe.text.tokenizer import Truncation, check_inputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextPair(Record):
    """Two texts that are classified together, such as a query and a passage."""

    text: str = parameter(description="The first text.")
    text_pair: str | None = parameter(
        None, description="The second text; an empty one counts as none, as in transformers."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters(Record):
    """Which labels come back, and what turns logits into scores."""

    top_k: int | None = parameter(None, ge=1, description="How many labels come back; all when absent.")
    function_to_apply: Function | None = parameter(None, description=FUNCTION_DESCRIPTION)
    truncation: bool | Truncation = parameter(
        True,
        description="How a text over the model's limit is cut; false or 'do_not_truncate' makes it an error.",
    )


class TextClassification(Pipeline[str | TextPair, Parameters, list[Label]]):
    """Labels by falling score; scores are in [0, 1] except for regressions and `function_to_apply="none"`.

    >>> onnxpipe.load("sst2")("A charming and often affecting journey.", top_k=1)
    [Label(label='POSITIVE', score=0.9998...)]
    """

    nested = True

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._classification = require_labels(model.bundle.manifest)
        self._graph = model.graph()
        check_inputs(self._graph, model.bundle.manifest.id)

    def preprocess(self, inputs: str | TextPair, parameters: Parameters) -> Work[list[Label]]:
        """One row: the text, or the two texts with the model's separators."""
        pair = TextPair(text=inputs) if isinstance(inputs, str) else inputs
        truncation = parameters.truncation
        if isinstance(truncation, bool):
            truncation = "longest_first" if truncation else "do_not_truncate"
        encoding = self.model.tokenizer.encode(pair.text, pair.text_pair or None, truncation=truncation)
        finish = functools.partial(self.postprocess, parameters=parameters)
        return Work([encoding.row(self._graph)], finish, encoding.cut)

    def postprocess(self, outputs: list[Arrays], parameters: Parameters) -> list[Label]:
        """Logits (C,) to scored labels."""
        logits = outputs[0][self._graph.outputs[0].name]
        return scored_labels(logits, self._classification, parameters.function_to_apply, parameters.top_k)
