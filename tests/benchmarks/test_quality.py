import numpy as np
import pytest

from onnxpipe_bench.datasets import DATASETS, Dataset, Example
from onnxpipe_bench.quality import compare, count, score, spans


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["O", "B-PER", "I-PER", "O"], {(1, 3, "PER")}),
        (["B-PER", "B-PER"], {(0, 1, "PER"), (1, 2, "PER")}),
        (["B-PER", "I-LOC"], {(0, 1, "PER"), (1, 2, "LOC")}),
        (["I-LOC", "I-LOC", "O", "I-LOC"], {(0, 2, "LOC"), (3, 4, "LOC")}),
        (["O", "O"], set()),
    ],
)
def test_entities_are_read_off_their_tags(tags, expected):
    assert spans(tags) == expected


def test_a_label_is_right_or_wrong():
    example = Example("a film", label="positive")
    assert count(example, ("positive",)) == (1, 1, 1)
    assert count(example, ("negative",)) == (0, 1, 1)


def test_entities_count_when_whole():
    example = Example("Ada of Paris", words=("Ada", "of", "Paris"), tags=("B-PER", "O", "B-LOC"))
    assert count(example, ("B-PER", "O", "O")) == (1, 1, 2)
    assert count(example, ("B-PER", "I-PER", "B-LOC")) == (1, 2, 2)


def test_the_score_is_accuracy_for_labels_and_f1_for_entities():
    assert score(np.array([[1, 1, 1], [0, 1, 1], [1, 1, 1], [1, 1, 1]])) == 75.0
    # 3 of 4 answered are right, of 5 wanted: precision 3/4, recall 3/5
    assert score(np.array([[1, 2, 2], [2, 2, 3]])) == pytest.approx(100 * 2 * 0.75 * 0.6 / (0.75 + 0.6))


def test_engines_are_compared_with_the_first():
    examples = [Example(str(number), label="a" if number % 2 else "b") for number in range(40)]
    right = [(example.label,) for example in examples]
    one_off = [("b",), *right[1:]] if right[0] == ("a",) else [("a",), *right[1:]]
    torch, int8 = compare(Dataset(examples, examples), {"torch": right, "int8": one_off})
    assert (torch["score"], torch["difference"], torch["same_answers"]) == (100.0, 0.0, 100.0)
    assert (int8["score"], int8["difference"], int8["same_answers"]) == (97.5, -2.5, 97.5)
    low, high = int8["difference_interval"]
    assert low <= -2.5 <= high <= 0


@pytest.mark.parametrize("name", DATASETS)
def test_the_splits_are_always_the_same_and_apart(name, test_data):
    first, second = DATASETS[name](), DATASETS[name]()
    assert first == second
    train = {(example.text, example.pair) for example in first.train}
    shared = sum((example.text, example.pair) in train for example in first.test)
    assert shared <= 0.01 * len(first.test)  # a few sentences stand in the data twice
    assert len(first.labels) >= 2
