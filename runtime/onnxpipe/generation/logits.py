"""What changes the scores of single tokens: penalties, bans, biases and forced tokens.

Every function returns a processor: (tokens so far (R, T), scores (R, V)) -> scores (R, V). Processors keep no state and
change nothing they are given; where nothing is to do they return the scores themselves. All rows have the same length,
for they belong to one request. Reference: transformers 4.57.6 `generation.logits_process`, unless said otherwise.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats, softmax
from onnxpipe.generation.scores import Tokens, log_softmax, no_token_left

Processor = Callable[[Tokens, Floats], Floats]
Ids = Sequence[int] | NDArray[np.int64]
# A factor beyond what tells any two scores apart, and still several of them together within float32.
LARGEST_FACTOR = 1e9


def repetition_penalty(penalty: float) -> Processor:
    """Tokens that have occurred, the prompt's too, become less likely: score / penalty, or * penalty below 0.

    Keskar et al. 2019, "CTRL"; each token is penalised once, however often it occurred.
    """

    def apply(tokens: Tokens, scores: Floats) -> Floats:
        return _penalize(scores, tokens, penalty)

    return apply


def encoder_repetition_penalty(penalty: float, source: Tokens) -> Processor:
    """Tokens of the source (S,) become more likely: the repetition penalty turned around.

    Unlike transformers, which with beams changes the first of them only, this changes every row.
    """

    def apply(_: Tokens, scores: Floats) -> Floats:
        known = np.unique(source[source < scores.shape[-1]])  # a source may have a vocabulary of its own
        return _penalize(scores, np.broadcast_to(known, (len(scores), len(known))), 1 / penalty)

    return apply


def count_penalty(frequency: float, presence: float, prompt_length: int) -> Processor:
    """Tokens lose `frequency` for each time they were generated, and `presence` once. The prompt does not count.

    OpenAI's definition: score - count * frequency - (count > 0) * presence. Text generation inference divides the
    counts by the length of the text, prompt included.
    """

    def apply(tokens: Tokens, scores: Floats) -> Floats:
        if tokens.shape[1] == prompt_length:
            return scores
        changed = scores.copy()
        for row, generated in zip(changed, tokens[:, prompt_length:], strict=True):
            found, counts = np.unique(generated, return_counts=True)
            row[found] -= (counts * frequency + presence).astype(np.float32)
        return changed

    return apply


def no_repeat_ngram(size: int) -> Processor:
    """No sequence of `size` tokens occurs twice in a row's tokens, the prompt included."""

    def apply(tokens: Tokens, scores: Floats) -> Floats:
        return _ban_continuations(scores, tokens, tokens, size)

    return apply


def encoder_no_repeat_ngram(size: int, source: Tokens) -> Processor:
    """No sequence of `size` tokens of the source (S,) occurs in a row."""

    def apply(tokens: Tokens, scores: Floats) -> Floats:
        return _ban_continuations(scores, tokens, np.broadcast_to(source, (len(tokens), len(source))), size)

    return apply


def sequence_bias(biases: Mapping[tuple[int, ...], float]) -> Processor:
    """A sequence's bias is added to its last token where the row ends in those before it.

    As in transformers, the row must be at least as long as the whole sequence.
    """
    singles = [sequence[0] for sequence in biases if len(sequence) == 1]
    single_biases = np.array([biases[single,] for single in singles], np.float32)
    followers: dict[int, list[tuple[tuple[int, ...], float]]] = {}  # by the token before the last
    for sequence, bias in biases.items():
        if len(sequence) > 1:
            followers.setdefault(sequence[-2], []).append((sequence, bias))

    def apply(tokens: Tokens, scores: Floats) -> Floats:
        changed = scores.copy()
        if singles:
            changed[:, singles] += single_biases
        for row, history in zip(changed, tokens, strict=True) if followers else ():
            # several sequences with one end add up before they meet the score, as in the reference
            added: dict[int, float] = {}
            for sequence, bias in followers.get(int(history[-1]), ()):
                *context, last = sequence
                if len(sequence) <= len(history) and history[-len(context) :].tolist() == context:
                    added[last] = added.get(last, 0.0) + bias
            for last, bias in added.items():
                row[last] += np.float32(bias)
        return changed

    return apply


def bad_words(words: Sequence[Sequence[int]], eos: Ids) -> Processor:
    """Sequences of tokens that never occur; a single end-of-sequence token among them is left out."""
    ends = [[int(token)] for token in eos]
    return sequence_bias({tuple(word): -np.inf for word in words if list(word) not in ends})


def min_length(length: int, eos: Ids) -> Processor:
    """No end while a row has fewer than `length` tokens, the prompt included."""
    ban = suppress(eos)

    def apply(tokens: Tokens, scores: Floats) -> Floats:
        return ban(tokens, scores) if tokens.shape[1] < length else scores

    return apply


def suppress(ids: Ids) -> Processor:
    """These tokens never occur."""
    banned = np.asarray(ids, np.int64)

    def apply(_: Tokens, scores: Floats) -> Floats:
        changed = scores.copy()
        changed[:, banned] = -np.inf
        return changed

    return apply


def suppress_at(length: int, ids: Ids) -> Processor:
    """These tokens do not come after exactly `length` tokens."""
    ban = suppress(ids)

    def apply(tokens: Tokens, scores: Floats) -> Floats:
        return ban(tokens, scores) if tokens.shape[1] == length else scores

    return apply


def force_at(length: int, ids: Ids) -> Processor:
    """After exactly `length` tokens only these may come, with score 0."""
    forced = np.asarray(ids, np.int64)

    def apply(tokens: Tokens, scores: Floats) -> Floats:
        if tokens.shape[1] != length:
            return scores
        changed = np.full_like(scores, -np.inf)
        changed[:, forced] = 0
        return changed

    return apply


def exponential_decay(start: int, factor: float, eos: Ids) -> Processor:
    """After `start` tokens, the prompt included, the end becomes more likely by the step.

    Its score grows by |score| * (factor ** (T - start) - 1). A banned end stays banned, where transformers makes
    it no number.
    """
    ends = np.asarray(eos, np.int64)

    def apply(tokens: Tokens, scores: Floats) -> Floats:
        steps = tokens.shape[1] - start
        if steps <= 0:
            return scores
        changed = scores.copy()
        grown = scores[:, ends]
        growth = math.expm1(min(steps * math.log(factor), 69.0))  # at most 1e30: float32 ends at 1e38
        alive = grown > np.finfo(np.float32).min  # which stands for -inf where invalid values were replaced
        grown[alive] += np.abs(grown[alive]) * np.float32(growth)
        changed[:, ends] = grown
        return changed

    return apply


def prefer_end(probability: float, eos: Ids) -> Processor:
    """A row in which some end-of-sequence token is more likely than `probability` must end (Bark's `min_eos_p`)."""
    ends = np.asarray(eos, np.int64)

    def apply(_: Tokens, scores: Floats) -> Floats:
        ending = (softmax(scores)[:, ends] > probability).any(axis=1)
        changed = scores.copy()
        changed[ending] = -np.inf
        changed[np.ix_(ending, ends)] = scores[np.ix_(ending, ends)]
        return changed

    return apply


def allow_only(choose: Callable[[Tokens], Ids]) -> Processor:
    """Only tokens that `choose` names for a row's tokens (T,) may follow. Raises InvalidInput where it names none."""

    def apply(tokens: Tokens, scores: Floats) -> Floats:
        changed = np.full_like(scores, -np.inf)
        for row, history, given in zip(changed, tokens, scores, strict=True):
            allowed = np.asarray(choose(history), np.int64)
            if not allowed.size:
                raise no_token_left()
            row[allowed] = given[allowed]
        return changed

    return apply


def remove_invalid_values(_: Tokens, scores: Floats) -> Floats:
    """Not a number becomes 0, infinities become the largest and the smallest float32."""
    return np.nan_to_num(scores, nan=0.0)


def guide(conditional: Floats, unconditional: Floats, scale: float) -> Floats:
    """Scores (R, V) pushed away from those of a model that has not seen the condition (classifier-free guidance)."""
    base = log_softmax(unconditional)
    guided: Floats = base + np.float32(scale) * (log_softmax(conditional) - base)
    return guided


def penalize_taken(scores: Floats, taken: Tokens, penalty: float) -> Floats:
    """Each token of `taken` costs `penalty` for each time it is there (Vijayakumar et al. 2018, Hamming diversity)."""
    found, counts = np.unique(taken, return_counts=True)
    changed = scores.copy()
    changed[:, found] -= np.float32(penalty) * counts.astype(np.float32)
    return changed


def _penalize(scores: Floats, tokens: Tokens, penalty: float) -> Floats:
    seen = np.take_along_axis(scores, tokens, axis=-1)
    factor = min(max(penalty, 1 / LARGEST_FACTOR), LARGEST_FACTOR)
    changed = scores.copy()
    with np.errstate(over="ignore"):  # of the smallest float32, which may stand for -inf, becomes -inf
        np.put_along_axis(changed, tokens, np.where(seen < 0, seen * factor, seen / factor), axis=-1)
    return changed


def _ban_continuations(scores: Floats, tokens: Tokens, texts: Tokens, size: int) -> Floats:
    """Scores without the tokens that would end a sequence of `size` which a row's text has (texts (R, S))."""
    starts = texts.shape[1] - size + 1
    context = tokens[:, max(0, tokens.shape[1] - size + 1) :]
    if starts <= 0 or context.shape[1] < size - 1:
        return scores
    same = np.ones((len(texts), starts), bool)
    for offset in range(size - 1):
        same &= texts[:, offset : offset + starts] == context[:, offset, None]
    rows, places = np.nonzero(same)
    if not rows.size:
        return scores
    changed = scores.copy()
    changed[rows, texts[rows, places + size - 1]] = -np.inf
    return changed
