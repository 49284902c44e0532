"""The engines of one graph: with all threads for a run, and with one for each of several runs."""

import dataclasses

from onnxpipe.session import Engine

# A row alone on the machine runs faster with all threads from this length on, and before it with one.
_WIDE_FROM = 32


@dataclasses.dataclass(frozen=True)
class Engines:
    """`narrow` is there where rows cannot share a run."""

    wide: Engine
    narrow: Engine | None = None

    def choose(self, size: int, *, alone: bool) -> Engine:
        """The faster one for rows of that size, or for others beside them."""
        if self.narrow is None or (alone and size >= _WIDE_FROM):
            return self.wide
        return self.narrow
