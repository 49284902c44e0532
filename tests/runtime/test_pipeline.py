import concurrent.futures
import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import onnxpipe
from onnxpipe import batching, pipeline
from onnxpipe.errors import UnsupportedModel
from onnxpipe.pipeline import WINDOW, Pipeline, Work
from onnxpipe.records import Record, parameter
from onnxpipe.tasks import sentence_similarity, text_classification

WORDS = ["one", "two", "three", "four", "query", "unknown"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters(Record):
    factor: float = parameter(1.0, ge=0, description="Times this.")


class TokenSums(Pipeline[str, Parameters, list[float]]):
    """A task with as many rows as the input has words, and a warning when there are none."""

    windows: list[int]

    def preprocess(self, inputs, parameters):
        rows = [self.model.tokenizer.encode(word).row(self.model.graph()) for word in inputs.split()]

        def finish(outputs):
            return [float(output["last_hidden_state"].sum()) * parameters.factor for output in outputs]

        return Work(rows, finish, truncated_tokens=1, warnings=() if rows else ("empty",))

    def infer(self, rows):
        self.windows = [*getattr(self, "windows", []), len(rows)]
        return super().infer(rows)


@pytest.fixture
def sums(embedding_bundle):
    return TokenSums(onnxpipe.load(embedding_bundle(), threads=1).model)


@pytest.mark.parametrize(
    ("task", "types"),
    [
        (TokenSums, (str, Parameters, list[float])),
        (
            text_classification.TextClassification,
            (str | text_classification.TextPair, text_classification.Parameters, list[text_classification.Label]),
        ),
        (
            sentence_similarity.SentenceSimilarity,
            (sentence_similarity.Inputs, sentence_similarity.Parameters, list[float]),
        ),
    ],
)
def test_a_task_names_its_types_in_its_class_line(task, types):
    assert task.types() == types


def test_a_task_that_does_not_name_its_types_is_told_so():
    class Nameless(Pipeline):
        pass

    with pytest.raises(TypeError, match="Nameless does not name its types"):
        Nameless.types()


def test_an_input_may_have_any_number_of_rows(sums):
    # [CLS] is 17, one 1, two 2, three 3
    assert sums(["one two", "", "three"], factor=10) == [[180, 190], [], [200]]


def test_an_answer_counts_what_was_noticed(sums):
    answer = sums.run(["one", "", "two", ""], Parameters())
    assert answer.results == [[18], [], [19], []]
    assert answer.truncated_tokens == 4
    assert answer.warnings == ["empty"]
    assert answer.elements == 6
    assert min(answer.preprocess_ms, answer.infer_ms, answer.postprocess_ms) >= 0


def test_many_inputs_run_in_windows_and_keep_their_order(sums):
    words = [WORDS[index % 4] for index in range(2 * WINDOW + 3)]
    expected = [[18.0], [19.0], [20.0], [21.0]]
    assert WINDOW == 512
    assert sums(words) == [expected[index % 4] for index in range(len(words))]
    assert sums.windows == [WINDOW, WINDOW, 3]


def test_a_window_that_is_just_full_is_one_run(sums):
    sums(["one"] * WINDOW)
    assert sums.windows == [WINDOW]


def test_a_window_ends_when_its_rows_are_large(sums, monkeypatch):
    monkeypatch.setattr(pipeline, "WINDOW_BYTES", 100)  # a row is 2 tokens of 8 bytes for each of its inputs
    sums(["one"] * 7)
    assert sums.windows == [3, 3, 1]


def test_a_window_ends_with_the_input_that_fills_it(sums):
    texts = ["one " * (WINDOW - 1), "two", "one " * (3 * WINDOW), "three"]
    assert [len(result) for result in sums(texts)] == [WINDOW - 1, 1, 3 * WINDOW, 1]
    assert sums.windows == [WINDOW, 3 * WINDOW, 1]


def test_an_input_is_finished_as_soon_as_its_rows_have_run(sums, monkeypatch):
    monkeypatch.setattr(batching, "MAX_BATCH_ELEMENTS", 1)  # a run for each row
    events = []

    def preprocess(text, parameters):
        work = TokenSums.preprocess(sums, text, parameters)
        return dataclasses.replace(work, finish=lambda outputs: events.append(text) or work.finish(outputs))

    def infer(rows):
        for index, outputs in TokenSums.infer(sums, rows):
            events.append(index)
            yield index, outputs

    sums.preprocess, sums.infer = preprocess, infer
    assert sums(["one two", "", "three"]) == [[18, 19], [], [20]]
    assert events == ["", 0, 1, "one two", 2, "three"]


def test_inputs_are_all_checked_before_any_is_run(sums):
    with pytest.raises(onnxpipe.InvalidInput, match=rf"`inputs\[{WINDOW}\]`: expected a string"):
        sums([*["one"] * WINDOW, None])
    assert not hasattr(sums, "windows")


@pytest.fixture
def pipelines(embedding_bundle):
    """The same model as one that may batch and as one that must not."""
    return [
        onnxpipe.load(embedding_bundle(batch_invariant=together), task="feature-extraction", threads=1)
        for together in (True, False)
    ]


def test_batching_changes_nothing(pipelines):
    @given(st.lists(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), min_size=1, max_size=20))
    def check(texts):
        together, alone = (pipeline(texts) for pipeline in pipelines)
        single = [pipelines[0](text) for text in texts]
        assert np.array_equal(np.stack(together), np.stack(single))
        assert np.array_equal(np.stack(alone), np.stack(single))

    check()


def test_rows_that_would_change_each_other_run_alone(embedding_bundle):
    # this graph adds the largest number of the batch: 12 of [CLS] alone, 1000 where padding is beside it
    texts = ["one", "one two three four"]
    alone, together = (
        onnxpipe.load(
            embedding_bundle(neighbours=True, batch_invariant=invariant), task="feature-extraction", threads=1
        )
        for invariant in (False, True)
    )
    assert np.array_equal(np.stack(alone(texts)), np.stack([alone(text) for text in texts]))
    assert alone("one").tolist() == [14, 16]
    assert together(texts)[0].tolist() == [1002, 1004]


def test_eight_threads_get_the_answers_of_one(embedding_bundle):
    rng = np.random.default_rng(3)
    folder = embedding_bundle(text={"max_tokens": 9})
    # what one call asks for must not leak into another
    asked = [{"truncation_direction": side, "normalize": unit} for side in ("left", "right") for unit in (True, False)]
    calls = [
        ([" ".join(rng.choice(WORDS, size=size)) for size in rng.integers(0, 20, 7)], asked[index % 4])
        for index in range(64)
    ]
    alone, shared = (onnxpipe.load(folder, task="feature-extraction", threads=1) for _ in range(2))
    expected = [np.stack(alone(texts, **parameters)) for texts, parameters in calls]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda call: np.stack(shared(call[0], **call[1])), calls))
    assert [np.array_equal(*pair) for pair in zip(answers, expected, strict=True)] == [True] * 64


def test_a_bundle_without_a_tokenizer_cannot_read_text(pipelines):
    model = pipelines[0].model
    bundle = dataclasses.replace(model.bundle, manifest=dataclasses.replace(model.bundle.manifest, text=None))
    with pytest.raises(UnsupportedModel, match="tiny has no tokenizer, so it cannot read text"):
        dataclasses.replace(model, bundle=bundle).tokenizer  # noqa: B018 - reading it is the test
