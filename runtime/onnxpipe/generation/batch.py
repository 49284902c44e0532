"""The texts that a decoder writes together: which slots their rows have, and one step for all of them.

Slots come in blocks that share a source: one row each for decoders alone, as many as a text may need for encoder-
decoder models. The blocks in use are always the first ones: when a text leaves, the last block takes its place.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats
from onnxpipe.generation.decoder import Decoder, Ids
from onnxpipe.session import Array

Slots = NDArray[np.intp]


@dataclasses.dataclass(eq=False)
class Text:
    """The rows of one request: the slot of each, its next input token, and how many tokens are written of all.

    `blocks` are those that the slots lie in.
    """

    prompt: Ids
    slots: Slots = dataclasses.field(default_factory=lambda: np.zeros(0, np.intp))
    tokens: Ids = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    length: int = 0
    blocks: list[int] = dataclasses.field(default_factory=list)


class Batch:
    """Texts over one decoder. For one thread at a time."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._width = decoder.rows_per_source
        self._owners: list[Text] = []  # of each block in use

    @property
    def texts(self) -> list[Text]:
        """Those with rows to go on."""
        return list(dict.fromkeys(owner for owner in self._owners if owner.tokens.size))

    @property
    def bytes_per_position(self) -> int:
        """Memory of the keys and values of one token of one row."""
        return self._decoder.cache.bytes_per_position

    @property
    def bytes_per_source_position(self) -> int:
        """Memory of the keys and values of one token of a source."""
        return self._decoder.sources.bytes_per_position

    def enter(self, text: Text, length: int, source: Mapping[str, Array] | None = None) -> None:
        """Give a text its first block, with room for `length` positions; `source` is its encoder's answer."""
        self._take_block(text)
        self._decoder.cache.reserve(len(self._owners) * self._width, length)
        if source is not None:
            self._decoder.write_source(text.blocks[0], source)

    def read_prompt(self, text: Text, count: int, *, every: bool = False) -> Floats:
        """Logits (K, V) behind the next `count` tokens of the prompt: behind the last of them, or `every` one."""
        tokens = text.prompt[text.length : text.length + count]
        first = text.blocks[0] * self._width
        positions = np.arange(len(tokens)) if every else np.array([len(tokens) - 1])
        logits: Floats = self._decoder.run(
            first,
            np.tile(tokens, (self._width, 1)),
            np.full(self._width, text.length),
            np.tile(positions, (self._width, 1)),
            len(text.prompt),
        )[0]
        text.length += len(tokens)
        text.slots = np.arange(first, first + self._width)  # all rows of the block have read it
        return logits

    def go_on(self, text: Text, tokens: Ids, parents: Slots) -> None:
        """Row i of a text becomes a copy of its row parents[i] with tokens[i] behind; none are left of an ended text.

        A text that has just read its prompt is one row.
        """
        if not text.tokens.size and self._width > 1:
            text.slots = text.slots[: len(tokens)]  # they are all the same
        else:
            text.slots = self._place(text, parents)
        text.tokens = tokens
        self._release(text)

    def step(self) -> Floats:
        """Logits (slots, V) behind the next token of every row; row i of a text finds its own at `text.slots[i]`."""
        texts = self.texts
        count = len(self._owners) * self._width
        tokens, lengths = np.zeros((count, 1), np.int64), np.zeros(count, np.int64)
        # slots between that have no row to go on get a token too, where the next one of theirs will be written over it
        for block, owner in enumerate(self._owners):
            lengths[block * self._width : (block + 1) * self._width] = owner.length
        for text in texts:
            tokens[text.slots, 0] = text.tokens
        logits = self._decoder.run(0, tokens, lengths, np.zeros((count, 1), np.int64))[:, 0]
        for text in texts:
            text.length += 1
        return logits

    def leave(self, text: Text) -> None:
        """Take a text out, wherever it stands."""
        text.tokens, text.slots = text.tokens[:0], text.slots[:0]
        self._release(text)

    def rest(self, kept_bytes: int) -> None:
        """Give the memory back that is beyond so many bytes, when there is no text."""
        if not self._owners and self._decoder.size_bytes > kept_bytes:
            self._decoder.clear()

    def _place(self, text: Text, parents: Slots) -> Slots:
        """The slots of a text's new rows. The first child of a row stays where it is, only others are copied."""
        slots = text.slots
        if len(set(parents.tolist())) == len(parents):
            return slots[parents]
        placed = np.full(len(parents), -1)
        kept, firsts = np.unique(parents, return_index=True)
        placed[firsts] = slots[kept]
        others = np.flatnonzero(placed < 0)
        free = sorted(self._slots_of(text.blocks) - set(placed.tolist()))
        while len(free) < len(others):
            block = self._take_block(text)
            free += range(block * self._width, (block + 1) * self._width)
        placed[others] = free[: len(others)]
        self._decoder.cache.reserve(len(self._owners) * self._width, text.length + 1)
        self._decoder.cache.copy(slots[parents[others]], placed[others], text.length)
        return placed

    def _take_block(self, text: Text) -> int:
        self._owners.append(text)
        text.blocks.append(len(self._owners) - 1)
        return text.blocks[-1]

    def _release(self, text: Text) -> None:
        """Give back the blocks of a text that have no row any more."""
        used = set((text.slots // self._width).tolist())
        for hole in sorted(set(text.blocks) - used, reverse=True):
            text.blocks.remove(hole)
            last = len(self._owners) - 1
            if hole != last:
                self._move(last, hole)
            self._owners.pop()

    def _move(self, origin: int, target: int) -> None:
        """Put a block where there is a hole."""
        owner = self._owners[target] = self._owners[origin]
        rows = np.arange(self._width)
        self._decoder.cache.copy(origin * self._width + rows, target * self._width + rows, owner.length)
        if self._decoder.sources.slots:
            self._decoder.move_source(origin, target)
        owner.blocks[owner.blocks.index(origin)] = target
        moved = owner.slots // self._width == origin
        owner.slots = np.where(moved, owner.slots + (target - origin) * self._width, owner.slots)

    def _slots_of(self, blocks: list[int]) -> set[int]:
        return {block * self._width + row for block in blocks for row in range(self._width)}
