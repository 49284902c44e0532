"""One step of a decoder graph: new tokens of some rows in, logits out; keys and values stay where they are.

The graph's inputs and outputs are described in `onnxpipe_export.generation`. Shape letters: B rows, T new tokens of
each, K positions whose logits are wanted, V vocabulary, b sources.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats
from onnxpipe.bundle import Graph
from onnxpipe.generation.cache import Cache
from onnxpipe.session import Array, Binding, Session

Ids = NDArray[np.int64]

_PAST, _PRESENT, _SOURCE = "past_key_values.", "present.", "cross_key_values."
# slots grow by so many positions at a time, so that few rows make them grow
_LENGTH_STEP = 64
_SOURCE_STEP = 16


class Decoder:
    """A decoder graph with its buffers. For one thread at a time.

    `rows_per_source` rows in a row share a source in encoder-decoder models; it is 1 in others.
    """

    def __init__(self, session: Session, graph: Graph, rows_per_source: int = 1) -> None:
        self._binding = Binding(session)
        self._inputs = {tensor.name: tensor for tensor in graph.inputs}
        self._logits_tensor = next(tensor for tensor in graph.outputs if tensor.name == "logits")
        self.rows_per_source = rows_per_source
        self.cache = Cache(
            [tensor for tensor in graph.inputs if tensor.name.startswith(_PAST)], length_step=_LENGTH_STEP
        )
        # attention to sources goes over the whole slot; at these lengths it adds up in the same order, whatever the
        # longest of them is, so that a text does not depend on its neighbours
        self.sources = Cache(
            [tensor for tensor in graph.inputs if tensor.name.startswith(_SOURCE)],
            # without a mask all sources have one length, and what lies behind it would be read
            length_step=_SOURCE_STEP if "encoder_attention_mask" in self._inputs else 1,
        )
        self._source_mask: Ids = np.zeros((0, 0), np.int64)
        self._bound: tuple[Any, ...] = ()
        self._feeds: dict[str, Array] = {}
        self._logits: Floats = np.zeros((0, 0, 0), np.float32)

    @property
    def vocabulary_size(self) -> int:
        """How many logits a position has."""
        return int(self._logits_tensor.shape[-1])

    @property
    def size_bytes(self) -> int:
        """Memory of all buffers."""
        return sum(buffer.nbytes for cache in (self.cache, self.sources) for buffer in cache.buffers.values())

    def write_source(self, number: int, source: Mapping[str, Array]) -> None:
        """Keep the keys and values (heads, S, D) of an encoder's answer as source `number`, as long as there is none
        longer; in the place of what it was before.
        """
        length = next(iter(source.values())).shape[1]
        self.sources.reserve(number + 1, length)
        if self._source_mask.shape != (self.sources.slots, self.sources.length):
            mask = np.zeros((self.sources.slots, self.sources.length), np.int64)
            mask[: self._source_mask.shape[0], : self._source_mask.shape[1]] = self._source_mask
            self._source_mask = mask
        self.sources.write(number, source)
        self._source_mask[number] = np.arange(self.sources.length) < length

    def move_source(self, origin: int, target: int) -> None:
        """Make source `target` what source `origin` is."""
        self.sources.copy(np.array([origin]), np.array([target]), self.sources.length)
        self._source_mask[target] = self._source_mask[origin]

    def clear(self) -> None:
        """Give the memory of all rows back."""
        self.cache.clear()
        self.sources.clear()
        self._source_mask = np.zeros((0, 0), np.int64)
        self._bound, self._feeds = (), {}

    def run(self, first: int, tokens: Ids, lengths: Ids, positions: Ids, whole: int | None = None) -> Floats:
        """Logits (B, K, V) at `positions` (B, K) of the new `tokens` (B, T), which become part of their rows.

        The rows lie in the slots from `first` on; `lengths` (B,) positions of each are written already. T > 1 wants
        rows of length 0, or a single row; when it is part of a prompt, that has `whole` tokens. The logits are
        overwritten by the next run.
        """
        rows, count = tokens.shape
        total = int(lengths.max()) + count
        self.cache.reserve(first + rows, total)
        bound = (first, tokens.shape, positions.shape, self.cache.shape, self.sources.shape)
        if bound != self._bound:
            self._bind(first, rows, count, positions.shape[1])
            self._bound = bound
        feeds = self._feeds
        feeds["input_ids"][...] = tokens
        feeds["seqlens_k"][...] = lengths + (count - 1)
        feeds["total_sequence_length"][...] = total
        feeds["logit_positions"][...] = positions
        if "text_lengths" in feeds:
            feeds["text_lengths"][...] = lengths + count if whole is None else whole
        if "position_ids" in feeds:
            feeds["position_ids"][...] = lengths[:, None] + np.arange(count)
        if "encoder_attention_mask" in feeds:
            feeds["encoder_attention_mask"][...] = self._source_mask[self._source_slice(first, rows)]
        self._binding.run()
        return self._logits

    def _bind(self, first: int, rows: int, count: int, kept: int) -> None:
        """New feeds and outputs for rows `first` to `first + rows`."""
        slots, sources = slice(first, first + rows), self._source_slice(first, rows)
        past = {name: buffer[slots] for name, buffer in self.cache.buffers.items()}
        cross = {name: buffer[sources] for name, buffer in self.sources.buffers.items()}
        shapes: dict[str, tuple[int, ...]] = {
            "input_ids": (rows, count),
            "position_ids": (rows, count),
            "seqlens_k": (rows,),
            "total_sequence_length": (),
            "logit_positions": (rows, kept),
            "text_lengths": (rows,),
            "encoder_attention_mask": (sources.stop - sources.start, self.sources.length),
        }
        self._feeds = {
            name: np.zeros(shape, self._inputs[name].dtype) for name, shape in shapes.items() if name in self._inputs
        }
        self._logits = np.zeros((rows, kept, self.vocabulary_size), self._logits_tensor.dtype)
        presents = {_PRESENT + name.removeprefix(_PAST): buffer for name, buffer in past.items()}
        self._binding.bind({**self._feeds, **past, **cross}, {"logits": self._logits, **presents})

    def _source_slice(self, first: int, rows: int) -> slice:
        return slice(first // self.rows_per_source, (first + rows) // self.rows_per_source)
