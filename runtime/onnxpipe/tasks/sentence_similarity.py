"""sentence-similarity: how alike each of several sentences is to one, as the cosine of their embeddings.

Models: every model that serves feature-extraction. Reference: sentence-transformers 5.7 (`util.cos_sim`).
"""

import dataclasses
import functools
from typing import Literal

import numpy as np

from onnxpipe.arrays import normalize
from onnxpipe.pipeline import Model, Pipeline, Work
from onnxpipe.records import FieldError, Record, parameter
from onnxpipe.session import Arrays
from onnxpipe.text.embedding import Embedder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs(Record):
    """One sentence and those it is compared with."""

    source_sentence: str = parameter(description="The sentence the others are compared with.")
    sentences: tuple[str, ...] = parameter(description="The sentences to compare; at least one.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sentences:
            raise FieldError("sentences", "expected at least one sentence, given an empty list")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters(Record):
    """How the texts are embedded before they are compared."""

    truncate: bool | None = parameter(None, description="Cut a text to the model's limit; false makes it an error.")
    truncation_direction: Literal["left", "right"] | None = parameter(
        None, description="The side that is cut off; the model's own, usually right, when absent."
    )
    prompt_name: str | None = parameter(None, description="Name of one of the model's prompts, put before every text.")


class SentenceSimilarity(Pipeline[Inputs, Parameters, list[float]]):
    """Cosines in the order of the sentences, each in [-1, 1].

    >>> similarity = onnxpipe.load("all-MiniLM-L6-v2")
    >>> similarity({"source_sentence": "That is a happy person", "sentences": ["That is a happy dog"]})
    [0.694577...]
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._embedder = Embedder(model)

    def preprocess(self, inputs: Inputs, parameters: Parameters) -> Work[list[float]]:
        """One row per text, the source sentence first."""
        prepared = [
            self._embedder.prepare(
                text,
                prompt_name=parameters.prompt_name,
                truncation="do_not_truncate" if parameters.truncate is False else "longest_first",
                side=parameters.truncation_direction,
            )
            for text in (inputs.source_sentence, *inputs.sentences)
        ]
        finish = functools.partial(self.postprocess, skips=[item.skip for item in prepared])
        return Work([item.row for item in prepared], finish, sum(item.cut for item in prepared))

    def postprocess(self, outputs: list[Arrays], skips: list[int]) -> list[float]:
        """The cosine of the first vector with each of the others."""
        vectors = [self._embedder.vector(output, skip) for output, skip in zip(outputs, skips, strict=True)]
        units = normalize(np.stack(vectors))
        cosines: list[float] = np.clip(units[1:] @ units[0], -1.0, 1.0).tolist()
        return cosines
