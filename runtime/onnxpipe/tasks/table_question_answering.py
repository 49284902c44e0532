"""table-question-answering: the cells of a table that answer a question, and what to do with them.

Models: those that score each token of a table and may choose an aggregation; trained on single questions, or on
conversations in which a question refers to the answer before. Reference: transformers 4.57.6
TableQuestionAnsweringPipeline.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import sigmoid
from onnxpipe.errors import UnsupportedModel
from onnxpipe.pipeline import Model, Pipeline, Work
from onnxpipe.records import FieldError, Record, parameter
from onnxpipe.session import Arrays
from onnxpipe.text.tables import TableEncoding, TableReader
from onnxpipe.text.tokenizer import check_inputs

_LOGITS, _AGGREGATION = "logits", "logits_aggregation"
_NO_AGGREGATION = "NONE"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs(Record):
    """A table, and a question or several of them."""

    table: Mapping[str, tuple[str | int | float, ...]] = parameter(
        description="The cells of each column, by its header; numbers are read as they are written."
    )
    query: str | tuple[str, ...] = parameter(
        aliases=("question",), description="A question, or a list of them, which is answered with a list."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = {header: len(cells) for header, cells in self.table.items()}
        if not any(sizes.values()):
            raise FieldError("table", "expected at least one column with a cell, given an empty table")
        first, size = next(iter(sizes.items()))
        for header, other in sizes.items():
            if other != size:
                raise FieldError(f"table.{header}", f"expected {size} cells as in {first!r}, given {other}")
        if not self.queries or not all(self.queries):
            raise FieldError("query", "expected a question, given an empty one")

    @property
    def queries(self) -> tuple[str, ...]:
        """The questions, one or several."""
        return (self.query,) if isinstance(self.query, str) else self.query

    @property
    def columns(self) -> list[list[str]]:
        """The cells of each column as text."""
        return [[str(cell) for cell in cells] for cells in self.table.values()]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters(Record):
    """How several questions are related, and what happens to a table that is too long."""

    sequential: bool = parameter(
        False, description="Whether each of several questions may refer to the answer before, as in a conversation."
    )
    truncation: bool | Literal["drop_rows_to_fit", "do_not_truncate"] = parameter(
        "drop_rows_to_fit",
        description="How a table over the model's limit is cut: long cells first, then its last rows. False or "
        "'do_not_truncate' makes it an error.",
    )
    padding: bool | Literal["do_not_pad", "longest", "max_length"] = parameter(
        "do_not_pad", description="Accepted for compatibility: padding changes no answer, and is added where it is due."
    )


@dataclasses.dataclass(frozen=True)
class Answer:
    """The cells that answer, each with its row and column from 0, and the aggregation that is to be applied to them.

    `answer` joins the cells, behind the aggregation's name where there is one to apply.
    """

    answer: str
    coordinates: list[list[int]]
    cells: list[str]
    aggregator: str


class TableQuestionAnswering(Pipeline[Inputs, Parameters, Answer | list[Answer]]):
    """One answer for one question, a list for a list.

    >>> table = {
    ...     "Repository": ["Transformers", "Datasets", "Tokenizers"],
    ...     "Stars": ["36542", "4512", "3934"],
    ...     "Contributors": ["651", "77", "34"],
    ...     "Programming language": ["Python", "Python", "Rust, Python and NodeJS"],
    ... }
    >>> onnxpipe.load("wtq")({"query": "How many stars does the transformers repository have?", "table": table})
    Answer(answer='AVERAGE > 36542', coordinates=[[0, 1]], cells=['36542'], aggregator='AVERAGE')
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        manifest = model.bundle.manifest
        if manifest.table is None:
            raise UnsupportedModel(f"{manifest.id} does not read tables; it serves: {', '.join(manifest.tasks)}")
        self._table = manifest.table
        self._graph = model.graph()
        check_inputs(self._graph, manifest.id)
        self._reader = TableReader(model.tokenizer, self._table)

    def preprocess(self, inputs: Inputs, parameters: Parameters) -> Work[Answer | list[Answer]]:
        """One row per question; of a conversation the first, as later ones need the answers before them."""
        columns = inputs.columns
        cells = self._reader.read([*inputs.table], columns)
        truncate = parameters.truncation in (True, "drop_rows_to_fit")
        encodings = [self._reader.encode(cells, query, truncate=truncate) for query in inputs.queries]
        finish = functools.partial(
            self.postprocess, encodings=encodings, columns=columns, single=isinstance(inputs.query, str)
        )
        return Work(
            [encoding.row(self._graph) for encoding in (encodings[:1] if parameters.sequential else encodings)],
            finish,
            sum(encoding.cut for encoding in encodings),
            tuple(dict.fromkeys(warning for encoding in encodings for warning in encoding.warnings)),
        )

    def postprocess(
        self,
        outputs: list[Arrays],
        encodings: Sequence[TableEncoding],
        columns: Sequence[Sequence[str]],
        *,
        single: bool,
    ) -> Answer | list[Answer]:
        """Token logits (T,) and aggregation logits (A,) of each question to answers.

        Where there are outputs of the first question alone, the others are run here, each told the answer before it.
        """
        answers = []
        chosen = np.zeros(0, dtype=np.bool_)
        for index, encoding in enumerate(encodings):
            if index < len(outputs):
                output = outputs[index]
            else:
                ((_, output),) = self.infer([encoding.labelled(chosen).row(self._graph)])
            scores = sigmoid(output[_LOGITS].astype(np.float32, copy=False))
            chosen = encoding.cell_means(scores) > self._table.threshold
            answers.append(self._answer(chosen, output, columns))
        return answers[0] if single else answers

    def _answer(self, chosen: NDArray[np.bool_], output: Arrays, columns: Sequence[Sequence[str]]) -> Answer:
        """The answer made of the cells that are `chosen` (R, C)."""
        rows, positions = (axis.tolist() for axis in chosen.nonzero())
        coordinates = [[row, column] for row, column in zip(rows, positions, strict=True)]
        cells = [columns[column][row] for row, column in coordinates]
        text = ", ".join(cells)
        if not self._table.aggregations:
            return Answer(text, coordinates, cells, _NO_AGGREGATION)
        number = int(output[_AGGREGATION].argmax())
        aggregator = self._table.aggregations[number]
        prefix = "" if number == self._table.no_aggregation else f"{aggregator} > "
        return Answer(prefix + text, coordinates, cells, aggregator)
