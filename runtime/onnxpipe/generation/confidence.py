"""Whether a text can be relied on: how likely its tokens were, and how often it repeats itself."""

import math
import zlib

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats
from onnxpipe.generation.scores import Tokens, log_softmax


class TokenScores:
    """A processor that changes nothing and remembers how likely each token was, before any temperature.

    As transformers 4.57.6 `_retrieve_avg_logprobs`: the probabilities of what the rules allow add up to 1.
    """

    def __init__(self, prompt_length: int, eos_ids: tuple[int, ...]) -> None:
        self._prompt_length = prompt_length
        self._eos_ids = list(eos_ids)
        # by the tokens so far: their sum, and the log probabilities of an end behind them
        self._sums = {b"": 0.0}
        self._ends: dict[bytes, NDArray[np.float32]] = {}
        # of the newest step: the log probabilities of what comes next
        self._newest: dict[bytes, Floats] = {}

    def __call__(self, tokens: Tokens, scores: Floats) -> Floats:
        """The scores (R, V) themselves."""
        newest = {}
        for row, logprobs in zip(tokens[:, self._prompt_length :], log_softmax(scores), strict=True):
            key = row.tobytes()
            if row.size:
                before = row[:-1].tobytes()
                self._sums[key] = self._sums[before] + float(self._newest[before][row[-1]])
            newest[key] = logprobs
            self._ends[key] = logprobs[self._eos_ids]
        self._newest = newest
        return scores

    def mean(self, ids: Tokens) -> float:
        """The mean log probability of a finished text (T,), its end included.

        A last token that is neither an end nor of the last step, as a stop string leaves, does not count.
        """
        before, last = ids[:-1].tobytes(), int(ids[-1])
        total = self._sums[before]
        if last in self._eos_ids:
            total += float(self._ends[before][self._eos_ids.index(last)])
        elif before in self._newest:
            total += float(self._newest[before][last])
        else:
            return total / max(1, len(ids) - 1)
        return total / len(ids)


def compression_ratio(ids: Tokens, vocabulary: int) -> float:
    """How many times shorter a text's tokens become when they are compressed: much, where it repeats itself.

    As transformers 4.57.6 `_retrieve_compression_ratio`; the original has the text in the place of its tokens.
    """
    size = int(math.log2(vocabulary) / 8) + 1
    content = b"".join(token.to_bytes(size, "little") for token in ids.tolist())
    return len(content) / len(zlib.compress(content))
