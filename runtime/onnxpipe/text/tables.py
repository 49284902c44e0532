"""A question and a table as one row of tokens: `[CLS] question [SEP] header cells`, seven type ids beside each token.

Reference: TapasTokenizer of transformers 4.57.6, token by token. Its model fails where a rank is larger than its
embedding table, as in tables with very many rows; here the largest rank stands for those beyond.
T tokens, N tokens of a table, R rows, C columns.
"""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnxpipe.batching import Row
from onnxpipe.bundle import Graph, Table
from onnxpipe.errors import InvalidInput, UnsupportedModel
from onnxpipe.text.quantities import Value, column_values, find_values, ranks, relations
from onnxpipe.text.tokenizer import Tokenizer

Ids = NDArray[np.int64]

# the type ids of a token; the last three are one slice
_SEGMENT, _COLUMN, _ROW, _LABEL, _RANK, _INVERSE_RANK, _RELATION = range(7)
_QUANTITIES = slice(_RANK, _RELATION + 1)

_BLANK_WORDS = ("n/a", "nan")
_WORD = re.compile(r"[^\W_]")


@dataclasses.dataclass(frozen=True)
class Cells:
    """A table's tokens in reading order, header first, and the numbers and dates in its columns.

    `ids`, `rows` (0 is the header), `columns` (from 1) and `places` are (N,); a token's place is that of its word's
    first token within the cell, for words are kept or left out whole. `longest` counts the tokens of the longest cell,
    `shape` is (R, C), `values` has a list for each column.
    """

    ids: Ids
    rows: Ids
    columns: Ids
    places: Ids
    longest: int
    shape: tuple[int, int]
    values: Sequence[Sequence[Value | None]]


@dataclasses.dataclass(frozen=True)
class TableEncoding:
    """`ids` (T,) and `type_ids` (T, 7) of a question and as much of a table as fits; `cut` tokens did not.

    `shape` is that of the whole table.
    """

    ids: Ids
    type_ids: Ids
    shape: tuple[int, int]
    cut: int
    warnings: tuple[str, ...]

    def row(self, graph: Graph) -> Row:
        """The inputs the graph wants."""
        row = {"input_ids": self.ids, "attention_mask": np.ones_like(self.ids), "token_type_ids": self.type_ids}
        return {tensor.name: row[tensor.name] for tensor in graph.inputs}

    def cell_means(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """The mean of `scores` (T,) over each cell's tokens, as (R, C); 0 for a cell without tokens."""
        tokens, cells = self._cells()
        size = self.shape[0] * self.shape[1]
        sums = np.bincount(cells, weights=scores[tokens], minlength=size)
        means: NDArray[np.float64] = sums / np.maximum(np.bincount(cells, minlength=size), 1)
        return means.reshape(self.shape)

    def labelled(self, chosen: NDArray[np.bool_]) -> "TableEncoding":
        """The same tokens, those of the cells `chosen` (R, C) marked as the answer to the question before."""
        tokens, cells = self._cells()
        type_ids = self.type_ids.copy()
        type_ids[tokens, _LABEL] = chosen.ravel()[cells]
        return dataclasses.replace(self, type_ids=type_ids)

    def _cells(self) -> tuple[NDArray[np.intp], Ids]:
        """The tokens below the header, and the cell of each, counted along the rows."""
        tokens = np.flatnonzero(self.type_ids[:, _ROW])
        columns, rows = self.type_ids[tokens, _COLUMN] - 1, self.type_ids[tokens, _ROW] - 1
        return tokens, rows * self.shape[1] + columns


class TableReader:
    """Tables and questions to tokens, by one model's rules.

    Raises UnsupportedModel when the tokenizer lacks a token that these need.
    """

    def __init__(self, tokenizer: Tokenizer, table: Table) -> None:
        self._tokenizer = tokenizer
        self._table = table
        self._empty = self._id(table.empty_token)
        self._cls = self._id(tokenizer.special("cls_token"))
        self._sep = self._id(tokenizer.special("sep_token"))
        special = (table.empty_token, *tokenizer.text.special_tokens.values())
        self._special = re.compile(f"({'|'.join(map(re.escape, special))})")

    def read(self, header: Sequence[str], columns: Sequence[Sequence[str]]) -> Cells:
        """The tokens and values of a table. Raises InvalidInput when it has more columns than the model tells apart."""
        width = len(columns)
        if width > self._table.max_columns:
            raise InvalidInput(f"the table has {width} columns, but this model reads at most {self._table.max_columns}")
        lines = [header if self._table.read_header else [""] * width, *zip(*columns, strict=True)]
        pieces = [self._pieces(cell) for line in lines for cell in line]
        sizes = [len(ids) for ids, _ in pieces]
        rows, positions = np.divmod(np.repeat(np.arange(len(pieces)), sizes), width)
        return Cells(
            ids=np.array([number for ids, _ in pieces for number in ids], dtype=np.int64),
            rows=rows,
            columns=positions + 1,
            places=np.array([place for _, places in pieces for place in places], dtype=np.int64),
            longest=max(sizes),
            shape=(len(columns[0]), width),
            values=[column_values(column) for column in columns],
        )

    def encode(self, cells: Cells, question: str, *, truncate: bool) -> TableEncoding:
        """A question with a table; with `truncate`, with as much of it as the model's limit leaves room for.

        Long cells then lose their last words, and the table its last rows only where not even one word of each cell
        fits. Raises InvalidInput when question and table do not fit.
        """
        ids, values, warnings = self._question(question)
        limit = self._tokenizer.text.max_tokens
        room = cells.ids.size if limit is None else limit - len(ids)
        rows, words = self._fit(cells, room) if truncate else (cells.shape[0], cells.longest)
        kept = (cells.rows <= rows) & (cells.places < words)
        size = int(kept.sum())
        if size > room or rows > self._table.max_rows:
            raise InvalidInput(
                f"the question takes {len(ids)} tokens and the table {cells.ids.size} in {cells.shape[0]} rows; this "
                f"model reads {limit} tokens and {self._table.max_rows} rows: "
                + ("shorten the question" if truncate else "shorten them or allow truncation")
            )
        if rows < cells.shape[0]:
            warnings = (*warnings, f"only the first {rows} of the table's {cells.shape[0]} rows fit and were read")
        type_ids = np.zeros((len(ids) + size, len(self._table.type_sizes)), dtype=np.int64)
        self._fill(type_ids[len(ids) :], cells, kept, values)
        all_ids = np.concatenate([np.array(ids, dtype=np.int64), cells.ids[kept]])
        return TableEncoding(all_ids, type_ids, cells.shape, cells.ids.size - size, warnings)

    def _fill(self, type_ids: Ids, cells: Cells, kept: NDArray[np.bool_], values: Sequence[Value]) -> None:
        """Write the type ids of the table's `kept` tokens, beside a question that holds `values`."""
        quantities = np.array(
            [
                [(*pair, relation) for pair, relation in zip(ranks(column), relations(column, values), strict=True)]
                for column in cells.values
            ]
        )
        rows, columns = cells.rows[kept], cells.columns[kept]
        body = rows > 0
        type_ids[:, _SEGMENT] = 1
        type_ids[:, _COLUMN] = columns
        type_ids[:, _ROW] = rows
        type_ids[body, _QUANTITIES] = quantities[columns[body] - 1, rows[body] - 1]
        np.minimum(type_ids, np.array(self._table.type_sizes) - 1, out=type_ids)

    def _fit(self, cells: Cells, room: int) -> tuple[int, int]:
        """How many rows, and of each cell how many tokens, `room` tokens have room for."""
        trim = self._table.max_cell_tokens
        least = min(cells.longest, trim or 1)
        upto_row = np.bincount(cells.rows[cells.places < least], minlength=cells.shape[0] + 1).cumsum()
        rows = int((upto_row[1 : self._table.max_rows + 1] <= room).sum())
        if trim is not None or not rows:  # a model with a fixed trim does not trim further
            return rows, max(1, least)
        upto_place = np.bincount(cells.places[cells.rows <= rows]).cumsum()
        return rows, max(1, int((upto_place <= room).sum()))

    def _question(self, question: str) -> tuple[list[int], list[Value], tuple[str, ...]]:
        """A question's tokens between [CLS] and [SEP], its values, and a warning where its length leaves it out."""
        ids, _ = self._pieces(question)
        least, most = self._table.min_question_tokens or 0, self._table.max_question_tokens
        if least <= len(ids) and (most is None or len(ids) <= most):
            return [self._cls, *ids, self._sep], find_values(question), ()
        bounds = f"at least {least}" if most is None else f"{least} to {most}"
        warning = f"the question has {len(ids)} tokens, but this model reads {bounds}: it was left out"
        return [self._cls, self._sep], [], (warning,)

    def _pieces(self, text: str) -> tuple[list[int], list[int]]:
        """The tokens of a cell or question, and for each the position of its word's first one.

        A text of nothing but punctuation is the empty token, an empty one has no token at all. So for each part between
        special tokens that a text spells out.
        """
        ids: list[int] = []
        places: list[int] = []
        for part in filter(None, self._special.split(text)):
            start = len(ids)
            if _is_blank(part):
                ids.append(self._empty)
                places.append(start)
                continue
            encoding = self._tokenizer.encode(part, side="right")
            own = encoding.words >= 0  # [CLS] and [SEP] belong to no word
            words = encoding.words[own]
            ids += encoding.ids[own].tolist()
            places += (start + np.searchsorted(words, words)).tolist()
        return ids, places

    def _id(self, token: str | None) -> int:
        number = self._tokenizer.id(token) if token else None
        if number is None:
            raise UnsupportedModel(
                f"tables cannot be read: the tokenizer has no {token or 'token that separates texts'}"
            )
        return number


def _is_blank(text: str) -> bool:
    return not _WORD.search(text) or text.strip().lower() in _BLANK_WORDS
