"""The tokens of the rows of one request: a prompt that all share, and what each has got since."""

import numpy as np
from numpy.typing import NDArray

from onnxpipe.generation.scores import Tokens

# Places for new tokens that are made at first, and doubled when they are full.
_FIRST = 64


class History:
    """Rows of equal length that grow by a token each step, and may be dropped, doubled and put in another order."""

    def __init__(self, prompt: Tokens) -> None:
        self.prompt_length = self.length = len(prompt)
        self._tokens: Tokens = np.zeros((1, len(prompt) + _FIRST), np.int64)
        self._tokens[0, : len(prompt)] = prompt

    @property
    def rows(self) -> int:
        """How many rows there are; 1 before the first step."""
        return len(self._tokens)

    @property
    def tokens(self) -> Tokens:
        """All tokens (R, T): a view that the next step changes."""
        return self._tokens[:, : self.length]

    @property
    def generated(self) -> Tokens:
        """The tokens (R, T - P) behind the prompt: a view that the next step changes."""
        return self._tokens[:, self.prompt_length : self.length]

    def extend(self, parents: NDArray[np.intp], tokens: Tokens) -> None:
        """Rows become copies of the rows `parents` (R',), each with one more token (R',)."""
        if self.length == self._tokens.shape[1]:
            more = max(_FIRST, self.length - self.prompt_length)
            self._tokens = np.pad(self._tokens, ((0, 0), (0, more)))
        begin = self.prompt_length
        if len(parents) != self.rows:
            self._tokens = self._tokens[parents]
        elif not np.array_equal(parents, np.arange(self.rows)):
            # the prompts are the same, so a long one is not copied
            self._tokens[:, begin : self.length] = self._tokens[parents, begin : self.length]
        self._tokens[:, self.length] = tokens
        self.length += 1

    def keep(self, rows: list[int]) -> None:
        """Drop all other rows."""
        self._tokens = self._tokens[rows]
