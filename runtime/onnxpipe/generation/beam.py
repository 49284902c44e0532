"""Beam search, beam sampling and diverse beam search for one request.

The first two follow transformers 4.57.6 `_beam_search`; diverse beam search (Vijayakumar et al. 2018) follows what is
left in that release, `BeamSearchScorer` and `HammingDiversityLogitsProcessor`. Two differences: a beam that cannot
win (a copy of the prompt at the start, the continuation of a finished text) is dropped rather than followed with a
score of -1e9, so fewer texts than asked for come back where so few can be written; and a group that is done leaves,
while there it goes on with padding tokens, which other groups then avoid.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats
from onnxpipe.generation.history import History
from onnxpipe.generation.logits import Processor, penalize_taken
from onnxpipe.generation.options import GenerationOptions
from onnxpipe.generation.processors import make_processors, process
from onnxpipe.generation.results import FinishReason, Follower, Generated, Step, Stops
from onnxpipe.generation.sampling import draw_several, make_generators, settled_seed
from onnxpipe.generation.scores import Tokens, largest, log_softmax, no_token_left
from onnxpipe.records import FieldError

_Ranks = NDArray[np.intp]
# The score below which the reference counts no text; banned tokens may have the smallest float32 rather than -inf.
_IMPOSSIBLE = -1e9


@dataclasses.dataclass(frozen=True, slots=True)
class _Candidates:
    """Continuations of some beams, best first or in the order they were drawn; each array (K,)."""

    scores: Floats  # of the whole text: its summed log probabilities
    rows: NDArray[np.intp]  # of the request, that they continue
    tokens: Tokens
    logprobs: Floats  # of the token

    def pick(self, ranks: _Ranks) -> "_Candidates":
        return _Candidates(self.scores[ranks], self.rows[ranks], self.tokens[ranks], self.logprobs[ranks])


class BeamSearch:
    """The `num_beams` best texts found by following as many at once, in one group or several."""

    def __init__(
        self,
        options: GenerationOptions,
        prompt: Tokens,
        *,
        max_length: int,
        source: Tokens,
        extra: Sequence[Processor | Follower],
        stops: Stops | None,
        keep_logprobs: bool,
    ) -> None:
        self._options = options
        self._max_length = max_length
        self._stops = stops
        self._history = History(prompt)
        self._logprobs = np.empty((1, 0), np.float32) if keep_logprobs else None
        self._taken: list[Tokens] = []  # tokens that earlier groups got in this step
        self._processors = make_processors(
            options,
            prompt_length=len(prompt),
            max_length=max_length,
            source=source,
            extra=extra,
            diversity=self._avoid_taken if options.num_beam_groups > 1 else None,
        )
        self._followers = [processor for processor in extra if isinstance(processor, Follower)]
        if self._followers and options.num_beam_groups > 1:
            raise FieldError("num_beam_groups", "groups of beams cannot follow a grammar; leave one out")
        self._seed = settled_seed(options.seed) if options.do_sample else None
        self._generator = None if self._seed is None else make_generators(self._seed, 1)[0]
        size = options.num_beams // options.num_beam_groups
        self._groups = [_Group(options, size, max_length - len(prompt)) for _ in range(options.num_beam_groups)]
        self._started = False

    @property
    def rows(self) -> int:
        """See Search."""
        return sum(len(group.scores) for group in self._groups) if self._started else 1

    @property
    def tokens(self) -> Tokens:
        """See Search."""
        return self._history.tokens

    def step(self, logits: Floats, *, last: bool = False) -> Step:
        """See Search."""
        last = last or self._history.length + 1 >= self._max_length
        length = self._history.length + 1 - self._history.prompt_length
        logprobs = log_softmax(logits)
        self._taken.clear()
        chosen, begin = [], 0
        for group in (group for group in self._groups if not group.done):
            begin, end = (begin, begin + len(group.scores)) if self._started else (0, 1)  # all begin with one row
            scores = process(self._processors, self._history.tokens[begin:end], logprobs[begin:end])
            candidates = self._find_candidates(scores, group, begin)
            begin = end
            reasons = self._reasons(candidates, last=last and not group.delays_last)
            running = group.advance(candidates.scores, reasons, self._ending(candidates), length, last=last)
            self._taken.append(candidates.tokens[running])
            chosen.append(candidates.pick(running[:0] if group.done else running))
        self._started = True
        step = Step(
            np.concatenate([candidates.tokens for candidates in chosen]),
            np.concatenate([candidates.rows for candidates in chosen]),
        )
        self._history.extend(step.parents, step.tokens)
        if self._logprobs is not None:
            newest = np.concatenate([candidates.logprobs for candidates in chosen])
            self._logprobs = np.column_stack((self._logprobs[step.parents], newest))
        for follower in self._followers:
            follower.follow(step.parents, step.tokens)
        return step

    def results(self) -> list[Generated]:
        """See Search."""
        finished = [text for group in self._groups for text in group.finished]
        finished.sort(key=lambda text: -(text.score or 0.0))
        return finished[: self._options.num_return_sequences]

    def _find_candidates(self, scores: Floats, group: "_Group", begin: int) -> _Candidates:
        """The best continuations of a group's rows, which start at `begin`, or drawn ones.

        So many that enough of them go on even if all ends are among them.
        """
        count = max(2, 1 + len(self._options.eos_token_ids)) * group.size
        if self._generator is not None:
            totals = scores + group.scores[:, None]
            beams, tokens = np.divmod(draw_several(totals.ravel(), count, self._generator), scores.shape[1])
        else:
            best = [largest(row, count) for row in scores]
            beams, tokens = np.repeat(np.arange(len(best)), [len(found) for found in best]), np.concatenate(best)
        values = scores[beams, tokens]
        candidates = _Candidates(values + group.scores[beams], begin + beams, tokens.astype(np.int64), values)
        candidates = candidates.pick(np.flatnonzero(candidates.scores > _IMPOSSIBLE))
        if not len(candidates.tokens):
            raise no_token_left()
        if self._generator is not None:
            return candidates
        return candidates.pick(np.argsort(-candidates.scores, kind="stable")[:count])

    def _reasons(self, candidates: _Candidates, *, last: bool) -> list[FinishReason | None]:
        """Why each candidate ends the text, if it does."""
        reasons: list[FinishReason | None] = ["length" if last else None] * len(candidates.tokens)
        for rank, token in enumerate(candidates.tokens.tolist()):
            if token in self._options.eos_token_ids:
                reasons[rank] = "eos_token"
        if self._stops is not None:
            for rank, reason in enumerate(reasons):
                if reason != "eos_token" and self._stops(None, self._text(candidates, rank)):
                    reasons[rank] = "stop_sequence"
        return reasons

    def _text(self, candidates: _Candidates, rank: int) -> Tokens:
        return np.append(self._history.generated[candidates.rows[rank]], candidates.tokens[rank])

    def _ending(self, candidates: _Candidates) -> Callable[[int, FinishReason, float], Generated]:
        """Makes the text that ends with a candidate."""

        def end(rank: int, reason: FinishReason, score: float) -> Generated:
            logprobs = None
            if self._logprobs is not None:
                logprobs = np.append(self._logprobs[candidates.rows[rank]], candidates.logprobs[rank])
            return Generated(self._text(candidates, rank), reason, score, logprobs, seed=self._seed)

        return end

    def _avoid_taken(self, _: Tokens, scores: Floats) -> Floats:
        if not self._taken:
            return scores
        return penalize_taken(scores, np.concatenate(self._taken), self._options.diversity_penalty)


class _Group:
    """The state of the beams that compete with each other: scores of the running ones, and the texts that ended."""

    def __init__(self, options: GenerationOptions, size: int, longest: int) -> None:
        self.size = size
        self.scores: Floats = np.zeros(1, np.float32)
        self.finished: list[Generated] = []
        self.done = False
        self._longest = longest
        self._penalty = options.length_penalty
        self._early_stopping = options.early_stopping
        # with groups the reference adds texts that are cut off only when the group is not done without them, and judges
        # what can still come by the best candidate, though that may have ended
        self.delays_last = options.num_beam_groups > 1

    def advance(
        self,
        scores: Floats,
        reasons: Sequence[FinishReason | None],
        end: Callable[[int, FinishReason, float], Generated],
        length: int,
        *,
        last: bool,
    ) -> _Ranks:
        """The ranks of the candidates (K,) that run on, `size` at most; `length` counts their generated tokens."""
        for rank, reason in enumerate(reasons[: self.size]):  # an end further down is not good enough
            if reason is not None:
                self._add(end(rank, reason, float(scores[rank]) / length**self._penalty))
        open_ranks = np.array([rank for rank, reason in enumerate(reasons) if reason is None], np.intp)
        running = open_ranks[np.argsort(-scores[open_ranks], kind="stable")[: self.size]]
        self.done = not len(running) or self._cannot_improve(scores[0 if self.delays_last else running[0]], length)
        if last and not self.done:
            for rank in running:
                self._add(end(int(rank), "length", float(scores[rank]) / length**self._penalty))
            self.done = True
        self.scores = scores[running[:0] if self.done else running]
        return running

    def _cannot_improve(self, best: float, length: int) -> bool:
        if len(self.finished) < self.size:
            return False
        if self._early_stopping is True:
            return True
        # longer texts have better scores when the penalty is positive, so only the longest shows what is possible
        if self._early_stopping == "never" and self._penalty > 0:
            length = self._longest
        worst = self.finished[-1].score or 0.0
        return bool(best / length**self._penalty <= worst)

    def _add(self, text: Generated) -> None:
        self.finished.append(text)
        self.finished.sort(key=lambda kept: -(kept.score or 0.0))
        del self.finished[self.size :]
