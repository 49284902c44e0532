"""Hidden states to sentence vectors, as the manifest says: prompt, pooling, normalisation.

Reference: sentence-transformers 5.7 (`models.Pooling`, `models.Normalize`, `SentenceTransformer.encode`).
"""

import dataclasses

import numpy as np

from onnxpipe.arrays import Floats, normalize
from onnxpipe.batching import Row
from onnxpipe.errors import UnprocessableInput, UnsupportedModel
from onnxpipe.pipeline import Model
from onnxpipe.sections import Embedding, Pooling
from onnxpipe.session import Arrays
from onnxpipe.text.tokenizer import Side, Truncation, check_inputs


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A text as a row, how many of its first tokens pooling skips, and how many tokens were cut off."""

    row: Row
    skip: int
    cut: int


class Embedder:
    """Texts to rows and their outputs to vectors, for the tasks that compare or return embeddings."""

    def __init__(self, model: Model) -> None:
        manifest = model.bundle.manifest
        if manifest.embedding is None:
            raise UnsupportedModel(f"{manifest.id} gives no embeddings; it serves: {', '.join(manifest.tasks)}")
        self.embedding: Embedding = manifest.embedding
        self._graph = model.graph()
        self._output = self._graph.outputs[0].name
        self._tokenizer = model.tokenizer
        check_inputs(self._graph, manifest.id)

    def prepare(
        self,
        text: str,
        *,
        prompt_name: str | None = None,
        truncation: Truncation = "longest_first",
        side: Side | None = None,
    ) -> Prepared:
        """The row of a text behind its prompt. Raises UnprocessableInput for a prompt the model does not have."""
        prompt = self._prompt(prompt_name)
        encoding = self._tokenizer.encode(prompt + text, truncation=truncation, side=side)
        skip = 0 if self.embedding.include_prompt or not prompt else self._tokenizer.count_prompt(prompt)
        return Prepared(encoding.row(self._graph), skip, encoding.cut)

    def hidden(self, outputs: Arrays) -> Floats:
        """The hidden states (T, H) of one row."""
        return outputs[self._output].astype(np.float32, copy=False)

    def vector(self, outputs: Arrays, skip: int) -> Floats:
        """The pooled vector (D,) of one row, before normalisation; several poolings are concatenated."""
        hidden = self.hidden(outputs)
        vectors = [pool(hidden, pooling, skip) for pooling in self.embedding.pooling]
        return vectors[0] if len(vectors) == 1 else np.concatenate(vectors)

    def _prompt(self, name: str | None) -> str:
        prompts = self._tokenizer.text.prompts
        name = name or self._tokenizer.text.default_prompt
        if name is None:
            return ""
        if name not in prompts:
            choices = ", ".join(sorted(prompts)) or "none"
            raise UnprocessableInput(f"`prompt_name`: this model has no prompt {name!r}; it has: {choices}")
        return prompts[name]


def pool(hidden: Floats, pooling: Pooling, skip: int = 0) -> Floats:
    """One vector (H,) from the hidden states (T, H) of a text without padding.

    The first `skip` tokens count as masked, so `cls` takes the first behind them. When nothing is left, `cls` is the
    very first token and the others are zero, as in the reference, and the maximum is -1e9 (there: minus infinity).
    """
    rest = hidden[skip:]
    vector: Floats
    if pooling == "cls":
        vector = hidden[skip if skip < len(hidden) else 0]
    elif pooling == "last_token":
        vector = hidden[-1] if len(rest) else np.zeros_like(hidden[-1])
    elif pooling == "max":
        vector = rest.max(axis=0, initial=-1e9)
    elif pooling == "weighted_mean":
        weights = np.arange(skip + 1, len(hidden) + 1, dtype=np.float32)
        vector = (rest * weights[:, None]).sum(axis=0) / np.maximum(weights.sum(), np.float32(1e-9))
    else:
        count = max(len(rest), 1e-9)
        vector = rest.sum(axis=0) / np.float32(count**0.5 if pooling == "mean_sqrt_len" else count)
    return vector


def shorten(vectors: Floats, *, unit: bool, dimensions: int | None) -> Floats:
    """Vectors cut to `dimensions` (Matryoshka models keep their meaning) and, when `unit`, scaled to length 1.

    Raises UnprocessableInput when there are fewer dimensions than asked for.
    """
    if dimensions is not None:
        if dimensions > vectors.shape[-1]:
            raise UnprocessableInput(f"`dimensions`: expected at most {vectors.shape[-1]}, given {dimensions}")
        vectors = vectors[..., :dimensions]
    return normalize(vectors) if unit else vectors
