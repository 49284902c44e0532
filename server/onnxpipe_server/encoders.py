"""What encoders answer on the routes of other servers: vectors of texts or of tokens, scores of texts and pairs.

The models and their manifests are those of feature-extraction and text-classification; what differs is that inputs may
be token ids, that vectors are pooled (or not) whatever the model's own task does, and which side is cut.
"""

import dataclasses
import functools
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from onnxpipe.errors import UnprocessableInput
from onnxpipe.labels import Function, Label, require_labels, scored_labels
from onnxpipe.pipeline import Model, Pipeline, Work
from onnxpipe.records import FieldError, Record, parameter
from onnxpipe.session import Arrays
from onnxpipe.tasks.feature_extraction import Parameters
from onnxpipe.tasks.text_classification import TextPair
from onnxpipe.text.embedding import Embedder, Prepared, shorten
from onnxpipe.text.tokenizer import Encoding, Side

TokenIds = tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreParameters(Record):
    """How texts are cut and scored."""

    function_to_apply: Function | None = None
    truncate: bool | None = parameter(None, description="Cut a text to the model's limit; false makes it an error.")
    truncation_direction: Literal["left", "right"] | None = parameter(
        None, description="The side that is cut off; the model's own, usually right, when absent."
    )


class Embeddings(Pipeline[str | TokenIds, Parameters, NDArray[np.float32]]):
    """A pooled vector (D,) for each text; with `tokens` the hidden states (T, H) of its tokens instead."""

    def __init__(self, model: Model, *, tokens: bool = False) -> None:
        super().__init__(model)
        self._embedder = Embedder(model)
        self._tokens = tokens

    def preprocess(self, inputs: str | TokenIds, parameters: Parameters) -> Work[NDArray[np.float32]]:
        """One row: the text behind its prompt, or the ids as they are."""
        if isinstance(inputs, str):
            prepared = self._embedder.prepare(
                inputs,
                prompt_name=parameters.prompt_name,
                truncation="do_not_truncate" if parameters.truncate is False else "longest_first",
                side=parameters.truncation_direction,
            )
        else:
            prepared = self._prepare_ids(inputs, parameters)
        finish = functools.partial(self.postprocess, parameters=parameters, skip=prepared.skip)
        return Work([prepared.row], finish, prepared.cut)

    def postprocess(self, outputs: list[Arrays], parameters: Parameters, skip: int) -> NDArray[np.float32]:
        """Pooled, cut to `dimensions`, and of length 1 where that is wanted."""
        if self._tokens:
            return self._embedder.hidden(outputs[0])
        unit = self._embedder.embedding.normalize if parameters.normalize is None else parameters.normalize
        vector = shorten(self._embedder.vector(outputs[0], skip), unit=unit, dimensions=parameters.dimensions)
        return vector.astype(np.float32, copy=False)

    def _prepare_ids(self, given: TokenIds, parameters: Parameters) -> Prepared:
        """The row of token ids: nothing is added to them, special tokens and prompt neither."""
        if parameters.prompt_name is not None:
            raise UnprocessableInput("`prompt_name` goes before texts; it cannot go before token ids")
        tokenizer = self.model.tokenizer
        check_ids(given, tokenizer.size)
        limit, cut = tokenizer.text.max_tokens, 0
        if limit is not None and len(given) > limit:
            if parameters.truncate is False:
                raise UnprocessableInput(
                    f"`inputs` has {len(given)} tokens, the model's limit is {limit}; shorten it or allow truncation"
                )
            cut = len(given) - limit
            side: Side = parameters.truncation_direction or tokenizer.text.truncation_side
            given = given[:limit] if side == "right" else given[-limit:]
        ids = np.array(given, dtype=np.int64)
        return Prepared(Encoding(ids, np.zeros_like(ids), cut).row(self.model.graph()), 0, cut)


class Scores(Pipeline[TextPair, ScoreParameters, list[Label]]):
    """Labels by falling score of a text, or of two that are classified together."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._classification = require_labels(model.bundle.manifest)

    def preprocess(self, inputs: TextPair, parameters: ScoreParameters) -> Work[list[Label]]:
        """One row: the text, or the two texts with the model's separators."""
        encoding = self.model.tokenizer.encode(
            inputs.text,
            inputs.text_pair or None,
            truncation="do_not_truncate" if parameters.truncate is False else "longest_first",
            side=parameters.truncation_direction,
        )
        finish = functools.partial(self.postprocess, parameters=parameters)
        return Work([encoding.row(self.model.graph())], finish, encoding.cut)

    def postprocess(self, outputs: list[Arrays], parameters: ScoreParameters) -> list[Label]:
        """Logits (C,) to scored labels."""
        logits = outputs[0][self.model.graph().outputs[0].name]
        return scored_labels(logits, self._classification, parameters.function_to_apply, None)


def check_ids(ids: TokenIds, size: int, field: str = "inputs") -> None:
    """Raise FieldError for an id that a vocabulary of that size does not have."""
    for number in ids:
        if not 0 <= number < size:
            raise FieldError(field, f"expected token ids from 0 to {size - 1}, given {number}")
