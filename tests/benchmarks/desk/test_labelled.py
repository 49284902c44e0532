import json

import numpy as np
import pytest

from onnxpipe.errors import InvalidInput
from onnxpipe.load import load_model, make_pipeline
from onnxpipe.records import plain
from onnxpipe_bench.desk import labelled
from onnxpipe_bench.desk.agreement import Example
from onnxpipe_bench.desk.labelled import read_examples, score_labelled


@pytest.fixture
def write(tmp_path):
    def write(*lines):
        file = tmp_path / "rows.jsonl"
        file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
        return file

    return write


GOOD = {"inputs": "a text", "label": "joy"}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([GOOD, "{"], "line 2: not JSON"),
        ([GOOD, ["a"]], 'line 2: expected an object such as {"inputs": ..., "label": ...}, given'),
        ([GOOD, {"inputs": "a text"}], "line 2: no `label`; expected the label that is right"),
        ([GOOD, GOOD | {"parameters": 1}], "line 2: `parameters`: expected an object, given 1"),
        ([GOOD], "has 1 rows; at least 2 are needed"),
        ([], "has 0 rows"),
    ],
)
def test_rows_that_are_none_are_told_with_their_line(write, lines, said):
    with pytest.raises(InvalidInput, match=said.replace("(", r"\(")):
        read_examples(write(*lines), "text-classification")


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(InvalidInput, match=r"--data: .*rows.jsonl cannot be read"):
        read_examples(tmp_path / "rows.jsonl", "text-classification")


def test_a_task_whose_labels_are_not_scored_is_an_error_that_names_those_that_are(write):
    with pytest.raises(InvalidInput, match=r"labels of image-segmentation are not scored here; they are of audio-"):
        read_examples(write(GOOD, GOOD), "image-segmentation")


def test_rows_are_taken_evenly_from_the_whole_file(write):
    file = write(*({"inputs": str(number), "label": "x"} for number in range(10)), "")
    assert [row.inputs for row in read_examples(file, "text-classification", most=3)] == ["0", "3", "6"]
    assert len(read_examples(file, "text-classification")) == 10


def test_paths_begin_at_the_folder_of_the_file(write, tmp_path):
    file = write({"inputs": "cat.jpg", "label": "cat"}, {"inputs": "data:image/png;base64,AA==", "label": "cat"})
    first, second = read_examples(file, "image-classification", media=True)
    assert first.inputs == str(tmp_path / "cat.jpg")
    assert second.inputs.startswith("data:")


@pytest.mark.parametrize(
    ("task", "answer", "label", "row"),
    [
        ("text-classification", [{"label": "joy", "score": 1.0}], "joy", [1]),
        ("image-classification", [{"label": "cat", "score": 1.0}], "dog", [0]),
        ("zero-shot-classification", {"sequence": "", "labels": ["a", "b"], "scores": [0.6, 0.4]}, "a", [1]),
        ("fill-mask", [{"token_str": " person"}], "person", [1]),
        ("question-answering", {"answer": "in Paris"}, ["London", "Paris"], [2 / 3]),
        (
            "token-classification",
            [{"entity_group": "PER", "start": 0, "end": 3}, {"entity_group": "LOC", "start": 5, "end": 8}],
            [{"label": "PER", "start": 0, "end": 3}],
            [2, 3],
        ),
        ("automatic-speech-recognition", {"text": "one two"}, "One too.", [1, 2]),
        ("summarization", [{"summary_text": "a cat"}], "the cat", [1]),
        ("translation", [{"translation_text": "eine Katze"}], "die Katze", [0.5]),
        ("object-detection", [], [], [1]),
    ],
)
def test_an_answer_is_held_against_its_label(task, answer, label, row):
    assert list(labelled._JUDGES[task].row(answer, label)) == pytest.approx(row)


def test_embeddings_are_scored_by_how_they_rank_pairs(folder, pairs):
    model = load_model(folder, precision="fp32")
    examples = read_examples(pairs, "feature-extraction")
    score = score_labelled(model, "feature-extraction", examples)
    assert (score.metric, score.rows.shape) == ("Spearman", (4, 2))
    assert list(score.rows[:, 1]) == [4.5, 0, 4, 0.5]
    alike = make_pipeline(model, "sentence-similarity")(
        [{"source_sentence": one.inputs[0], "sentences": [one.inputs[1]]} for one in examples]
    )
    assert list(score.rows[:, 0]) == pytest.approx([cosine for (cosine,) in alike], abs=1e-5)


@pytest.mark.parametrize("example", [Example(["a"], 1.0), Example(["a", "b"], "high"), Example(["a", "b"], True)])
def test_pairs_that_are_none_are_told(folder, example):
    with pytest.raises(InvalidInput, match="--data, row 1: expected two sentences as inputs and a number as label"):
        score_labelled(load_model(folder, precision="fp32"), "feature-extraction", [example])


def test_pairs_may_be_the_inputs_of_sentence_similarity():
    assert labelled._pair({"source_sentence": "a", "sentences": ["b"]}) == ["a", "b"]
    assert labelled._pair({"source_sentence": "a", "sentences": ["b", "c"]}) is None


def test_perplexity_is_what_the_model_says_of_the_texts(task_bundles):
    model = load_model(task_bundles["text-generation"])
    texts = ["That is a happy person.", "Nobody came to the meeting on Friday."]
    score = score_labelled(model, "text-generation", [Example(text) for text in texts])
    pipeline = make_pipeline(model, "text-generation")
    told = []
    for text in texts:
        answer = plain(pipeline(text, max_new_tokens=1, details=True, decoder_input_details=True))
        told += [token["logprob"] for token in answer[0]["details"]["prefill"][1:]]
    assert score.value == pytest.approx(np.exp(-np.mean(told)))
    assert score.lower


def test_a_label_of_another_kind_is_told_with_its_row(task_bundles):
    model = load_model(task_bundles["text-classification"])
    examples = [Example("a text", "joy"), Example("another", 3)]
    with pytest.raises(InvalidInput, match="row 2: expected the label that is right as label, given 3"):
        score_labelled(model, "text-classification", examples)
