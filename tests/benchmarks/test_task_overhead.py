import pytest

from onnxpipe.load import load_model, make_pipeline, task_names
from onnxpipe_bench.task_overhead import CASES, Case, record


def test_every_task_is_measured():
    assert sorted(CASES) == task_names()


@pytest.mark.parametrize(
    ("task", "case", "encoded"),
    [
        ("feature-extraction", Case("", "A man plays."), 1),
        ("sentence-similarity", Case("", {"source_sentence": "A man plays.", "sentences": ["A man.", "No."]}), 3),
    ],
)
def test_the_bare_work_asks_the_tokenizer_and_the_session_as_the_call_does(tiny_bundle, task, case, encoded):
    pipeline = make_pipeline(load_model(tiny_bundle("bert", "")), task)
    before = pipeline(case.inputs)
    bare = record(pipeline, case)
    tokenizer = pipeline.model.tokenizer
    assert "_encode" not in vars(tokenizer)
    assert pipeline(case.inputs) == pytest.approx(before)
    assert len(bare.texts) == encoded
    assert sum(len(batch["input_ids"]) for batch in bare.batches) == encoded
    bare()
