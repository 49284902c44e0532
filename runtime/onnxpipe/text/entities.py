"""Token scores to entities: tokens to words, words to groups with one tag, and the overlaps of windows.

Pure functions on arrays; T tokens, W words, G groups, C labels. Reference: TokenClassificationPipeline of transformers
4.57.6, whose methods the docstrings name. Its rules stand even where they guess, so that both find the same entities.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

Grouping = Literal["simple", "first", "average", "max"]


@dataclasses.dataclass(frozen=True)
class Tags:
    """The labels of a model in their order, read as tags: `B-` begins an entity, `I-` or no prefix goes on with it."""

    labels: tuple[str, ...]

    @functools.cached_property
    def names(self) -> list[str]:
        """What a group that starts with a label is called (C): the label behind its first hyphen."""
        return [label.split("-", 1)[-1] for label in self.labels]

    @functools.cached_property
    def begins(self) -> Bools:
        """Which labels always begin an entity (C,)."""
        return np.array([label.startswith("B-") for label in self.labels])

    @functools.cached_property
    def kinds(self) -> Ints:
        """A number per tag (C,), the same for labels that may stand in one group; "S-PER" is no "PER" here."""
        tags = [label[2:] if label.startswith(("B-", "I-")) else label for label in self.labels]
        return np.array([tags.index(tag) for tag in tags])


@dataclasses.dataclass(frozen=True)
class Groups:
    """Neighbouring words with one tag.

    Group g is the words from `bounds[g]` up to `bounds[g + 1]`, word w the tokens from `words[w]` up to `words[w + 1]`.
    """

    labels: NDArray[np.intp]  # (G,) the first word's
    scores: Floats  # (G,) mean of the words'
    words: NDArray[np.intp]  # (W + 1,)
    bounds: NDArray[np.intp]  # (G + 1,)

    @property
    def first_tokens(self) -> NDArray[np.intp]:
        """The first token of each group (G,)."""
        return self.words[self.bounds[:-1]]

    @property
    def last_tokens(self) -> NDArray[np.intp]:
        """The last token of each group (G,)."""
        return self.words[self.bounds[1:]] - 1

    def words_of(self, group: int) -> list[int]:
        """Where the words of a group begin, and where the last one ends."""
        bounds: list[int] = self.words[self.bounds[group] : self.bounds[group + 1] + 1].tolist()
        return bounds


def find_marked_subwords(tokens: Sequence[str], offsets: Ints) -> Bools:
    """Which tokens go on with a word (T,), where the vocabulary marks those ("##"): any not as long as its span.

    So does a token that normalisation made longer or shorter (`gather_pre_entities`).
    """
    found: Bools = np.fromiter(map(len, tokens), np.int64, len(tokens)) != offsets[:, 1] - offsets[:, 0]
    return found


def find_unspaced_subwords(text: str, offsets: Ints) -> Bools:
    """Which tokens go on with a word (T,), where nothing marks them: any without a space before or at its start.

    Punctuation then belongs to the word before it (`gather_pre_entities`).
    """
    # one more, for an empty span at the end; it is also what -1 finds, where the result does not depend on it
    spaces = np.append(np.frombuffer(text.encode("utf-32-le"), np.uint32) == ord(" "), [False])
    starts = offsets[:, 0]
    found: Bools = (starts > 0) & ~spaces[starts] & ~spaces[starts - 1]
    return found


def group_tokens(scores: Floats, subwords: Bools | None, breaks: Bools, tags: Tags, strategy: Grouping) -> Groups:
    """Groups of tokens with probabilities `scores` (T, C), T > 0 (`aggregate_words`, `group_entities`).

    `subwords` (T,) go on with a word, unless they are None or the strategy is "simple", for which every token is one.
    `breaks` (T,) begin a word and a group in any case; the first token has to.
    """
    if subwords is None or strategy == "simple":
        words, word_scores, begins = np.arange(len(scores) + 1), scores, breaks
    else:
        words = _bounds(breaks | ~subwords)
        word_scores, begins = _score_words(scores, words, strategy), breaks[words[:-1]]
    labels = word_scores.argmax(axis=-1)
    kinds = tags.kinds[labels]
    begins = begins | tags.begins[labels]
    begins[1:] |= kinds[1:] != kinds[:-1]
    bounds = _bounds(begins)
    return Groups(labels[bounds[:-1]], _means(word_scores.max(axis=-1), bounds), words, bounds)


def _bounds(begins: Bools) -> NDArray[np.intp]:
    """Where runs begin, and the end of the last one."""
    return np.concatenate([begins.nonzero()[0], [len(begins)]])


def _score_words(scores: Floats, words: NDArray[np.intp], strategy: Grouping) -> Floats:
    """Label scores of each word (W, C): of its first or its surest token, or the mean (`aggregate_word`)."""
    starts = words[:-1]
    if strategy == "average":
        return _means(scores, words)
    if strategy == "max":
        owners = np.repeat(np.arange(len(starts)), np.diff(words))
        # word by word, the surest token first; the sort is stable, so of equals the earlier one
        return scores[np.lexsort((-scores.max(axis=-1), owners))[starts]]
    return scores[starts]


def _means(values: Floats, bounds: NDArray[np.intp]) -> Floats:
    """The mean of each run of values along the first axis."""
    sums = np.add.reduceat(values, bounds[:-1], axis=0)
    means: Floats = np.divide(sums.T, bounds[1:] - bounds[:-1], dtype=np.float32).T
    return means


def resolve_overlaps(starts: Ints, ends: Ints, scores: Floats) -> list[int]:
    """Indices of the groups that stay where windows found overlapping ones, by rising start.

    Of two that overlap the longer stays, of equally long ones the surer, else the earlier
    (`aggregate_overlapping_entities`, which also doubles a first group with an empty span: ours does not).
    """
    order: list[int] = np.argsort(starts, kind="stable").tolist()
    spans = list(zip(starts.tolist(), ends.tolist(), scores.tolist(), strict=True))
    kept = order[:1]
    for index in order[1:]:
        start, end, score = spans[index]
        kept_start, kept_end, kept_score = spans[kept[-1]]
        if start >= kept_end:
            kept.append(index)
        elif (end - start, score) > (kept_end - kept_start, kept_score):
            kept[-1] = index
    return kept
