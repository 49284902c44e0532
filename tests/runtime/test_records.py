import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpipe.errors import InvalidInput
from onnxpipe.records import FieldError, Record, converter, parameter, plain, read, show


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaf(Record):
    name: str
    size: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tree(Record):
    count: int = parameter(1, ge=1, lt=10, description="How many.")
    share: float | None = parameter(None, gt=0, le=1, description="Which part.")
    mode: Literal["fast", "slow"] | None = None
    dims: tuple[int | str, ...] = ()
    leaves: tuple[Leaf, ...] = ()
    by_name: Mapping[str, Leaf] = dataclasses.field(default_factory=dict)
    switch: bool | Literal["auto"] = True
    anything: Any = None


def test_a_field_error_is_an_invalid_input_that_names_its_path():
    error = FieldError("leaves[0].name", "wrong")
    assert isinstance(error, InvalidInput)
    assert (error.path, error.problem, str(error)) == ("leaves[0].name", "wrong", "`leaves[0].name`: wrong")


def test_a_field_error_without_a_path_is_the_problem_alone():
    assert str(FieldError("", "wrong")) == "wrong"


@pytest.mark.parametrize(("path", "expected"), [("", "a"), ("b", "a.b"), ("[2].b", "a[2].b")])
def test_a_field_error_seen_from_outside_has_the_parent_in_front(path, expected):
    assert FieldError(path, "wrong").inside("a").path == expected


def test_lists_become_tuples_and_mappings_become_records():
    tree = read(Tree, {"leaves": [{"name": "x", "size": 2}], "by_name": {"y": {"name": "y"}}, "dims": ["batch", 2]})
    assert tree.leaves == (Leaf(name="x", size=2.0),)
    assert tree.by_name == {"y": Leaf(name="y", size=1.0)}
    assert tree.dims == ("batch", 2)


def test_an_integer_given_for_a_number_becomes_a_float():
    assert type(Leaf(name="x", size=2).size) is float


def test_reading_a_record_gives_the_record_itself():
    leaf = Leaf(name="x")
    assert read(Leaf, leaf) is leaf


@pytest.mark.parametrize("spelling", ["fast", "FAST", "Fast"])
def test_a_literal_is_understood_in_any_case(spelling):
    assert Tree(mode=spelling).mode == "fast"


def test_a_literal_refuses_another_word_and_names_the_choices():
    with pytest.raises(FieldError, match=r"^`mode`: expected one of 'fast', 'slow' or null, given 'quick'$"):
        Tree(mode="quick")


@pytest.mark.parametrize(("given_value", "expected"), [(True, True), (False, False), ("AUTO", "auto")])
def test_a_union_takes_each_of_its_members(given_value, expected):
    assert Tree(switch=given_value).switch is expected


@pytest.mark.parametrize("value", [1, 0, "yes", None])
def test_a_union_of_true_false_and_a_word_refuses_everything_else(value):
    with pytest.raises(FieldError, match=r"`switch`: expected true or false or one of 'auto', given"):
        Tree(switch=value)


def test_a_union_reports_the_member_that_came_furthest():
    with pytest.raises(FieldError) as caught:
        converter(str | Leaf)({"name": 3})
    assert (caught.value.path, caught.value.problem) == ("name", "expected a string, given 3")


@pytest.mark.parametrize("value", [True, False])
def test_a_bool_is_neither_an_integer_nor_a_number(value):
    with pytest.raises(FieldError, match="`count`: expected an integer, given"):
        Tree(count=value)
    with pytest.raises(FieldError, match="`share`: expected a number or null, given"):
        Tree(share=value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, -(10**400)])
def test_a_number_is_finite(value):
    with pytest.raises(FieldError, match="expected a number, given"):
        converter(float)(value)


@pytest.mark.parametrize("value", [1.0, "1", None, [1]])
def test_an_integer_is_nothing_else(value):
    with pytest.raises(FieldError, match="expected an integer, given"):
        converter(int)(value)


@pytest.mark.parametrize("count", [1, 9])
def test_a_range_includes_its_closed_end(count):
    assert Tree(count=count).count == count
    assert Tree(share=1).share == 1.0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("count", 0, "expected a number >= 1, given 0"),
        ("count", 10, "expected a number < 10, given 10"),
        ("share", 0, "expected a number > 0, given 0.0"),
        ("share", 1.5, "expected a number <= 1, given 1.5"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_bound(field, value, message):
    with pytest.raises(FieldError) as caught:
        read(Tree, {field: value})
    assert (caught.value.path, caught.value.problem) == (field, message)


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"leaves": [{"name": "x"}, {"name": 1}]}, "leaves[1].name"),
        ({"leaves": [3]}, "leaves[0]"),
        ({"by_name": {"key": {"name": "x", "size": "big"}}}, "by_name.key.size"),
        ({"by_name": {"key": {}}}, "by_name.key.name"),
        ({"dims": [1, True]}, "dims[1]"),
        ({"leaves": [{"name": "x", "colour": 1}]}, "leaves[0].colour"),
    ],
)
def test_the_path_leads_to_a_nested_value(data, path):
    with pytest.raises(FieldError) as caught:
        read(Tree, data)
    assert caught.value.path == path


def test_a_missing_field_is_named():
    with pytest.raises(FieldError, match=r"^`name`: required, but missing$"):
        read(Leaf, {"size": 1})


def test_an_unknown_name_is_refused_with_the_names_there_are():
    with pytest.raises(FieldError, match=r"^`colour`: unknown name; expected `name`, `size`$"):
        read(Leaf, {"name": "x", "colour": "red"})


def test_unknown_names_are_dropped_when_asked():
    assert read(Leaf, {"name": "x", "colour": "red"}, ignore_unknown=True) == Leaf(name="x")


@pytest.mark.parametrize("data", ["x", 1, None, [["name", "x"]]])
def test_a_record_is_read_from_nothing_but_a_mapping(data):
    with pytest.raises(FieldError, match=r"^expected an object with `name`, `size`, given"):
        read(Leaf, data)


def test_a_record_without_fields_says_so():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Empty(Record):
        pass

    with pytest.raises(FieldError, match="unknown name; expected no fields"):
        read(Empty, {"x": 1})


@pytest.mark.parametrize("value", ["abc", {"a": 1}, 1, None])
def test_a_list_is_not_made_of_something_else(value):
    with pytest.raises(FieldError, match=r"^expected a list, each item a string, given"):
        converter(list[str])(value)


def test_a_mapping_is_not_made_of_something_else():
    with pytest.raises(FieldError, match=r"^expected an object, given"):
        converter(Mapping[str, float])([1])


def test_any_takes_a_value_as_it_is():
    value = object()
    assert converter(Any)(value) is value


def test_plain_leaves_out_what_is_empty_and_optional():
    assert plain(Leaf(name="x")) == {"name": "x", "size": 1.0}
    assert set(plain(Tree())) == {"count", "dims", "leaves", "by_name", "switch"}


def test_plain_makes_json_of_arrays_and_tuples():
    assert plain({"a": (1, np.array([[1.5, 2.0]], np.float32))}) == {"a": [1, [[1.5, 2.0]]]}


leaves = st.builds(Leaf, name=st.text(max_size=5), size=st.floats(allow_nan=False, allow_infinity=False))
trees = st.builds(
    Tree,
    count=st.integers(1, 9),
    share=st.none() | st.floats(0.01, 1),
    mode=st.sampled_from([None, "fast", "slow"]),
    dims=st.lists(st.integers() | st.text(max_size=3)).map(tuple),
    leaves=st.lists(leaves, max_size=3).map(tuple),
    by_name=st.dictionaries(st.text(max_size=3), leaves, max_size=2),
    switch=st.booleans() | st.just("auto"),
    anything=st.none() | st.lists(st.integers(), max_size=2),
)


@given(trees)
def test_a_record_comes_back_the_same_through_json(tree):
    assert read(Tree, json.loads(json.dumps(plain(tree)))) == tree


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([field.name for field in dataclasses.fields(Tree)]) | st.text(), json_values))
def test_any_json_is_a_record_or_a_field_error(data):
    try:
        tree = read(Tree, data)
    except FieldError:
        return
    assert read(Tree, plain(tree)) == tree


def test_show_cuts_long_and_deep_values():
    assert show("x" * 58) == repr("x" * 58)
    assert show("x" * 59) == "'" + "x" * 27 + "..." + "x" * 28 + "'"
    deep = []
    for _ in range(5000):
        deep = [deep]
    assert show(deep) == "[[[...]]]"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Renamed(Record):
    question: str = parameter(description="What is asked.", aliases=("query", "q"))
    top_k: int = parameter(1, description="How many.", aliases=("topK",))


@pytest.mark.parametrize("name", ["question", "query", "q"])
def test_a_field_is_read_by_any_of_its_names(name):
    assert read(Renamed, {name: "a", "topK": 2}) == Renamed(question="a", top_k=2)


def test_a_fields_own_name_wins():
    assert read(Renamed, {"question": "a", "query": "b"}).question == "a"
    assert read(Renamed, {"query": "b", "question": "a"}, ignore_unknown=True).question == "a"


def test_messages_know_a_field_by_its_own_name():
    with pytest.raises(FieldError, match=r"^`question`: expected a string, given 1$"):
        read(Renamed, {"query": 1})
    with pytest.raises(FieldError, match=r"^`question`: required, but missing$"):
        read(Renamed, {})
    with pytest.raises(FieldError, match=r"^`Query`: unknown name; expected `question`, `top_k`$"):
        read(Renamed, {"Query": "a"})


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (tuple[str, ...], ["a", "b"], ("a", "b")),
        (tuple[str | int | float, ...], ["a", 1, 2.5], ("a", 1, 2.5)),
        (list[float | int], [1, 2], [1.0, 2.0]),
        (list[int | float], [1, 2.5], [1, 2.5]),
        (list[float], [1], [1.0]),
        (tuple[bool | None, ...], [True, None], (True, None)),
    ],
)
def test_items_of_a_list_are_converted_one_by_one(annotation, value, expected):
    given = converter(annotation)(value)
    assert (given, [type(item) for item in given]) == (expected, [type(item) for item in expected])


@pytest.mark.parametrize("value", [["a", None], ["a", float("nan")], ["a", True]])
def test_a_wrong_item_in_a_list_is_named(value):
    with pytest.raises(FieldError, match=r"`\[1\]`: expected"):
        converter(tuple[str | int | float, ...])(value)
