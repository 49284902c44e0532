import pytest

from onnxpipe.generation.pipeline import WritingPipeline
from onnxpipe.load import load_model, make_pipeline, pipeline_class, task_names
from onnxpipe_bench.task_overhead import CASES, Case, record


def test_every_task_that_reads_text_is_measured():
    tasks = {task: pipeline_class(task) for task in task_names()}
    assert sorted(CASES) == [
        task for task, cls in tasks.items() if cls.media_kind() is None and not issubclass(cls, WritingPipeline)
    ]


@pytest.mark.parametrize(
    ("task", "case", "encoded"),
    [
        ("feature-extraction", Case("", ["A man plays."]), 1),
        ("sentence-similarity", Case("", [{"source_sentence": "A man plays.", "sentences": ["A man.", "No."]}]), 3),
    ],
)
def test_the_bare_work_asks_the_tokenizer_and_the_session_as_the_call_does(tiny_bundle, task, case, encoded):
    pipeline = make_pipeline(load_model(tiny_bundle("bert", "")), task)
    before = pipeline(case.inputs[0])
    (bare,) = record(pipeline, case)
    assert pipeline(case.inputs[0]) == pytest.approx(before)
    assert len(bare.texts) == encoded
    assert sum(len(batch["input_ids"]) for batch in bare.batches) == encoded
    bare()


@pytest.mark.parametrize(("case", "encoded"), [*zip(CASES["table-question-answering"], (2, 1), strict=True)])
def test_a_new_table_is_tokenised_on_both_sides_and_one_that_is_remembered_on_none(tiny_bundle, case, encoded):
    pipeline = make_pipeline(load_model(tiny_bundle("tapas", case.head)), "table-question-answering")
    bare = record(pipeline, case)
    assert len(bare) == len(case.inputs)
    assert {len(call.texts) for call in bare} == {encoded}
    assert {len(call.batches) for call in bare} == {1}
