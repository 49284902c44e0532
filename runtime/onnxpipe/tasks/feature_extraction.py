"""feature-extraction: a text's embedding, or the hidden states of its tokens.

Models: encoders (BERT, RoBERTa, ...), and sentence-transformers models, whose own pooling and normalisation are used.
Reference: sentence-transformers 5.7 where the model has its modules, else the FeatureExtractionPipeline of
transformers 4.57.6.
"""

import dataclasses
import functools
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from onnxpipe.pipeline import Model, Pipeline, Work
from onnxpipe.records import Record, parameter
from onnxpipe.session import Arrays
from onnxpipe.text.embedding import Embedder, shorten


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters(Record):
    """How the embedding is made; what is not given is as the model's own modules say."""

    normalize: bool | None = parameter(
        None, description="Scale to length 1; true or false overrides the model's own setting."
    )
    truncate: bool | None = parameter(None, description="Cut a text to the model's limit; false makes it an error.")
    truncation_direction: Literal["left", "right"] | None = parameter(
        None, description="The side that is cut off; the model's own, usually right, when absent."
    )
    prompt_name: str | None = parameter(None, description="Name of one of the model's prompts, put before the text.")
    dimensions: int | None = parameter(None, ge=1, description="Keep only the first dimensions of the embedding.")


class FeatureExtraction(Pipeline[str, Parameters, NDArray[np.float32]]):
    """Embeddings: a vector (D,) where the model pools, else the hidden states of the tokens (1, T, H), as float32.

    >>> onnxpipe.load("all-MiniLM-L6-v2", task="feature-extraction")("That is a happy person").shape
    (384,)
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._embedder = Embedder(model)

    def preprocess(self, inputs: str, parameters: Parameters) -> Work[NDArray[np.float32]]:
        """One row: the text behind its prompt."""
        prepared = self._embedder.prepare(
            inputs,
            prompt_name=parameters.prompt_name,
            truncation="do_not_truncate" if parameters.truncate is False else "longest_first",
            side=parameters.truncation_direction,
        )
        finish = functools.partial(self.postprocess, parameters=parameters, skip=prepared.skip)
        return Work([prepared.row], finish, prepared.cut)

    def postprocess(self, outputs: list[Arrays], parameters: Parameters, skip: int) -> NDArray[np.float32]:
        """Pooled, cut to `dimensions`, and of length 1 where the model or the caller wants that."""
        embedding = self._embedder.embedding
        if embedding.keep_tokens:
            vectors = self._embedder.hidden(outputs[0])[None]
        else:
            vectors = self._embedder.vector(outputs[0], skip)
        unit = embedding.normalize if parameters.normalize is None else parameters.normalize
        return shorten(vectors, unit=unit, dimensions=parameters.dimensions).astype(np.float32, copy=False)
