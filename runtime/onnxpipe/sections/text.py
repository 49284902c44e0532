"""How text goes into a model, and what its outputs mean: vectors, labelled scores, cells of a table."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from onnxpipe.records import FieldError, Record, parameter, require

Pooling = Literal["cls", "max", "mean", "mean_sqrt_len", "weighted_mean", "last_token"]
Activation = Literal["softmax", "sigmoid", "none"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text(Record):
    """How text becomes `input_ids` and back: the tokenizer, its limits, and the prompts that may go before a text.

    `special_tokens` names tokens by role ("mask_token"); `clean_up_spaces` joins punctuation to words after decoding.
    Ids from `unknown_from` on are the tokenizer's own: the model knows them as "unk_token".
    """

    tokenizer: str
    max_tokens: int | None = parameter(None, ge=1, description="Tokens of one input, special ones included.")
    truncation_side: Literal["left", "right"] = "right"
    special_tokens: Mapping[str, str] = dataclasses.field(default_factory=dict)
    clean_up_spaces: bool = False
    unknown_from: int | None = None
    prompts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    default_prompt: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.default_prompt is not None and self.default_prompt not in self.prompts:
            raise FieldError("default_prompt", f"expected one of the prompts, given {self.default_prompt!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embedding(Record):
    """How hidden states become one vector: poolings (several are concatenated), then length 1 when `normalize`.

    `keep_tokens` makes feature-extraction answer with the hidden states of all tokens, as models without a pooling of
    their own do; pooling then serves sentence-similarity alone.
    """

    pooling: tuple[Pooling, ...]
    include_prompt: bool = True
    normalize: bool = False
    keep_tokens: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "pooling")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification(Record):
    """How logits become labelled scores; `labels` in the order of the logits."""

    labels: tuple[str, ...]
    activation: Activation

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "labels")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table(Record):
    """How a question and a table become one row of tokens, and what the outputs make of the cells.

    `type_sizes` are the entries of the model's seven token-type tables: segment, column, row, previous label, rank,
    inverse rank and numeric relation. `max_columns` and `max_rows` are as many as it can tell apart, the header not
    counted; words that begin beyond `max_cell_tokens` are left out of a cell, and questions outside of the two bounds
    altogether. A cell is an answer when the mean of its tokens' scores is above `threshold`. `aggregations` name what
    the second output chooses from, `no_aggregation` the place of the one that leaves the cells as they are.
    """

    empty_token: str
    type_sizes: tuple[int, ...]
    max_columns: int
    max_rows: int
    max_cell_tokens: int | None = parameter(None, ge=1, description="Tokens of one cell; all when absent.")
    min_question_tokens: int | None = None
    max_question_tokens: int | None = None
    read_header: bool = True
    threshold: float = 0.5
    aggregations: tuple[str, ...] = ()
    no_aggregation: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.type_sizes) != 7:
            raise FieldError("type_sizes", f"expected 7 sizes, given {len(self.type_sizes)}")
