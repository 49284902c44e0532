import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpipe.text.quantities import column_values, find_values, ranks, relations


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", []),
        ("no value", []),
        ("12", [12.0]),
        ("1,234.5 km", [1234.5]),
        ("-3 and +.5", [-3.0, 0.5]),
        ("3rd of twelve", [3.0, 12.0]),
        ("Second", [2.0]),
        ("inf, nan, infinity", []),
        ("9" * 400, []),
        ("2005", [2005.0, (2005, None, None)]),
        ("1699", [1699.0]),
        ("the 2010s", [(2010, None, None)]),
        ("May", [(None, 5, None)]),
        ("6 May 1961", [(1961, 5, 6)]),
        ("may 6,  1961", [(1961, 5, 6)]),
        ("sep 2001", [(2001, 9, None)]),
        ("1961-5-6", [(1961, 5, 6)]),
        ("5-6-1961", [(1961, 5, 6)]),
        ("6.5.1961", [(1961, 5, 6)]),
        ("1961-05", [(1961, 5, None)]),
        ("Sunday, May 6", [(None, 5, 6)]),
        ("31 April", [31.0, (None, 4, None)]),
        ("29 February", [29.0, (None, 2, None)]),
        ("29 February 1904", [(1904, 2, 29)]),
        ("6 May or 7 June", [(None, 5, 6), (None, 6, 7)]),
    ],
)
def test_the_numbers_and_dates_of_a_text_are_its_longest_readings(text: str, values: list) -> None:
    assert find_values(text) == values


@given(st.text())
def test_any_text_has_values_or_none(text: str) -> None:
    assert all(isinstance(value, float | tuple) for value in find_values(text))


def test_a_column_of_numbers_has_the_first_number_of_each_cell() -> None:
    assert column_values(["3 km", "4 to 5", "none", "7"]) == [3.0, 4.0, None, 7.0]


def test_a_column_of_which_fewer_than_70_percent_are_numbers_has_no_values() -> None:
    assert column_values(["3", "4", "none"]) == [None, None, None]


def test_a_column_of_years_is_one_of_dates() -> None:
    assert column_values(["1999", "2004"]) == [(1999, None, None), (2004, None, None)]


def test_ranks_count_the_distinct_values_from_both_ends() -> None:
    assert ranks([5.0, None, 2.0, 5.0]) == [(2, 1), (0, 0), (1, 2), (2, 1)]


def test_dates_rank_by_the_fields_that_all_of_them_have() -> None:
    assert ranks([(2004, 5, 1), (2004, None, None), (1999, 12, None)]) == [(2, 1), (2, 1), (1, 2)]


def test_dates_that_share_no_field_have_no_rank() -> None:
    assert ranks([(2004, None, None), (None, 5, None)]) == [(0, 0), (0, 0)]


def test_a_relation_sums_equal_smaller_and_larger() -> None:
    assert relations([1.0, None, 5.0, 9.0], [5.0, 7.0]) == [4, 0, 1 + 4, 2]


def test_only_values_of_the_columns_kind_are_compared() -> None:
    assert relations([(1999, 5, None), (2004, 5, None)], [7.0, (2000, None, None)]) == [4, 2]
    assert relations([(1999, None, None)], [(None, 5, None)]) == [0]
    assert relations([None], [5.0]) == [0]
