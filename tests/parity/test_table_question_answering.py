"""table-question-answering beside transformers 4.57.6 on the same weights."""

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path

import pytest

import onnxpipe
from onnxpipe.bundle import open_bundle
from onnxpipe.errors import InvalidInput
from onnxpipe.sections import Table as TableSection

pytest.importorskip("optimum", reason="parity needs the export extra")
pytest.importorskip("pandas", reason="the reference reads tables with pandas")
from transformers import pipeline as reference_pipeline

from onnxpipe_export.export import export

# the reference takes cells by position from a row with names, which pandas 2 announces to end and pandas 3 has ended
pytestmark = pytest.mark.filterwarnings("ignore:Series.__getitem__ treating keys as positions:FutureWarning")

HEAD = "ForTableQuestionAnswering"
AGGREGATIONS = {"aggregation_labels": {0: "NONE", 1: "SUM", 2: "AVERAGE", 3: "COUNT"}}
CONFIGS = {
    "aggregation": {"num_aggregation_labels": 4, "no_aggregation_label_index": 0, **AGGREGATIONS},
    "aggregation-always": {"num_aggregation_labels": 4, **AGGREGATIONS},
    "unnamed-aggregation": {"num_aggregation_labels": 4},
    "no-aggregation": {},
}
QUESTIONS = (
    "How many movies are there?",
    "Which cost more than 5, or came before 3 May 2004?",
    "And the second?",
    "?",
    "what is the average of those with more than 1,000 in the year 2010",
)

Pair = tuple[Callable, onnxpipe.pipeline.Pipeline]
Table = dict[str, list[str]]


@pytest.fixture(scope="module")
def pair(tiny_model: Callable[..., Path], tiny_bundle: Callable[..., Path]) -> Callable[[str], Pair]:
    """The reference and ours, of a kind of model."""

    def make(kind: str) -> Pair:
        settings = CONFIGS[kind]
        reference = reference_pipeline("table-question-answering", str(tiny_model("tapas", HEAD, **settings)))
        return reference, onnxpipe.load(tiny_bundle("tapas", HEAD, **settings))

    return make


def tables(count: int, seed: int) -> list[Table]:
    source = random.Random(seed)
    words = ("Berlin", "n/a", "12 km", "3,5", "-", "1999", "6 May 2004", "Anna and Otto", "東京", "two", "unfathomable")
    return [
        {
            f"{source.choice(words)} {number}": [source.choice(words) for _ in range(rows)]
            for number in range(source.randint(1, 6))
        }
        for rows in (source.choice((1, 3, 5, 12, 70)) for _ in range(count))
    ]


def same(ours: object, theirs: object) -> bool:
    """Equal answers, but for coordinates as lists, an aggregator where a model has none, and lists of one."""
    given = [dataclasses.asdict(answer) for answer in (ours if isinstance(ours, list) else [ours])]
    for answer in given:
        answer["coordinates"] = [tuple(place) for place in answer["coordinates"]]
    return given == [{"aggregator": "NONE", **answer} for answer in (theirs if isinstance(theirs, list) else [theirs])]


@pytest.mark.parametrize("kind", CONFIGS)
def test_answers_equal_the_reference(kind: str, pair: Callable[[str], Pair]) -> None:
    reference, ours = pair(kind)
    sizes = set()
    for table in tables(10, seed=len(kind)):
        for question in QUESTIONS:
            answer = ours({"table": table, "query": question})
            assert same(answer, reference(table=table, query=question)), (table, question)
            sizes.add(len(answer.cells))
    assert len(sizes) > 3


@pytest.mark.parametrize("kind", ["aggregation", "no-aggregation"])
@pytest.mark.parametrize("sequential", [False, True])
def test_several_questions_equal_the_reference(kind: str, sequential: bool, pair: Callable[[str], Pair]) -> None:
    reference, ours = pair(kind)
    differ = 0
    for table in tables(10, seed=3):
        if len(next(iter(table.values()))) > 12:
            continue  # see the crash below
        theirs = reference(table=table, query=list(QUESTIONS), sequential=sequential)
        given = ours({"table": table, "query": QUESTIONS}, sequential=sequential)
        assert same(given, theirs), table
        differ += given != [ours({"table": table, "query": question}) for question in QUESTIONS]
    assert bool(differ) == sequential


def test_padding_changes_no_answer_as_in_the_reference(pair: Callable[[str], Pair]) -> None:
    reference, ours = pair("aggregation")
    for table in tables(4, seed=4):
        for padding in ("max_length", "longest", "do_not_pad"):
            theirs = reference(table=table, query=QUESTIONS[0], padding=padding)
            assert same(ours({"table": table, "query": QUESTIONS[0]}, padding=padding), theirs)


def test_a_conversation_whose_later_question_leaves_room_for_more_rows(pair: Callable[[str], Pair]) -> None:
    reference, ours = pair("no-aggregation")
    table = {"city": ["Paris", "Rome"] * 40, "people": ["two", "three"] * 40, "since": ["1999", "2004"] * 40}
    questions = ["which city " * 20, "which?"]
    with pytest.raises(KeyError):
        reference(table=table, query=questions, sequential=True)
    given = ours({"table": table, "query": questions}, sequential=True)
    assert same(given[:1], reference(table=table, query=questions[:1]))
    assert len(given) == 2


def test_more_rows_than_the_model_has_embeddings_for(pair: Callable[[str], Pair]) -> None:
    reference, ours = pair("aggregation")
    table = {"number": [str(number) for number in range(400)]}
    with pytest.raises(IndexError):
        reference(table=table, query="how many?")
    answer = ours({"table": table, "query": "how many?"})
    assert max((row for row, _ in answer.coordinates), default=0) < 255


def test_a_table_of_texts_without_any_token(pair: Callable[[str], Pair]) -> None:
    reference, ours = pair("aggregation")
    with pytest.raises((IndexError, UnboundLocalError)):
        reference(table={"": [""]}, query="which?")
    assert ours({"table": {"": [""]}, "query": "which?"}).cells == []


def test_numbers_in_cells_are_read_as_they_are_written(pair: Callable[[str], Pair]) -> None:
    reference, ours = pair("no-aggregation")
    with pytest.raises((TypeError, AttributeError)):
        reference(table={"a": [1, 2.5]}, query="which?")
    assert same(
        ours({"table": {"a": [1, 2.5]}, "query": "which?"}), reference(table={"a": ["1", "2.5"]}, query="which?")
    )


def test_without_truncation_a_table_over_the_limit_is_an_error(pair: Callable[[str], Pair]) -> None:
    reference, ours = pair("aggregation")
    table = {"text": ["some words in a cell"] * 150}
    assert reference(table=table, query="which?", truncation=False)  # reads beyond the model's limit
    with pytest.raises(InvalidInput, match="allow truncation"):
        ours({"table": table, "query": "which?"}, truncation=False)


def test_an_export_is_verified_in_both_precisions_and_holds_the_models_settings(
    tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    source = tiny_model("tapas", HEAD, **CONFIGS["aggregation"])
    report = export(source, tmp_path / "bundle", precisions=["fp32", "int8"])
    assert [(outcome.precision, outcome.problems) for outcome in report.outcomes] == [("fp32", ()), ("int8", ())]
    manifest = open_bundle(report.bundle).manifest
    assert (manifest.task, manifest.text.max_tokens) == ("table-question-answering", 512)
    assert manifest.table == TableSection(
        empty_token="[EMPTY]",
        type_sizes=(3, 256, 256, 2, 256, 256, 10),
        max_columns=255,
        max_rows=255,
        aggregations=("NONE", "SUM", "AVERAGE", "COUNT"),
        no_aggregation=0,
    )
    assert manifest.graphs["model"].inputs[-1].shape == ("batch", "sequence", 7)
    assert [tensor.name for tensor in manifest.graphs["model"].outputs] == ["logits", "logits_aggregation"]
