import json
from collections.abc import Callable
from pathlib import Path

import pytest

import onnxpipe
from onnxpipe.errors import InvalidInput, UnsupportedModel
from onnxpipe.pipeline import AnyPipeline
from onnxpipe.tasks.table_question_answering import Answer, Inputs, Parameters

TABLE = {"which": ["yes", "no", "yes yes no"], "no": ["no", "yes", "no no yes"]}


@pytest.fixture
def pipeline(table_bundle: Callable[..., Path]) -> AnyPipeline:
    return onnxpipe.load(table_bundle())


def test_cells_whose_mean_score_is_above_one_half_answer_row_by_row(pipeline: AnyPipeline) -> None:
    # sigmoid(2) = 0.88, sigmoid(-1) = 0.27: two of three make 0.68, one of three 0.47
    assert pipeline({"query": "which", "table": TABLE}) == Answer(
        answer="yes, yes, yes yes no",
        coordinates=[[0, 0], [1, 1], [2, 0]],
        cells=["yes", "yes", "yes yes no"],
        aggregator="NONE",
    )


def test_an_aggregation_stands_before_the_cells(pipeline: AnyPipeline) -> None:
    table = {"no": ["yes", "no"]}
    assert pipeline({"query": "all", "table": table}) == Answer("SUM > yes", [[0, 0]], ["yes"], "SUM")
    assert pipeline({"query": "which", "table": table}) == Answer("yes", [[0, 0]], ["yes"], "NONE")


def test_a_model_that_has_no_name_for_no_aggregation_always_says_which(table_bundle: Callable[..., Path]) -> None:
    pipeline = onnxpipe.load(table_bundle(aggregations=("FIRST", "SUM"), no_aggregation=None))
    assert pipeline({"query": "which", "table": {"no": ["yes"]}}).answer == "FIRST > yes"


def test_the_aggregator_of_a_model_without_any_is_none(table_bundle: Callable[..., Path]) -> None:
    pipeline = onnxpipe.load(table_bundle(aggregations=()))
    assert pipeline({"query": "all", "table": TABLE}).aggregator == "NONE"


def test_the_threshold_is_the_models(table_bundle: Callable[..., Path]) -> None:
    pipeline = onnxpipe.load(table_bundle(threshold=0.7))
    assert pipeline({"query": "which", "table": TABLE}).coordinates == [[0, 0], [1, 1]]


def test_no_cell_may_answer(pipeline: AnyPipeline) -> None:
    assert pipeline({"query": "which", "table": {"all": ["no", ""]}}).cells == []


def test_a_list_of_questions_gets_a_list_even_of_one(pipeline: AnyPipeline) -> None:
    alone = pipeline({"query": "which", "table": TABLE})
    assert pipeline({"query": ["which"], "table": TABLE}) == [alone]
    assert pipeline({"query": ["which", "which all all"], "table": TABLE}) == [
        alone,
        pipeline({"query": "which all all", "table": TABLE}),
    ]


def test_in_a_conversation_each_question_sees_the_answer_before(pipeline: AnyPipeline) -> None:
    # the model takes cells that were the answer for none, so answers come and go
    answers = pipeline({"query": ["which", "which", "which"], "table": TABLE}, sequential=True)
    assert [len(answer.cells) for answer in answers] == [3, 0, 3]
    assert pipeline({"query": "which", "table": TABLE}, sequential=True) == answers[0]


def test_a_batch_answers_as_each_input_alone(pipeline: AnyPipeline) -> None:
    inputs = [{"query": "which", "table": {"all": ["yes"] * rows}} for rows in (1, 9, 4)]
    assert pipeline(inputs) == [pipeline(item) for item in inputs]


def test_question_is_another_name_of_query(pipeline: AnyPipeline) -> None:
    assert pipeline({"question": "which", "table": TABLE}) == pipeline({"query": "which", "table": TABLE})


def test_numbers_in_cells_become_text(pipeline: AnyPipeline) -> None:
    inputs = Inputs(query="which", table={"all": [36542, 2.5, "yes"]})
    assert inputs.columns == [["36542", "2.5", "yes"]]
    assert pipeline(json.loads('{"query": "which", "table": {"all": [36542, 2.5, "yes"]}}')).cells == ["yes"]


def test_a_long_table_loses_rows_and_says_so(pipeline: AnyPipeline) -> None:
    inputs = Inputs(query="which", table={"all": ["yes"] * 60})
    answer = pipeline.run([inputs], Parameters())
    assert answer.results[0].coordinates == [[row, 0] for row in range(11)]
    assert answer.warnings == ["only the first 11 of the table's 60 rows fit and were read"]
    assert answer.truncated_tokens == 49
    answer = pipeline.run([Inputs(query="which", table={"all": ["yes yes yes yes"] * 11})], Parameters())
    assert answer.truncated_tokens == 11  # three of each cell's four words fit


@pytest.mark.parametrize("truncation", [False, "do_not_truncate"])
def test_without_truncation_a_long_table_is_an_error(truncation: object, pipeline: AnyPipeline) -> None:
    with pytest.raises(InvalidInput, match="allow truncation"):
        pipeline({"query": "which", "table": {"all": ["yes"] * 60}}, truncation=truncation)


@pytest.mark.parametrize("padding", [True, False, "longest", "max_length", "do_not_pad"])
def test_padding_changes_nothing(padding: object, pipeline: AnyPipeline) -> None:
    assert pipeline({"query": "which", "table": TABLE}, padding=padding).cells == ["yes", "yes", "yes yes no"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"query": "which", "table": {}}, "`inputs.table`: .*empty table"),
        ({"query": "which", "table": {"a": []}}, "`inputs.table`: .*empty table"),
        ({"query": "which", "table": {"a": ["1", "2"], "b": ["1"]}}, "`inputs.table.b`: expected 2 cells .*given 1"),
        ({"query": "which", "table": {"a": [], "b": ["1"]}}, "`inputs.table.b`: expected 0 cells"),
        ({"query": "which", "table": {"a": [None]}}, r"`inputs.table.a\[0\]`: expected a string"),
        ({"query": "which", "table": [["a"]]}, "`inputs.table`: expected an object"),
        ({"query": "", "table": TABLE}, "`inputs.query`: expected a question"),
        ({"query": [], "table": TABLE}, "`inputs.query`: expected a question"),
        ({"query": ["which", ""], "table": TABLE}, "`inputs.query`: expected a question"),
        ({"table": TABLE}, "`inputs.query`: required"),
        ("which", "expected an object"),
        ({"query": "which", "table": {str(number): ["1"] for number in range(9)}}, "has 9 columns"),
    ],
)
def test_wrong_inputs_are_named(inputs: object, message: str, pipeline: AnyPipeline) -> None:
    with pytest.raises(InvalidInput, match=message):
        pipeline(inputs)


def test_unknown_parameters_are_named(pipeline: AnyPipeline) -> None:
    with pytest.raises(InvalidInput, match="top_k"):
        pipeline({"query": "which", "table": TABLE}, top_k=2)


def test_a_model_that_reads_no_tables_is_refused(classification_bundle: Callable[..., Path]) -> None:
    with pytest.raises(UnsupportedModel, match="does not read tables"):
        onnxpipe.load(classification_bundle(tasks=("table-question-answering",)))
