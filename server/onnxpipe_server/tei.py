"""What text embeddings inference takes and gives: requests, their limits, and the calls that answer them."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from onnxpipe.labels import Label
from onnxpipe.pipeline import Answer
from onnxpipe.records import FieldError, Record, parameter
from onnxpipe.tasks.feature_extraction import FeatureExtraction
from onnxpipe.tasks.sentence_similarity import Parameters, SentenceSimilarity
from onnxpipe.tasks.text_classification import TextClassification, TextPair
from onnxpipe_server.calls import Kind
from onnxpipe_server.encoders import ScoreParameters, Scores, TokenIds
from onnxpipe_server.models import Served
from onnxpipe_server.status import EmptyInput

_TRUNCATE = "Cut a text to the model's limit; false makes it an error."
_DIRECTION = "The side that is cut off; the model's own, usually right, when absent."
_PROMPT = "Name of one of the model's prompts, put before every text."
_MODEL = "Which model, where several of this server fit."
_RAW = "Logits in the place of scores."


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokensRequest(Record):
    """Texts whose tokens are to become vectors."""

    inputs: str | TokenIds | tuple[str | TokenIds, ...] = parameter(
        description="A text, its token ids with the special ones, or a list of such."
    )
    truncate: bool | None = parameter(None, description=_TRUNCATE)
    truncation_direction: Literal["left", "right"] | None = parameter(None, description=_DIRECTION)
    prompt_name: str | None = parameter(None, description=_PROMPT)
    model: str | None = parameter(None, description=_MODEL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbedRequest(TokensRequest):
    """Texts that are to become vectors."""

    normalize: bool = parameter(True, description="Scale to length 1.")
    dimensions: int | None = parameter(None, ge=1, description="Keep only the first dimensions of the embedding.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sentences(Record):
    """One sentence and those it is compared with."""

    source_sentence: str = parameter(description="The sentence the others are compared with.")
    sentences: tuple[str, ...] = parameter(description="The sentences to compare.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimilarityRequest(Record):
    """Sentences to compare with one."""

    inputs: Sentences
    parameters: Parameters = dataclasses.field(default_factory=Parameters)
    model: str | None = parameter(None, description=_MODEL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictRequest(Record):
    """Texts to classify."""

    inputs: str | tuple[str, ...] | tuple[tuple[str, ...], ...] = parameter(
        description="A text, a pair [a, b] of texts that belong together, or a list of lists of one text or two."
    )
    raw_scores: bool = parameter(False, description=_RAW)
    truncate: bool | None = parameter(None, description=_TRUNCATE)
    truncation_direction: Literal["left", "right"] | None = parameter(None, description=_DIRECTION)
    model: str | None = parameter(None, description=_MODEL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RerankRequest(Record):
    """Texts to put into the order in which they answer a query."""

    query: str = parameter(description="The query.")
    texts: tuple[str, ...] = parameter(description="The texts.")
    raw_scores: bool = parameter(False, description=_RAW)
    return_text: bool = parameter(False, description="Each text beside its score.", aliases=("return_documents",))
    truncate: bool | None = parameter(None, description=_TRUNCATE)
    truncation_direction: Literal["left", "right"] | None = parameter(None, description=_DIRECTION)
    model: str | None = parameter(None, description=_MODEL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenizeRequest(Record):
    """Texts to see as tokens."""

    inputs: str | tuple[str, ...] = parameter(description="One text or several.")
    add_special_tokens: bool = parameter(True, description="With the special tokens that the model wants.")
    model: str | None = parameter(None, description="Which model, where this server has several.")


@dataclasses.dataclass(frozen=True)
class SimpleToken:
    """A token and where in the text it stands, in characters; one that was added stands nowhere."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodeRequest(Record):
    """Tokens to read as text."""

    ids: TokenIds | tuple[TokenIds, ...] = parameter(description="Token ids, or a list of such lists.")
    skip_special_tokens: bool = parameter(True, description="Leave the special tokens out.")
    model: str | None = parameter(None, description="Which model, where this server has several.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rank:
    """A text, its place among those given, and how well it fits."""

    index: int
    score: float
    text: str | None = None


def embeds(served: Served) -> bool:
    """Whether it makes vectors of texts."""
    return any(issubclass(one, FeatureExtraction | SentenceSimilarity) for one in served.kinds.values())


def classifies(served: Served) -> bool:
    """Whether it gives texts labels."""
    return any(issubclass(one, TextClassification) for one in served.kinds.values())


def reranks(served: Served) -> bool:
    """Whether it gives a pair of texts one score."""
    section = served.bundle.manifest.classification
    return section is not None and len(section.labels) == 1 and classifies(served)


def model_type(served: Served) -> dict[str, dict[str, Any]]:  # strings and mappings of them
    """What kind of encoder it is, as /info tells of it; empty for any other model."""
    manifest = served.bundle.manifest
    if classifies(served) and manifest.classification is not None:
        names = {str(number): label for number, label in enumerate(manifest.classification.labels)}
        numbers = {label: number for number, label in enumerate(manifest.classification.labels)}
        return {"reranker" if reranks(served) else "classifier": {"id2label": names, "label2id": numbers}}
    if embeds(served) and manifest.embedding is not None:
        return {"embedding": {"pooling": "+".join(manifest.embedding.pooling)}}
    return {}


EMBEDDING = Kind(embeds, "embeds texts")
CLASSIFIER = Kind(classifies, "classifies texts")
RERANKER = Kind(reranks, "scores a pair of texts, as rerankers do")
READER = Kind(lambda served: served.reads_text, "reads text")


def check_batch(texts: Sequence[str | TokenIds], most: int, field: str = "inputs") -> None:
    """Raise EmptyInput for no texts or an empty one, FieldError for more than `most`."""
    if not texts:
        raise EmptyInput(f"`{field}` cannot be empty")
    if len(texts) > most:
        problem = f"batch size {len(texts)} > maximum allowed batch size {most}; send fewer at once"
        raise FieldError(field, problem)
    for index, text in enumerate(texts):
        if not text:
            raise EmptyInput(f"`{field}` cannot be empty" + (f": number {index} is" if len(texts) > 1 else ""))


def batch_of(inputs: str | TokenIds | Sequence[str | TokenIds]) -> list[str | TokenIds]:
    """The texts of a request, each a string or its ids."""
    if isinstance(inputs, str):
        return [inputs]
    if inputs and all(isinstance(item, int) for item in inputs):
        return [tuple(item for item in inputs if isinstance(item, int))]
    return [item for item in inputs if not isinstance(item, int)]


def pairs_of(inputs: str | Sequence[str] | Sequence[Sequence[str]]) -> tuple[list[TextPair], bool]:
    """The texts and pairs of a request, and whether it gave one alone. Raises FieldError and EmptyInput."""
    if isinstance(inputs, str):
        return [_pair([inputs], "inputs")], True
    texts = [item for item in inputs if isinstance(item, str)]
    if texts:
        return [_pair(texts, "inputs")], True
    return [_pair(item, f"inputs[{index}]") for index, item in enumerate(inputs)], False


def rank(
    served: Served, query: str, texts: Sequence[str], parameters: ScoreParameters
) -> tuple[list[Rank], Answer[list[Label]]]:
    """The texts by falling score, equal ones in their order, and what the call says of its making."""
    answered = Scores(served.model).run([TextPair(text=query, text_pair=text) for text in texts], parameters)
    scores = [labels[0].score for labels in answered.results]
    order = sorted(range(len(texts)), key=lambda index: -scores[index])
    return [Rank(index=index, score=scores[index], text=texts[index]) for index in order], answered


def tokens_of(served: Served, text: str, *, special: bool) -> list[SimpleToken]:
    """The tokens of a text."""
    tokenizer = served.model.tokenizer
    (whole,) = tokenizer.windows(text, stride=0, max_tokens=2**62)
    rows = zip(whole.ids.tolist(), whole.tokens, whole.sequences.tolist(), whole.offsets.tolist(), strict=True)
    return [
        SimpleToken(number, token, special=True, start=None, stop=None)
        if sequence < 0
        else SimpleToken(number, text[start:stop], tokenizer.is_special(number), start, stop)
        for number, token, sequence, (start, stop) in rows
        if special or sequence >= 0
    ]


def _pair(texts: Sequence[str], field: str) -> TextPair:
    if len(texts) > 2:
        problem = f"expected one text or a pair, given {len(texts)}; several texts are lists: [['a'], ['b']]"
        raise FieldError(field, problem)
    if not texts or not all(texts):
        raise EmptyInput(f"`{field}` cannot be empty")
    return TextPair(text=texts[0], text_pair=texts[1] if len(texts) == 2 else None)
