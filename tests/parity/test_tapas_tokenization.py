"""Tables and questions to tokens beside TapasTokenizer of transformers 4.57.6, token by token and all seven columns."""

import csv
import dataclasses
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from onnxpipe.errors import InvalidInput
from onnxpipe.load import load_model
from onnxpipe.text.tables import TableEncoding, TableReader

pytest.importorskip("optimum", reason="parity needs the export extra")
pytest.importorskip("pandas", reason="the reference reads tables with pandas")
import pandas
from transformers import TapasTokenizer

# the reference takes cells by position from a row with names, which pandas 2 announces to end and pandas 3 has ended
pytestmark = pytest.mark.filterwarnings("ignore:Series.__getitem__ treating keys as positions:FutureWarning")

HEAD = "ForTableQuestionAnswering"
Columns = Sequence[Sequence[str]]


@pytest.fixture(scope="module")
def reference(tiny_model: Callable[..., Path]) -> TapasTokenizer:
    return TapasTokenizer.from_pretrained(tiny_model("tapas", HEAD))


@pytest.fixture(scope="module")
def reader(tiny_bundle: Callable[..., Path]) -> TableReader:
    model = load_model(tiny_bundle("tapas", HEAD))
    return TableReader(model.tokenizer, model.bundle.manifest.table)


def expect(reference: TapasTokenizer, header: Sequence[str], columns: Columns, question: str, **settings) -> tuple:
    frame = pandas.DataFrame(dict(enumerate(columns)), dtype=object)
    frame.columns = list(header)
    encoded = reference(frame, question, truncation="drop_rows_to_fit", **settings)
    return encoded["input_ids"], encoded["token_type_ids"]


def given(encoding: TableEncoding) -> tuple:
    return encoding.ids.tolist(), encoding.type_ids.tolist()


def wtq(folder: Path, split: str) -> list[tuple[str, list[str], list[list[str]]]]:
    """Question, header and columns of WikiTableQuestions."""
    pairs = []
    for line in (folder / f"data/{split}.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        _, question, table, _ = line.split("\t")
        if (folder / table).is_file():
            with (folder / table).open(encoding="utf-8", newline="") as stream:
                header, *rows = csv.reader(stream, escapechar="\\", doublequote=False)
            pairs.append((question, header, [list(column) for column in zip(*rows, strict=True)]))
    return pairs


def test_every_token_of_wikitablequestions_equals_the_reference(
    reference: TapasTokenizer, reader: TableReader, test_data: Path
) -> None:
    pairs = wtq(test_data / "text/wtq", "training-before300") + wtq(test_data / "text/wtq", "random-split-1-dev")
    # the reference's time grows with the cells
    pairs = [pair for pair in pairs if len(pair[1]) * len(pair[2][0]) <= 150][:310]
    assert len(pairs) >= 300
    cut = 0
    for question, header, columns in pairs:
        encoding = reader.encode(reader.read(header, columns), question, truncate=True)
        assert given(encoding) == expect(reference, header, columns, question), (question, header)
        cut += encoding.cut > 0
    assert 30 < cut < len(pairs) - 30


def random_cell(random: random.Random) -> str:
    kinds: list[Callable[[], str]] = [
        lambda: "",
        lambda: random.choice(["-", "?", "n/a", " NaN ", "_", "\u200b", "…", "[SEP]", "a [SEP] ?", "[EMPTY]"]),
        lambda: f"{random.uniform(-1e4, 1e4):,.2f} {random.choice(['km', '%', '€', 'm²', ''])}",
        lambda: f"{random.randint(1, 31)} {random.choice(['May', 'sept', 'December'])} {random.randint(1690, 2030)}",
        lambda: f"{random.randint(1690, 2030)}-{random.randint(0, 13)}-{random.randint(0, 32)}",
        lambda: random.choice(
            ["1st", "second", "twelve", "1 to 3", "+5", ".5", "İstanbul ΑΣ", "東京 12", "👩‍👩‍👧 é", "\n7\t"]
        ),
        lambda: "word " * random.randint(1, 30),
        lambda: "unfathomable" * random.randint(1, 12),
    ]
    return random.choice(kinds)()


@pytest.mark.parametrize(
    ("rows", "columns"), [(1, 1), (1, 6), (200, 1), (120, 3), (30, 12), (5, 3), (3, 5), (8, 2), (2, 2)]
)
def test_generated_tables_equal_the_reference(
    rows: int, columns: int, reference: TapasTokenizer, reader: TableReader
) -> None:
    source = random.Random(100 * rows + columns)
    for _ in range(max(1, 60 // rows)):
        header = [source.choice(["Name", "Name", "name", "", "2004", random_cell(source)]) for _ in range(columns)]
        # each column of one kind, as tables have them, but for some cells
        kinds = [random_cell(source) for _ in range(columns)]
        cells = [[random_cell(source) if source.random() < 0.3 else kind for _ in range(rows)] for kind in kinds]
        for column in cells[::2]:
            column[:] = [f"{source.randint(0, 9)}{source.choice(['', ' km', ' May 2004'])}" for _ in column]
        for question in (
            "how many?",
            "Is 5 or 1,000 more than 3 May 2004 or the second?",
            "?",
            random_cell(source) or "x",
        ):
            encoding = reader.encode(reader.read(header, cells), question, truncate=True)
            assert given(encoding) == expect(reference, header, cells, question), (question, header, cells)


def test_hard_texts_as_cells_and_questions_equal_the_reference(
    reference: TapasTokenizer, reader: TableReader, texts: list[str]
) -> None:
    for start in range(0, len(texts), 6):
        columns = [texts[start : start + 6], texts[start : start + 6][::-1]]
        question = texts[start] if 0 < len(texts[start]) < 500 else "which?"
        encoding = reader.encode(reader.read(["first", "second"], columns), question, truncate=True)
        assert given(encoding) == expect(reference, ["first", "second"], columns, question), columns


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"cell_trim_length": 3}, {"max_cell_tokens": 3}),
        ({"cell_trim_length": 1}, {"max_cell_tokens": 1}),
        ({"cell_trim_length": 40}, {"max_cell_tokens": 40}),
        ({"strip_column_names": True}, {"read_header": False}),
        ({"min_question_length": 6}, {"min_question_tokens": 6}),
        ({"max_question_length": 6}, {"max_question_tokens": 6}),
        ({"max_row_id": 9}, {"max_rows": 8}),
    ],
    ids=str,
)
def test_each_setting_of_the_tokenizer_equals_the_reference(
    theirs: dict[str, object], ours: dict[str, object], tiny_model: Callable[..., Path], reader: TableReader
) -> None:
    reference = TapasTokenizer.from_pretrained(tiny_model("tapas", HEAD), **theirs)
    reader = TableReader(reader._tokenizer, dataclasses.replace(reader._table, **ours))
    source = random.Random(7)
    for rows in (3, 20, 60):
        columns = [[random_cell(source) or "5" for _ in range(rows)] for _ in range(4)]
        for question in ("who?", "who was it that came in 1990, 5 or 7?"):
            encoding = reader.encode(reader.read("abcd", columns), question, truncate=True)
            assert given(encoding) == expect(reference, "abcd", columns, question)


def test_where_the_reference_goes_beyond_the_models_limit_it_is_an_error(
    reference: TapasTokenizer, reader: TableReader
) -> None:
    columns = [["word " * 20] * 30]
    assert len(expect(reference, ["a"], columns, "word " * 600)[0]) > 512
    with pytest.raises(InvalidInput, match="shorten the question"):
        reader.encode(reader.read(["a"], columns), "word " * 600, truncate=True)


def test_ranks_that_the_model_has_no_embedding_for_are_the_largest_it_has(
    reference: TapasTokenizer, reader: TableReader
) -> None:
    columns = [[str(number) for number in range(400)]]
    ids, type_ids = expect(reference, ["n"], columns, "how many?")
    encoding = reader.encode(reader.read(["n"], columns), "how many?", truncate=True)
    assert np.max(type_ids) == 400  # fails in the reference's model, whose table has 256
    assert encoding.ids.tolist() == ids
    assert encoding.type_ids.tolist() == np.minimum(type_ids, [2, 255, 255, 1, 255, 255, 9]).tolist()
