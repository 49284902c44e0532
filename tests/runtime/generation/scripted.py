"""A decoder without a model: what a row says next depends on every token it has read and on its source, nothing else.

It keeps the tokens in a real cache, so a row that was copied, moved or overwritten wrongly says something else.
"""

import numpy as np

from onnxpipe.bundle import Tensor
from onnxpipe.generation.cache import Cache
from onnxpipe.generation.options import resolve
from onnxpipe.generation.search import make_search

VOCABULARY = 23
EOS = 2


class ScriptedDecoder:
    """The face of `Decoder`."""

    vocabulary_size = VOCABULARY

    def __init__(self, rows_per_source=1):
        self.rows_per_source = rows_per_source
        self.cache = Cache([_tensor("past_key_values.0.key")], length_step=4)
        self.sources = Cache([_tensor("cross_key_values.0.key")] if rows_per_source > 1 else [], length_step=1)
        self.runs = []

    @property
    def size_bytes(self):
        return sum(buffer.nbytes for buffer in self.cache.buffers.values())

    def write_source(self, number, source):
        self.sources.reserve(number + 1, next(iter(source.values())).shape[1])
        self.sources.write(number, source)

    def move_source(self, origin, target):
        self.sources.copy(np.array([origin]), np.array([target]), self.sources.length)

    def clear(self):
        self.cache.clear()
        self.sources.clear()

    def run(self, first, tokens, lengths, positions, whole=None):
        rows, count = tokens.shape
        assert count == 1 or rows == 1 or not lengths.any(), "a graph takes several tokens of one row or of new ones"
        self.runs.append((rows, count))
        self.cache.reserve(first + rows, int(lengths.max()) + count)
        (buffer,) = self.cache.buffers.values()
        logits = np.zeros((rows, positions.shape[1], VOCABULARY), np.float32)
        for row in range(rows):
            slot = first + row
            buffer[slot, 0, lengths[row] : lengths[row] + count, 0] = tokens[row]
            for kept, position in enumerate(positions[row]):
                read = buffer[slot, 0, : lengths[row] + position + 1, 0]
                logits[row, kept] = _say(read, self._source(slot))
        return logits

    def _source(self, slot):
        if not self.sources.slots:
            return 0
        (buffer,) = self.sources.buffers.values()
        return int(buffer[slot // self.rows_per_source, 0, 0, 0])


def options(**parameters):
    return resolve({"eos_token_id": EOS, "max_new_tokens": 12, **parameters})


def search(prompt, **parameters):
    """The search for one request, and the most tokens of its rows."""
    settled = options(**parameters)
    total = settled.total_length(len(prompt))
    return make_search(settled, prompt, max_length=total), settled.rows, total


def _say(tokens, source):
    seed = [source, *tokens.astype(np.int64)]
    return np.random.default_rng(seed).normal(size=VOCABULARY).astype(np.float32)


def _tensor(name):
    return Tensor(name=name, dtype="float32", shape=("batch", 1, "buffer", 1))
