"""A question and a table as one row of tokens: `[CLS] question [SEP] header cells`, seven type ids beside each token.

Reference: TapasTokenizer of transformers 4.57.6, token by token. Its model fails where a rank is larger than its
embedding table, as in tables with very many rows; here the largest rank stands for those beyond.
T tokens, N tokens of a table, R rows, C columns.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnxpipe.batching import Row
from onnxpipe.bundle import Graph
from onnxpipe.errors import InvalidInput, UnsupportedModel
from onnxpipe.sections import Table
from onnxpipe.text.quantities import Value, column_values, find_values, ranks, relations
from onnxpipe.text.tokenizer import Tokenizer

Ids = NDArray[np.int64]

# the type ids of a token; the ranks from below and from above are one slice
_SEGMENT, _COLUMN, _ROW, _LABEL, _RANK, _INVERSE_RANK, _RELATION = range(7)
_RANKS = slice(_RANK, _INVERSE_RANK + 1)

# what a reader remembers: at most this many tables of at most so many characters, some megabytes in all
_REMEMBERED_TABLES = 8
_REMEMBERED_CHARACTERS = 10_000

# texts that have nothing to read
_BLANK = re.compile(r"[\W_]+|\s*(n/a|nan)\s*", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Cells:
    """A table's tokens in reading order, header first, and the numbers and dates in its columns.

    `ids` and `cells` (counted along the rows from the header's first) are (N,), ids of `tokenizer`. `type_ids`
    (cells, 7) are those of a cell's tokens, beside a question that holds no values. `shape` is (R, C), `values` has a
    list for each column.
    """

    ids: Ids
    cells: Ids
    tokenizer: Tokenizer
    type_ids: Ids
    shape: tuple[int, int]
    values: Sequence[Sequence[Value | None]]

    @functools.cached_property
    def rows(self) -> Ids:
        """The row of each token (N,), 0 being the header."""
        return self.cells // self.shape[1]

    @functools.cached_property
    def places(self) -> Ids:
        """Where in its cell each token's word begins (N,), for words are kept or left out whole."""
        positions = np.arange(self.ids.size)
        words = np.maximum.accumulate(np.where(self.tokenizer.begin_words(self.ids), positions, 0))
        return words - np.searchsorted(self.cells, self.cells)

    @functools.cached_property
    def longest(self) -> int:
        """How many tokens the longest cell has."""
        return int(np.bincount(self.cells, minlength=1).max())


@dataclasses.dataclass(frozen=True)
class TableEncoding:
    """`ids` (T,) and `type_ids` (T, 7) of a question and as much of a table as fits; `cut` tokens did not.

    `cells` are those of the table's tokens, which come last, counted as in `Cells`; `shape` is that of the whole table.
    """

    ids: Ids
    type_ids: Ids
    cells: Ids
    shape: tuple[int, int]
    cut: int
    warnings: tuple[str, ...]

    def row(self, graph: Graph) -> Row:
        """The inputs the graph wants."""
        row = {"input_ids": self.ids, "attention_mask": np.ones_like(self.ids), "token_type_ids": self.type_ids}
        return {tensor.name: row[tensor.name] for tensor in graph.inputs}

    def cell_means(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """The mean of `scores` (T,) over each cell's tokens, as (R, C); 0 for a cell without tokens."""
        rows, width = self.shape
        size = (rows + 1) * width
        sums = np.bincount(self.cells, scores[self._start :], size)
        means: NDArray[np.float64] = sums / np.maximum(np.bincount(self.cells, None, size), 1)
        return means[width:].reshape(self.shape)

    def labelled(self, chosen: NDArray[np.bool_]) -> "TableEncoding":
        """The same tokens, those of the cells `chosen` (R, C) marked as the answer to the question before."""
        header = np.zeros(self.shape[1], dtype=np.bool_)
        type_ids = self.type_ids.copy()
        type_ids[self._start :, _LABEL] = np.append(header, chosen)[self.cells]
        return dataclasses.replace(self, type_ids=type_ids)

    @property
    def _start(self) -> int:
        """Where the table begins."""
        return self.ids.size - self.cells.size


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
        self._largest = np.array(table.type_sizes) - 1
        self._remembered = functools.lru_cache(_REMEMBERED_TABLES)(self._read)

    def read(self, header: Sequence[str], columns: Sequence[Sequence[str]]) -> Cells:
        """The tokens and values of a table. Raises InvalidInput when it has more columns than the model tells apart.

        Those of the last small tables are remembered, for often one is asked several questions.
        """
        cells = tuple(map(tuple, columns))
        size = len(" ".join(itertools.chain(header, *cells)))  # so that empty cells count too
        return (self._remembered if size <= _REMEMBERED_CHARACTERS else self._read)(tuple(header), cells)

    def _read(self, header: Sequence[str], columns: Sequence[Sequence[str]]) -> Cells:
        width = len(columns)
        if width > self._table.max_columns:
            raise InvalidInput(f"the table has {width} columns, but this model reads at most {self._table.max_columns}")
        lines = [header if self._table.read_header else [""] * width, *zip(*columns, strict=True)]
        ids, cells = self._tokens([cell for line in lines for cell in line])
        values = [column_values(column) for column in columns]
        type_ids = self._type_ids(len(lines), values)
        return Cells(ids, cells, self._tokenizer, type_ids, (len(columns[0]), width), values)

    def _type_ids(self, lines: int, values: Sequence[Sequence[Value | None]]) -> Ids:
        """The type ids (cells, 7) of a table in reading order, but for how its values relate to a question's."""
        type_ids = np.zeros((lines, len(values), self._largest.size), dtype=np.int64)
        type_ids[..., _SEGMENT] = 1
        type_ids[..., _COLUMN] = np.arange(1, len(values) + 1)
        type_ids[..., _ROW] = np.arange(lines)[:, None]
        for index, column in enumerate(values):
            if column.count(None) < len(column):
                type_ids[1:, index, _RANKS] = ranks(column)
        np.minimum(type_ids, self._largest, out=type_ids)
        return type_ids.reshape(-1, self._largest.size)

    def encode(self, cells: Cells, question: str, *, truncate: bool) -> TableEncoding:
        """A question with a table; with `truncate`, with as much of it as the model's limit leaves room for.

        Long cells then lose their last words, and the table its last rows only where not even one word of each cell
        fits. Raises InvalidInput when question and table do not fit.
        """
        ids, values, warnings = self._question(question)
        limit = self._tokenizer.text.max_tokens
        room = cells.ids.size if limit is None else limit - len(ids)
        rows, kept = self._fit(cells, room) if truncate else (cells.shape[0], slice(None))
        table_ids, table_cells = cells.ids[kept], cells.cells[kept]
        size = table_ids.size
        if size > room or rows > self._table.max_rows:
            raise InvalidInput(
                f"the question takes {len(ids)} tokens and the table {cells.ids.size} in {cells.shape[0]} rows; this "
                f"model reads {limit} tokens and {self._table.max_rows} rows: "
                + ("shorten the question" if truncate else "shorten them or allow truncation")
            )
        if rows < cells.shape[0]:
            warnings = (*warnings, f"only the first {rows} of the table's {cells.shape[0]} rows fit and were read")
        type_ids = np.zeros((len(ids) + size, self._largest.size), dtype=np.int64)
        type_ids[len(ids) :] = cells.type_ids[table_cells]
        if values:
            codes = np.array([[0, *relations(column, values)] for column in cells.values]).T.ravel()
            type_ids[len(ids) :, _RELATION] = np.minimum(codes, self._largest[_RELATION])[table_cells]
        all_ids = np.concatenate([np.array(ids, dtype=np.int64), table_ids])
        return TableEncoding(all_ids, type_ids, table_cells, cells.shape, cells.ids.size - size, warnings)

    def _fit(self, cells: Cells, room: int) -> tuple[int, slice | NDArray[np.bool_]]:
        """How many rows `room` tokens have room for, and which of the table's tokens those are."""
        trim = self._table.max_cell_tokens
        fits = cells.ids.size <= room and cells.shape[0] <= self._table.max_rows
        if fits and (trim is None or cells.longest <= trim):
            return cells.shape[0], slice(None)
        least = min(cells.longest, trim or 1)
        upto_row = np.bincount(cells.rows[cells.places < least], minlength=cells.shape[0] + 1).cumsum()
        rows = int((upto_row[1 : self._table.max_rows + 1] <= room).sum())
        words = least
        if trim is None and rows:  # a model with a fixed trim does not trim further
            words = int((np.bincount(cells.places[cells.rows <= rows]).cumsum() <= room).sum())
        return rows, (cells.rows <= rows) & (cells.places < max(1, words))

    def _question(self, question: str) -> tuple[list[int], list[Value], tuple[str, ...]]:
        """A question's tokens between [CLS] and [SEP], its values, and a warning where its length leaves it out."""
        ids = self._tokens([question])[0].tolist()
        least, most = self._table.min_question_tokens or 0, self._table.max_question_tokens
        if least <= len(ids) and (most is None or len(ids) <= most):
            return [self._cls, *ids, self._sep], find_values(question), ()
        bounds = f"at least {least}" if most is None else f"{least} to {most}"
        warning = f"the question has {len(ids)} tokens, but this model reads {bounds}: it was left out"
        return [self._cls, self._sep], [], (warning,)

    def _tokens(self, texts: Sequence[str]) -> tuple[Ids, Ids]:
        """The tokens of cells or a question behind one another, and the index of each one's text.

        A text of nothing but punctuation is the empty token, an empty one has no token at all. So for each part between
        special tokens that a text spells out.
        """
        owners, parts = list(range(len(texts))), list(texts)
        if self._special.search("\n".join(texts)):
            pairs = [(index, part) for index, text in enumerate(texts) for part in self._special.split(text)]
            owners, parts = [index for index, _ in pairs], [part for _, part in pairs]
        blanks = [index for index, part in enumerate(parts) if _BLANK.fullmatch(part)]
        for index in blanks:
            parts[index] = ""  # no token; the empty one follows below
        ids, sources = (np.array(column, dtype=np.int64) for column in self._tokenizer.encode_joined(parts))
        if blanks:
            places = np.searchsorted(sources, blanks)
            ids = np.insert(ids, places, self._empty)
            sources = np.insert(sources, places, blanks)
        return ids, np.array(owners, dtype=np.int64)[sources]

    def _id(self, token: str | None) -> int:
        number = self._tokenizer.id(token) if token else None
        if number is None:
            raise UnsupportedModel(
                f"tables cannot be read: the tokenizer has no {token or 'token that separates texts'}"
            )
        return number
