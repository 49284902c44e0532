"""A task that writes: its requests go through the model's token loop instead of single runs."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from onnxpipe.batching import Row
from onnxpipe.generation.transcript import Token
from onnxpipe.generation.writer import Composition, write_all, writer_of
from onnxpipe.pipeline import Answer, I, Model, P, Pipeline, Work
from onnxpipe.records import read
from onnxpipe.session import Arrays

R = TypeVar("R")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Writing(Work[R]):
    """One input, ready to be written on; `finish` makes the result when all its texts are there."""

    composition: Composition


class WritingPipeline(Pipeline[I, P, R]):
    """A task over a model that writes. `preprocess` gives `Writing`.

    Raises UnsupportedModel when the bundle has no graph that writes.
    """

    joined = True

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._writer = writer_of(model)

    @property
    def has_encoder(self) -> bool:
        """Whether the model reads a text as a whole and writes another about it."""
        return self._writer.has_encoder

    def stream(self, inputs: I, **parameters: object) -> Iterator[tuple[int, Token]]:
        """The number of a text and its next token, as they come; closing the iterator ends the work.

        Raises InvalidInput for wrong inputs or parameters.
        """
        checked = read(self.types()[1], parameters)
        (one,) = self.check_inputs([inputs])
        return self.writing(one, checked).composition.stream()

    def writing(self, inputs: I, parameters: P) -> Writing[R]:
        """`preprocess` with the type that it has here."""
        work = self.preprocess(inputs, parameters)
        assert isinstance(work, Writing)  # noqa: S101 - as the class says
        return work

    def infer(self, rows: Sequence[Row]) -> Iterator[tuple[int, Arrays]]:  # noqa: ARG002 - there are none
        """Nothing: what there is to write has been written."""
        return iter(())

    def _run_window(self, works: Sequence[Work[R]], answer: Answer[R]) -> None:
        """Write all texts of some works together, then make their results."""
        begin = time.perf_counter()
        compositions = [work.composition for work in works if isinstance(work, Writing)]
        write_all(self._writer, compositions)
        answer.infer_ms += 1e3 * (time.perf_counter() - begin)
        answer.elements += sum(composition.token_count for composition in compositions)
        super()._run_window(works, answer)
