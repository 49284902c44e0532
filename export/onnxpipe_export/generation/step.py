"""What a traced step is given beside its tokens, where the attention of any layer finds it."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import transformers

Tensor = Any  # torch is untyped here
Pair = tuple[Tensor, Tensor]  # keys and values, or cosines and sines


@dataclasses.dataclass(kw_only=True)
class Step:
    """The inputs of one traced step, and the presents that its layers leave behind.

    `tables` is what the layer at hand has said about rotary positions and its attention has not yet used; `bias` is
    added to the scores of every layer.
    """

    seqlens_k: Tensor
    total_sequence_length: Tensor
    input_ids: Tensor
    position_ids: Tensor
    logit_positions: Tensor
    text_lengths: Tensor
    past: Sequence[Pair]
    cross: Sequence[Pair] = ()
    cross_mask: Tensor | None = None
    bias: Tensor | None = None
    tables: Pair | None = None
    present: dict[int, Pair] = dataclasses.field(default_factory=dict)

    def take_tables(self) -> tuple[Tensor | None, Tensor | None]:
        """The rotary tables for this layer's attention, once."""
        tables, self.tables = self.tables, None
        return tables or (None, None)


_steps: list[Step] = []


def current() -> Step:
    """The step being traced."""
    return _steps[-1]


@contextlib.contextmanager
def tracing(step: Step) -> Iterator[Step]:
    """Make `step` the current one."""
    _steps.append(step)
    try:
        yield step
    finally:
        _steps.pop()


class StepCache(transformers.Cache):  # type: ignore[misc]  # transformers is untyped here
    """The cache a model is called with: it keeps nothing, for the attention itself joins past and new."""

    is_compileable = False

    def __init__(self, step: Step) -> None:
        self.layers = [_Layer(key, value) for key, value in step.cross]

    def update(self, key: Tensor, value: Tensor, *_: object, **__: object) -> Pair:
        """The new keys and values alone."""
        return key, value

    def get_seq_length(self, *_: object) -> int:
        """No past that a model would have to know of."""
        return 0


class SourceCache(transformers.EncoderDecoderCache):  # type: ignore[misc]  # as above
    """The same for encoder-decoder models: they are told that all cross-attention keys and values are there."""

    is_compileable = False

    def __init__(self, step: Step) -> None:
        self.self_attention_cache = self.cross_attention_cache = StepCache(step)
        self.is_updated = dict.fromkeys(range(len(step.past)), True)


@dataclasses.dataclass(frozen=True)
class _Layer:
    keys: Tensor
    values: Tensor
