"""token-classification: labels of a text's tokens, or the entities they make up (NER, part-of-speech tagging).

Models: token classifiers with B-/I- or plain tags.
Reference: transformers 4.57.6 TokenClassificationPipeline; `aggregation_strategy` is "none" there when absent.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats, softmax
from onnxpipe.errors import UnsupportedModel
from onnxpipe.pipeline import Model, Pipeline, Work
from onnxpipe.records import FieldError, Record, parameter, show
from onnxpipe.session import Arrays
from onnxpipe.text.entities import (
    Grouping,
    Tags,
    find_marked_subwords,
    find_unspaced_subwords,
    group_tokens,
    resolve_overlaps,
)
from onnxpipe.text.tokenizer import Encoding, check_inputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters(Record):
    """How tokens become entities, which of them come back, and whether a long text is read whole."""

    aggregation_strategy: Literal["none", Grouping] = parameter(
        "simple",
        description="none: every token by itself; simple: neighbours with one tag make an entity; first, average, max: "
        "so do words, whose label is that of the first token, of the mean scores, or of the surest token.",
    )
    ignore_labels: tuple[str, ...] = parameter(
        ("O",), description="What does not come back: entity groups (`PER`), with strategy none labels (`B-PER`)."
    )
    stride: int | None = parameter(
        None,
        ge=0,
        description="Read a text over the model's limit in windows that share this many tokens; cut it when absent.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride is not None and self.aggregation_strategy == "none":
            raise FieldError("stride", "expected an aggregation_strategy other than 'none': only entities can overlap")


@dataclasses.dataclass(frozen=True)
class Token:
    """A token with its label; `index` counts the tokens of the text and the special ones before it from zero."""

    entity: str
    score: float
    index: int
    word: str
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class Entity:
    """Neighbouring words with one tag. `word` is what the tokenizer makes of them: its case and spaces may differ."""

    entity_group: str
    score: float
    word: str
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class _Tokens:
    """The text's own tokens, those of all windows behind one another."""

    text: str
    ids: NDArray[np.int64]  # (T,)
    offsets: NDArray[np.int64]  # (T, 2)
    indices: NDArray[np.intp]  # (T,) in their windows, special tokens counted
    scores: Floats  # (T, C)


class TokenClassification(Pipeline[str, Parameters, list[Token] | list[Entity]]):
    """Entities in the order of the text, `inputs[start:end]` being their spans; tokens with strategy "none".

    With dslim/bert-base-NER, as transformers' tests recorded it (scores rounded):

    >>> onnxpipe.load("bert-base-ner")("Hello Sarah Jessica Parker who Jessica lives in New York")
    [Entity(entity_group='PER', score=0.996, word='Sarah Jessica Parker', start=6, end=26), ...]
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        manifest = model.bundle.manifest
        if manifest.classification is None:
            raise UnsupportedModel(f"{manifest.id} has no labels; it serves: {', '.join(manifest.tasks)}")
        self._tags = Tags(manifest.classification.labels)
        self._graph = model.graph()
        check_inputs(self._graph, manifest.id)
        unknown = model.tokenizer.special("unk_token")
        self._unknown_id = None if unknown is None else model.tokenizer.id(unknown)

    def preprocess(self, inputs: str, parameters: Parameters) -> Work[list[Token] | list[Entity]]:
        """One row, or with a stride one per window."""
        tokenizer = self.model.tokenizer
        if parameters.stride is None:
            encodings = [tokenizer.encode(inputs)]
            cut = encodings[0].cut
        else:
            self._check_stride(parameters.stride)
            encodings = tokenizer.windows(inputs, stride=parameters.stride)
            cut = 0
        finish = functools.partial(self.postprocess, text=inputs, encodings=encodings, parameters=parameters)
        return Work([encoding.row(self._graph) for encoding in encodings], finish, cut)

    def _check_stride(self, stride: int) -> None:
        """Raise FieldError for a stride that leaves a window no room to move on, however short the text is."""
        limit = self.model.tokenizer.text.max_tokens
        if limit is not None and stride >= (room := limit - len(self.model.tokenizer.encode("").ids)):
            raise FieldError(
                "stride", f"expected an integer < {room}, this model's room for text, given {show(stride)}"
            )

    def postprocess(
        self, outputs: list[Arrays], text: str, encodings: Sequence[Encoding], parameters: Parameters
    ) -> list[Token] | list[Entity]:
        """Logits (T, C) of each window to tokens or entities."""
        tokens = self._gather(outputs, text, encodings)
        if not tokens.ids.size:
            return []
        if parameters.aggregation_strategy == "none":
            return self._label(tokens, parameters.ignore_labels)
        return self._group(tokens, parameters.aggregation_strategy, parameters.ignore_labels)

    def _gather(self, outputs: Sequence[Arrays], text: str, encodings: Sequence[Encoding]) -> _Tokens:
        name = self._graph.outputs[0].name
        columns = []
        for output, encoding in zip(outputs, encodings, strict=True):
            own = (encoding.sequences == 0).nonzero()[0]
            columns.append((encoding.ids[own], encoding.offsets[own], own, output[name][own]))
        # of one window, as of most texts, nothing is copied
        ids, offsets, indices, logits = (
            columns[0] if len(columns) == 1 else map(np.concatenate, zip(*columns, strict=True))
        )
        return _Tokens(text, ids, offsets, indices, softmax(logits.astype(np.float32, copy=False)))

    def _label(self, tokens: _Tokens, ignored: Sequence[str]) -> list[Token]:
        names, spelled = self._tags.labels, self._spell(tokens, 0, tokens.ids.size)
        columns = (tokens.scores.argmax(axis=-1), tokens.scores.max(axis=-1), tokens.indices, *tokens.offsets.T)
        rows = zip(spelled, *(column.tolist() for column in columns), strict=True)
        return [
            Token(names[label], score, index, word, start, end)
            for word, label, score, index, start, end in rows
            if names[label] not in ignored
        ]

    def _group(self, tokens: _Tokens, strategy: Grouping, ignored: Sequence[str]) -> list[Entity]:
        breaks = np.ones(tokens.ids.size, dtype=np.bool_)
        breaks[1:] = tokens.indices[1:] <= tokens.indices[:-1]  # each window counts from its own start
        subwords = None if strategy == "simple" else self._find_subwords(tokens)
        groups = group_tokens(tokens.scores, subwords, breaks, self._tags, strategy)
        names = [self._tags.names[label] for label in groups.labels.tolist()]
        kept = [group for group, name in enumerate(names) if name not in ignored]
        starts, ends = tokens.offsets[groups.first_tokens, 0], tokens.offsets[groups.last_tokens, 1]
        if breaks[1:].any():
            kept = [kept[index] for index in resolve_overlaps(starts[kept], ends[kept], groups.scores[kept])]
        words = [self._join(tokens, groups.words_of(group), strategy) for group in kept]
        rows = list(zip(names, groups.scores.tolist(), starts.tolist(), ends.tolist(), strict=True))
        return [
            Entity(name, score, word, start, end)
            for word, (name, score, start, end) in zip(words, (rows[group] for group in kept), strict=True)
        ]

    def _spell(self, tokens: _Tokens, start: int, stop: int) -> list[str]:
        """Some of the tokens as the vocabulary spells them; what it does not know, as the text does."""
        token, unknown, text = self.model.tokenizer.token, self._unknown_id, tokens.text
        pairs = zip(tokens.ids[start:stop].tolist(), tokens.offsets[start:stop].tolist(), strict=True)
        return [text[first:last] if number == unknown else token(number) for number, (first, last) in pairs]

    def _find_subwords(self, tokens: _Tokens) -> NDArray[np.bool_]:
        """Which tokens go on with a word (T,); an unknown one never does."""
        if self.model.tokenizer.subword_prefix:  # the unknown are spelled as long as their spans
            return find_marked_subwords(self._spell(tokens, 0, tokens.ids.size), tokens.offsets)
        known: NDArray[np.bool_] = tokens.ids != self._unknown_id
        return known & find_unspaced_subwords(tokens.text, tokens.offsets)

    def _join(self, tokens: _Tokens, words: Sequence[int], strategy: Grouping) -> str:
        join, first = self.model.tokenizer.join, words[0]
        spelled = self._spell(tokens, first, words[-1])
        if strategy == "simple":
            return join(spelled)
        # words first, then the words, as the reference; the second time changes them again where the decoder may
        return join([join(spelled[start - first : stop - first]) for start, stop in itertools.pairwise(words)])
