import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onnxpipe.errors import InvalidInput, UnsupportedModel
from onnxpipe.load import load_model
from onnxpipe.text.tables import TableEncoding, TableReader

CLS, SEP, EMPTY, YES, NO, WHICH = 2, 3, 4, 5, 6, 7
UNK = 1


@pytest.fixture
def make_reader(table_bundle: Callable[..., Path]) -> Callable[..., TableReader]:
    def make(**settings: object) -> TableReader:
        model = load_model(table_bundle(**settings))
        return TableReader(model.tokenizer, model.bundle.manifest.table)

    return make


def encode(reader: TableReader, header: list[str], columns: list[list[str]], question: str = "which") -> TableEncoding:
    return reader.encode(reader.read(header, columns), question, truncate=True)


def test_the_tokens_are_those_of_the_question_the_header_and_the_rows(make_reader: Callable[..., TableReader]) -> None:
    encoding = encode(make_reader(), ["yes", "no"], [["no", "no yes"], ["yes", "yes"]])
    assert encoding.ids.tolist() == [CLS, WHICH, SEP, YES, NO, NO, YES, NO, YES, YES]
    assert encoding.type_ids[:, 0].tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1, 1]
    assert encoding.type_ids[:, 1].tolist() == [0, 0, 0, 1, 2, 1, 2, 1, 1, 2]
    assert encoding.type_ids[:, 2].tolist() == [0, 0, 0, 0, 0, 1, 1, 2, 2, 2]
    assert not encoding.type_ids[:, 3:].any()
    assert (encoding.cut, encoding.warnings) == (0, ())


def test_numbers_rank_in_their_column_and_compare_to_those_of_the_question(
    make_reader: Callable[..., TableReader],
) -> None:
    encoding = encode(make_reader(), ["no"], [["7", "3", "7", "5"]], "which 5")
    assert encoding.type_ids[-4:, 4:].tolist() == [[3, 1, 2], [1, 3, 4], [3, 1, 2], [2, 2, 1]]


def test_rows_that_do_not_fit_rank_too(make_reader: Callable[..., TableReader]) -> None:
    encoding = encode(make_reader(max_tokens=6), ["no"], [["7", "3", "9"]])
    assert encoding.type_ids[-2:, 4:6].tolist() == [[2, 2], [1, 3]]
    assert encoding.warnings == ("only the first 2 of the table's 3 rows fit and were read",)


def test_a_cell_of_punctuation_is_the_empty_token_and_an_empty_cell_no_token(
    make_reader: Callable[..., TableReader],
) -> None:
    encoding = encode(make_reader(), ["yes"], [["", "-", " ", "N/A", "nan", "no"]])
    assert encoding.ids[3:].tolist() == [YES, EMPTY, EMPTY, EMPTY, EMPTY, NO]
    assert encoding.type_ids[3:, 2].tolist() == [0, 2, 3, 4, 5, 6]


def test_a_special_token_that_a_text_spells_out_stands_for_itself(make_reader: Callable[..., TableReader]) -> None:
    assert encode(make_reader(), ["yes"], [["no[SEP] yes"]]).ids[4:].tolist() == [NO, SEP, YES]


def test_long_cells_lose_their_last_words_before_any_row_goes(make_reader: Callable[..., TableReader]) -> None:
    encoding = encode(make_reader(max_tokens=10), ["yes"], [["no yes no yes", "no", "yes no yes"]])
    assert encoding.ids[3:].tolist() == [YES, NO, YES, NO, YES, NO]
    assert encoding.type_ids[3:, 2].tolist() == [0, 1, 1, 2, 3, 3]
    assert (encoding.cut, encoding.warnings) == (3, ())


def test_rows_go_where_not_one_word_of_each_cell_fits(make_reader: Callable[..., TableReader]) -> None:
    encoding = encode(make_reader(max_tokens=6), ["yes"], [["no yes", "no", "yes no"]])
    assert encoding.ids[3:].tolist() == [YES, NO, NO]
    assert encoding.cut == 3


def test_a_model_with_a_fixed_cell_length_trims_to_it_and_then_drops_rows(
    make_reader: Callable[..., TableReader],
) -> None:
    encoding = encode(make_reader(max_tokens=9, max_cell_tokens=2), ["yes"], [["no yes no"] * 5])
    assert encoding.ids[3:].tolist() == [YES, NO, YES, NO, YES]


def test_rows_beyond_those_the_model_can_tell_apart_are_not_read(make_reader: Callable[..., TableReader]) -> None:
    encoding = encode(make_reader(max_rows=2), ["yes"], [["no"] * 5])
    assert encoding.type_ids[:, 2].max() == 2


def test_a_rank_without_an_embedding_is_the_largest_there_is(make_reader: Callable[..., TableReader]) -> None:
    encoding = encode(make_reader(max_tokens=400), ["no"], [[str(number) for number in range(40)]])
    assert encoding.type_ids[:, 4:6].max(axis=0).tolist() == [11, 11]


def test_the_header_can_be_left_out(make_reader: Callable[..., TableReader]) -> None:
    encoding = encode(make_reader(read_header=False), ["yes"], [["no"]])
    assert encoding.ids.tolist() == [CLS, WHICH, SEP, NO]


@pytest.mark.parametrize("limits", [{"min_question_tokens": 2}, {"max_question_tokens": 0}])
def test_a_question_of_a_length_the_model_does_not_read_is_left_out_with_a_warning(
    limits: dict[str, int], make_reader: Callable[..., TableReader]
) -> None:
    encoding = encode(make_reader(**limits), ["yes"], [["no"]])
    assert encoding.ids.tolist() == [CLS, SEP, YES, NO]
    assert "it was left out" in encoding.warnings[0]


@pytest.mark.parametrize(("truncate", "hint"), [(True, "shorten the question"), (False, "allow truncation")])
def test_what_cannot_fit_is_an_error_with_the_counts(
    truncate: bool, hint: str, make_reader: Callable[..., TableReader]
) -> None:
    reader = make_reader(max_tokens=6)
    cells = reader.read(["no", "yes"], [["no"], ["yes"]])
    with pytest.raises(InvalidInput, match=rf"takes 5 tokens and the table 4 in 1 rows.*6 tokens.*{hint}"):
        reader.encode(cells, "which which which", truncate=truncate)


def test_a_small_table_is_read_once_for_several_questions_and_a_large_one_anew(
    make_reader: Callable[..., TableReader],
) -> None:
    reader = make_reader()
    assert reader.read(["no"], [["yes"]]) is reader.read(("no",), (("yes",),))
    large = [["yes"] * 5000]
    assert reader.read(["no"], large) is not reader.read(["no"], large)


@pytest.mark.parametrize("text", ["-", "_ ?", " N/A", "nan\n", "[SEP]no", "no[SEP]", "- [SEP] -", "7.5", "no-yes", ""])
def test_a_cell_reads_the_same_whatever_is_beside_it(make_reader: Callable[..., TableReader], text: str) -> None:
    reader = make_reader(read_header=False)
    alone = reader.read([""], [[text]])
    beside = reader.read(["", "", ""], [["yes [SEP]"], [text], ["-"]])
    own = beside.cells == 4
    assert beside.ids[own].tolist() == alone.ids.tolist()
    assert beside.places[own].tolist() == alone.places.tolist()


def test_too_many_columns_are_an_error(make_reader: Callable[..., TableReader]) -> None:
    with pytest.raises(InvalidInput, match="has 8 columns, but this model reads at most 7"):
        make_reader().read(["no"] * 8, [["no"]] * 8)


def test_cells_have_the_mean_of_their_tokens_and_labels_reach_each_of_them(
    make_reader: Callable[..., TableReader],
) -> None:
    encoding = encode(make_reader(), ["yes", "no"], [["no yes", ""], ["yes", "no"]])
    means = encoding.cell_means(np.array([9, 9, 9, 9, 9, 1, 2, 3, 4], dtype=np.float32))
    assert means.tolist() == [[1.5, 3], [0, 4]]
    labels = encoding.labelled(means < 2).type_ids[:, 3]
    assert labels.tolist() == [0, 0, 0, 0, 0, 1, 1, 0, 0]
    assert not encoding.type_ids[:, 3].any()


def test_a_tokenizer_without_the_empty_token_cannot_read_tables(table_bundle: Callable[..., Path]) -> None:
    model = load_model(table_bundle())
    table = dataclasses.replace(model.bundle.manifest.table, empty_token="[NOTHING]")
    with pytest.raises(UnsupportedModel, match=r"\[NOTHING\]"):
        TableReader(model.tokenizer, table)
