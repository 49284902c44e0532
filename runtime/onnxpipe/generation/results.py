"""What a search says: a step's rows, its tokens, and finished texts. `search` tells how they are used."""

import dataclasses
from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats
from onnxpipe.generation.scores import Tokens

FinishReason = Literal["length", "eos_token", "stop_sequence"]
# Whether a text ends behind its newest token: called with the sequence's number, None for a candidate of a beam, which
# may come to nothing, and its generated tokens (T,), which are valid only during the call.
Stops = Callable[[int | None, Tokens], bool]


@dataclasses.dataclass(frozen=True, slots=True)
class LogprobOptions:
    """Which log probabilities are kept: of each chosen token and of the `top_n` likeliest.

    `of` "scores" means what the token was chosen from, after all processors, as text generation inference has it;
    "logits" the model's own distribution. Removed tokens are never among the likeliest, so there may be fewer.
    """

    of: Literal["scores", "logits"] = "scores"
    top_n: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """A token that a sequence got, with what is told about it when log probabilities are kept."""

    sequence: int
    token: int
    logprob: float | None
    top: tuple[tuple[int, float], ...]
    finish_reason: FinishReason | None


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """What follows from the scores of one step.

    `tokens` (R',) are the next inputs of the remaining rows, `parents` (R',) the rows they continue. `choices` are
    the tokens that texts got, those that ended with them included; beams, whose texts are not settled, have none.
    """

    tokens: Tokens
    parents: NDArray[np.intp]
    choices: tuple[Choice, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Generated:
    """A finished text: its tokens (T,), the one that ended it included, without the prompt.

    `score` is a beam's score (sum of log probabilities / length ** length_penalty), or the mean log probability where
    such are kept; `seed` what can draw it again. Beams have log probabilities of the processed scores, and no `top`.
    """

    ids: Tokens
    finish_reason: FinishReason
    score: float | None = None
    logprobs: Floats | None = None
    top: tuple[tuple[tuple[int, float], ...], ...] = ()
    seed: int | None = None


class Search(Protocol):
    """A search in progress."""

    @property
    def rows(self) -> int:
        """How many rows the next step takes the scores of; 0 when all is done."""

    @property
    def tokens(self) -> Tokens:
        """All tokens (rows, T) of the rows, the prompt's included: a view that the next step changes."""

    def step(self, logits: Floats, *, last: bool = False) -> Step:
        """Go on by one token with logits (rows, V), which are not kept; with `last` (time is up) all texts end here.

        Raises InvalidInput when no token may follow.
        """

    def results(self) -> list[Generated]:
        """The finished texts, best first where they are ranked; `best_of` gives the losers too."""


@runtime_checkable
class Follower(Protocol):
    """A processor with a state for each row (a grammar): told what became of the rows after each step."""

    def __call__(self, tokens: Tokens, scores: Floats, /) -> Floats:
        """Scores (R, V) for rows with these tokens so far (R, T)."""

    def follow(self, parents: NDArray[np.intp], tokens: Tokens) -> None:
        """Rows became copies of `parents` (R',) with one more token (R',)."""


@runtime_checkable
class Awaited(Protocol):
    """A processor that is being made in another thread."""

    def wait(self, seconds: float) -> bool:
        """Whether it is ready, after so many seconds at most. Raises what its making does."""
