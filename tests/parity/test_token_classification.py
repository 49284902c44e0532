"""token-classification beside transformers 4.57.6 on the same weights.

All entities are compared on torch's own logits, and the bundle's token by token: which label wins a tie can hang on a
logit's last digit, and with it where entities begin and end.
"""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import onnxpipe
from onnxpipe.errors import InvalidInput

pytest.importorskip("optimum", reason="parity needs the export extra")
from transformers import pipeline as reference_pipeline

from torch_engine import with_torch
from zoo import families

HEAD = "ForTokenClassification"
GROUPING = ("simple", "first", "average", "max")
PLAIN = {"id2label": dict(enumerate(["O", "PERSON", "PLACE", "GEO-POLITICAL", "S-THING", "B-", "I-PLACE"]))}

pytestmark = pytest.mark.filterwarnings("ignore:Tokenizer does not support real words:UserWarning")


@pytest.fixture(params=families(HEAD))
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def load(tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path]) -> Callable[..., tuple]:
    """Our pipeline and the reference's, over the same torch model."""

    def make(family: str, **config: object) -> tuple:
        reference = reference_pipeline("token-classification", str(tiny_model(family, HEAD, **config)), device="cpu")
        return with_torch(onnxpipe.load(tiny_bundle(family, HEAD, **config)), reference.model), reference

    return make


@pytest.fixture(scope="session")
def mixed(texts: list[str]) -> list[str]:
    """200 texts in which words of many scripts, names, signs and special tokens meet."""
    rng = random.Random(11)
    words = [word for text in texts for word in text.split()[:12] if len(word) < 40]
    words += [
        "Anna",
        "New",
        "York,",
        "U.N.",
        "don't",
        "[SEP]",
        "<mask>",
        "</s>",
        "[UNK]",
        "<unk>",
        "\t",
        "  ",
        "\n",
    ] * 40
    return [" ".join(rng.choices(words, k=rng.randint(1, 40))) for _ in range(200)]


@pytest.fixture(scope="session")
def long(texts: list[str]) -> list[str]:
    """Texts of several windows each."""
    parts = [text[:400] for text in texts]
    return [" ".join(parts[start : start + 12]) for start in range(0, len(parts), 48)]


def same_answers(given: Sequence[Sequence], expected: Sequence[Sequence[dict]]) -> None:
    """Same labels, words, offsets, indices and order; scores within 1e-4."""
    for ours, theirs in zip(given, expected, strict=True):
        scores = [item.pop("score") for item in theirs]
        assert [item.score for item in ours] == pytest.approx(scores, abs=1e-4)
        assert [{name: value for name, value in vars(item).items() if name != "score"} for item in ours] == theirs


def without_doubled(entities: list[dict]) -> list[dict]:
    """What the reference found without its mistake: over several windows, a first entity that is empty comes twice."""
    return entities[1:] if entities[:1] == entities[1:2] else entities


@pytest.mark.parametrize("strategy", ["none", *GROUPING])
def test_entities_equal_the_reference(
    family: str, strategy: str, load: Callable[..., tuple], texts: list[str], mixed: list[str]
) -> None:
    pipeline, reference = load(family)
    inputs = [*mixed, *texts[::5], "", " ", "[SEP] a"]
    same_answers(
        pipeline(inputs, aggregation_strategy=strategy),
        reference(inputs, aggregation_strategy=strategy),
    )


def test_tokens_of_the_bundle_equal_the_reference(
    family: str, load: Callable[..., tuple], tiny_bundle: Callable[..., Path], texts: list[str], mixed: list[str]
) -> None:
    _, reference = load(family)
    inputs, parameters = [*mixed, *texts[::5]], {"aggregation_strategy": "none", "ignore_labels": []}
    given = onnxpipe.load(tiny_bundle(family, HEAD))(inputs, **parameters)
    for ours, theirs in zip(given, reference(inputs, **parameters), strict=True):
        assert [(one.start, one.end, one.word) for one in ours] == [
            (one["start"], one["end"], one["word"]) for one in theirs
        ]
        assert [one.score for one in ours] == pytest.approx([one["score"] for one in theirs], abs=1e-4)
        # two labels can tie at one half each at most
        assert all(one.entity == other["entity"] or one.score < 0.501 for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("strategy", GROUPING)
def test_windows_equal_the_reference(family: str, strategy: str, load: Callable[..., tuple], long: list[str]) -> None:
    pipeline, reference = load(family)
    stride = {"simple": 0, "first": 7, "average": 20, "max": 45}[strategy]
    expected = reference(long, aggregation_strategy=strategy, stride=stride)
    same_answers(pipeline(long, aggregation_strategy=strategy, stride=stride), list(map(without_doubled, expected)))


@pytest.mark.parametrize("strategy", ["none", *GROUPING])
@pytest.mark.parametrize("ignored", [[], ["O", "PER", "I-LOC"], ["B-PER", "ORG"]])
def test_ignore_labels_equals_the_reference(
    strategy: str, ignored: list[str], load: Callable[..., tuple], mixed: list[str]
) -> None:
    pipeline, reference = load("bert")
    parameters = {"aggregation_strategy": strategy, "ignore_labels": ignored}
    same_answers(pipeline(mixed[:40], **parameters), reference(mixed[:40], **parameters))


@pytest.mark.parametrize("strategy", ["none", *GROUPING])
def test_plain_labels_equal_the_reference(strategy: str, load: Callable[..., tuple], mixed: list[str]) -> None:
    pipeline, reference = load("roberta", **PLAIN)
    same_answers(pipeline(mixed, aggregation_strategy=strategy), reference(mixed, aggregation_strategy=strategy))


def test_an_empty_first_entity_comes_once_where_the_reference_doubles_it(load: Callable[..., tuple]) -> None:
    pipeline, reference = load("roberta")
    text = " " * 8 + "New York " * 60  # the first token's span is trimmed to nothing
    parameters = {"aggregation_strategy": "simple", "stride": 5, "ignore_labels": []}
    expected = reference(text, **parameters)
    assert expected[0] == expected[1]
    assert expected[0]["start"] == expected[0]["end"]
    same_answers([pipeline(text, **parameters)], [expected[1:]])


def test_a_stride_without_room_is_refused_where_the_reference_crashes(load: Callable[..., tuple]) -> None:
    pipeline, reference = load("bert")
    with pytest.raises(BaseException, match="stride"):  # a panic of the tokenizers library
        reference("New York " * 60, aggregation_strategy="simple", stride=62)
    with pytest.raises(InvalidInput, match="`stride`: expected an integer < 62"):
        pipeline("New York " * 60, stride=62)


def test_a_stride_with_strategy_none_is_refused_where_the_reference_takes_it_by_default(
    load: Callable[..., tuple],
) -> None:
    pipeline, reference = load("bert")
    with pytest.raises(ValueError, match="please select another one"):
        reference("New York", aggregation_strategy="none", stride=5)
    assert reference("New York " * 60, stride=5)[0].keys() >= {"entity", "index"}
    with pytest.raises(InvalidInput, match="`stride`: expected an aggregation_strategy other than 'none'"):
        pipeline("New York", aggregation_strategy="none", stride=5)
