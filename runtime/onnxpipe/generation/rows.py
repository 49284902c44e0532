"""Greedy search and sampling: one text or several that do not depend on each other."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats
from onnxpipe.generation.history import History
from onnxpipe.generation.logits import Processor
from onnxpipe.generation.options import GenerationOptions
from onnxpipe.generation.processors import make_processors, process
from onnxpipe.generation.results import Choice, FinishReason, Follower, Generated, LogprobOptions, Step, Stops
from onnxpipe.generation.sampling import draw, make_generators, settled_seed, token_logprobs, top_tokens
from onnxpipe.generation.scores import Tokens, no_token_left


class RowSearch:
    """Texts that do not depend on each other: the best token each time, or drawn ones with a generator for each."""

    def __init__(
        self,
        options: GenerationOptions,
        prompt: Tokens,
        *,
        max_length: int,
        source: Tokens,
        extra: Sequence[Processor | Follower],
        stops: Stops | None,
        logprobs: LogprobOptions | None,
    ) -> None:
        self._options = options
        self._max_length = max_length
        self._is_ranked = (options.best_of or 1) > 1
        self._processors = make_processors(
            options, prompt_length=len(prompt), max_length=max_length, source=source, extra=extra
        )
        self._followers = [processor for processor in extra if isinstance(processor, Follower)]
        self._stops = stops
        # they rank the texts
        self._logprobs = LogprobOptions() if logprobs is None and self._is_ranked else logprobs
        self._history = History(prompt)
        count = options.rows
        self._seed = settled_seed(options.seed) if options.do_sample else None
        self._generators = [] if self._seed is None else make_generators(self._seed, count)
        self._sequences = list(range(count))  # of each row
        self._kept: list[list[Choice]] = [[] for _ in range(count)]
        self._results: dict[int, Generated] = {}

    @property
    def rows(self) -> int:
        """See Search."""
        return min(len(self._sequences), self._history.rows)

    @property
    def tokens(self) -> Tokens:
        """See Search."""
        return self._history.tokens

    def step(self, logits: Floats, *, last: bool = False) -> Step:
        """See Search."""
        scores = process(self._processors, self._history.tokens, logits)
        origins = np.arange(len(self._sequences))
        if len(logits) < len(origins):  # the first step: one row for all
            origins[:] = 0
        tokens = self._choose(scores, origins)
        self._history.extend(origins, tokens)
        choices = tuple(self._describe(logits, scores, origins, tokens, last=last))
        remaining = [row for row, choice in enumerate(choices) if choice.finish_reason is None]
        for row, choice in enumerate(choices):
            if choice.finish_reason is not None:
                self._results[choice.sequence] = self._finish(row, choice)
        step = Step(tokens, origins, choices)
        if len(remaining) < len(origins):
            step = Step(tokens[remaining], origins[remaining], choices)
            self._sequences = [self._sequences[row] for row in remaining]
            self._history.keep(remaining)
        for follower in self._followers:
            follower.follow(step.parents, step.tokens)
        return step

    def results(self) -> list[Generated]:
        """See Search. With `best_of` those that are returned come first: the highest mean log probability of all its
        tokens, the end included, makes a text the best, and of equal ones the first. The losers keep their order. So it
        is in text generation inference 3.3.6 (router/src/infer/mod.rs, generate_best_of).
        """
        texts = [self._results[sequence] for sequence in sorted(self._results)]
        if not self._is_ranked:
            return texts
        ranked = sorted(range(len(texts)), key=lambda number: -(texts[number].score or 0.0))
        wanted = self._options.num_return_sequences
        return [texts[number] for number in ranked[:wanted] + sorted(ranked[wanted:])]

    def _choose(self, scores: Floats, origins: NDArray[np.intp]) -> Tokens:
        if not self._generators:
            best = scores.argmax(axis=-1)
            if not np.isfinite(scores[np.arange(len(best)), best]).all():
                raise no_token_left()
            chosen: Tokens = best[origins].astype(np.int64, copy=False)
            return chosen
        drawn = [
            draw(scores[origin], self._generators[sequence])
            for origin, sequence in zip(origins, self._sequences, strict=True)
        ]
        return np.array(drawn, np.int64)

    def _describe(
        self, logits: Floats, scores: Floats, origins: NDArray[np.intp], tokens: Tokens, *, last: bool
    ) -> list[Choice]:
        logprobs: Sequence[float | None] = [None] * len(tokens)
        top: list[tuple[tuple[int, float], ...]] = [()] * len(scores)
        if self._logprobs is not None:
            told = scores if self._logprobs.of == "scores" else logits
            logprobs = token_logprobs(told[origins], tokens).tolist()
            if self._logprobs.top_n:
                top = [tuple(top_tokens(row, self._logprobs.top_n)) for row in told]
        choices = []
        for row, (sequence, token) in enumerate(zip(self._sequences, tokens.tolist(), strict=True)):
            choice = Choice(sequence, token, logprobs[row], top[origins[row]], self._reason(row, token, last=last))
            if self._logprobs is not None:
                self._kept[sequence].append(choice)
            choices.append(choice)
        return choices

    def _reason(self, row: int, token: int, *, last: bool) -> FinishReason | None:
        """Why a row ends with its newest token. What the text itself says comes before what limits it."""
        if token in self._options.eos_token_ids:
            return "eos_token"
        if self._stops is not None and self._stops(self._sequences[row], self._history.generated[row]):
            return "stop_sequence"
        return "length" if last or self._history.length >= self._max_length else None

    def _finish(self, row: int, choice: Choice) -> Generated:
        ids = self._history.generated[row].copy()
        reason = choice.finish_reason or "length"
        kept = self._kept[choice.sequence]
        if not kept:
            return Generated(ids, reason, seed=self._seed)
        logprobs = np.array([item.logprob for item in kept], np.float32)
        top = tuple(item.top for item in kept)
        return Generated(ids, reason, float(logprobs.mean()), logprobs, top, self._seed)
