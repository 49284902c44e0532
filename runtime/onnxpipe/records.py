"""Frozen dataclasses that check themselves, from and to plain JSON data.

One reader serves manifests, task parameters and structured inputs, so a wrong value gets the same kind of message in a
file, a Python call and an HTTP body. The annotations are the rules; `parameter` adds a range and a description, under
the names pydantic knows, so that the server's OpenAPI shows them too.
"""

import dataclasses
import functools
import itertools
import math
import operator
import reprlib
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from onnxpipe.errors import InvalidInput
from onnxpipe.media import Media

T = TypeVar("T", bound="Record")
Converter = Callable[[Any], Any]

_RANGES: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "ge": (operator.ge, ">="),
    "gt": (operator.gt, ">"),
    "le": (operator.le, "<="),
    "lt": (operator.lt, "<"),
}
_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    type(None): "null",
}


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring = 2, 60


class FieldError(InvalidInput):
    """A field with a wrong value: `path` leads to it, `problem` says what was expected and given."""

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"`{path}`: {problem}" if path else problem)

    def inside(self, parent: str) -> "FieldError":
        """The same error, seen from the record that holds this one as `parent`."""
        dot = "" if not self.path or self.path.startswith("[") else "."
        return FieldError(f"{parent}{dot}{self.path}", self.problem)


def parameter(
    default: Any = dataclasses.MISSING,
    *,
    description: str,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    aliases: tuple[str, ...] = (),
) -> Any:  # a field, typed as its default: the way dataclasses.field is typed
    """A dataclass field with a range, a description, and other names that `read` knows it by."""
    ranges = {name: bound for name, bound in (("ge", ge), ("gt", gt), ("le", le), ("lt", lt)) if bound is not None}
    return dataclasses.field(default=default, metadata={"description": description, "aliases": aliases, **ranges})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """Base of frozen, keyword-only dataclasses that check and normalise their own fields.

    Lists become tuples where the annotation says tuple; mappings become the record the annotation names; strings meet a
    `Literal` in any case. Raises FieldError (an InvalidInput) naming the field.
    """

    def __post_init__(self) -> None:
        # mypy 2.4 takes the class of a dataclass for unhashable
        for field, convert in _converters(type(self)):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if value is field.default:  # right by definition, and what most calls give
                continue
            try:
                value = convert(value)
                _check_range(field.metadata, value)
            except FieldError as error:
                raise error.inside(field.name) from None
            object.__setattr__(self, field.name, value)


def require(record: Record, *names: str) -> None:
    """Raise FieldError unless each of these fields has something in it."""
    for name in names:
        if not getattr(record, name):
            raise FieldError(name, "expected at least one, given none")


def read(cls: type[T], data: object, *, ignore_unknown: bool = False) -> T:
    """A `cls` from a mapping of its fields.

    Raises FieldError on a missing field, a wrong value, or (unless `ignore_unknown`) a name the record does not have.
    """
    if isinstance(data, cls):
        return data
    if not isinstance(data, Mapping):
        raise FieldError("", f"expected an object with {_field_list(cls)}, given {show(data)}")
    # mypy 2.4 takes the class of a dataclass for unhashable
    fields, names = _fields(cls)  # type: ignore[arg-type]
    if not names.keys().isdisjoint(data):
        # its own name wins over an alias beside it
        data = {names[name]: value for name, value in data.items() if name in names} | {
            name: value for name, value in data.items() if name not in names
        }
    unknown = [name for name in data if name not in fields]
    if unknown and not ignore_unknown:
        raise FieldError(str(unknown[0]), f"unknown name; expected {_field_list(cls)}")
    for name, field in fields.items():
        if name not in data and field.default is field.default_factory is dataclasses.MISSING:
            raise FieldError(name, "required, but missing")
    return cls(**{name: value for name, value in data.items() if name in fields})


def plain(value: object) -> Any:  # JSON data: a recursive type that mypy cannot usefully follow
    """`value` as JSON data: records become dicts without their empty optional fields, tuples become lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {field.name: plain(item) for field, item in pairs if item is not None or field.default is not None}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        items: Any = value.tolist()
        return items
    return value


def show(value: object) -> str:
    """`value` in a few characters, for messages; never a whole document, however long or deep it is."""
    return _SHORT.repr(value)


@functools.cache
def _fields(cls: type[Record]) -> tuple[dict[str, dataclasses.Field[Any]], dict[str, str]]:
    """The fields of a record by name, and the names of those that have others, by these."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    return fields, {alias: name for name, field in fields.items() for alias in field.metadata.get("aliases", ())}


@functools.cache
def _converters(cls: type[Record]) -> list[tuple[dataclasses.Field[Any], Converter]]:
    hints = get_type_hints(cls)
    return [(field, converter(hints[field.name])) for field in dataclasses.fields(cls)]


def _field_list(cls: type[Record]) -> str:
    return ", ".join(f"`{field.name}`" for field in dataclasses.fields(cls)) or "no fields"


def _check_range(metadata: Mapping[str, Any], value: object) -> None:
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return
    for name, (holds, symbol) in _RANGES.items():
        if name in metadata and not holds(value, metadata[name]):
            raise FieldError("", f"expected a number {symbol} {metadata[name]}, given {show(value)}")


def converter(annotation: Any) -> Converter:
    """What makes of a value what the annotation wants, or raises FieldError saying what was expected and given.

    Every request comes through one, so the annotation is taken apart here, once. Not to be remembered by annotation:
    `int | float` and `float | int` are equal, but prefer different types.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Any or annotation is object:
        return lambda value: value
    if origin in (Union, types.UnionType):
        return functools.partial(_convert_union, annotation, _unchanged(annotation), [*map(converter, arguments)])
    if origin is Literal:
        return functools.partial(_convert_literal, annotation)
    if origin in (list, tuple):
        item = arguments[0]
        return functools.partial(_convert_list, annotation, origin, _unchanged(item), converter(item))
    if origin in (dict, Mapping):
        return functools.partial(_convert_mapping, annotation, converter(arguments[1]))
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return functools.partial(read, annotation)
    if isinstance(annotation, type) and issubclass(annotation, Media):
        return functools.partial(_open, annotation)
    return functools.partial(_convert_scalar, annotation)


def _unchanged(annotation: Any) -> frozenset[type]:
    """Types whose values are right as they are: scalar ones, in a union those that no other choice comes before."""
    choices = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return frozenset(itertools.takewhile(lambda choice: choice in (str, bool, int, type(None)), choices))


def _convert_list(
    annotation: Any, kind: type[list[Any] | tuple[Any, ...]], unchanged: frozenset[type], item: Converter, value: Any
) -> Any:
    if not isinstance(value, list | tuple):
        raise _unexpected(annotation, value)
    if unchanged.issuperset(map(type, value)):  # most lists, and they may be long
        return kind(value)
    return kind([_convert_item(item, part, f"[{index}]") for index, part in enumerate(value)])


def _convert_mapping(annotation: Any, item: Converter, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise _unexpected(annotation, value)
    return {str(key): _convert_item(item, part, key) for key, part in value.items()}


def _convert_item(item: Converter, value: Any, name: object) -> Any:
    try:
        return item(value)
    except FieldError as error:
        raise error.inside(str(name)) from None


def _convert_union(annotation: Any, unchanged: frozenset[type], choices: Sequence[Converter], value: Any) -> Any:
    if type(value) in unchanged:
        return value
    deepest: FieldError | None = None
    for choice in choices:
        try:
            return choice(value)
        except FieldError as error:
            if error.path:
                deepest = error
    raise deepest or _unexpected(annotation, value)


def _convert_literal(annotation: Any, value: Any) -> Any:
    for choice in get_args(annotation):
        if value == choice and type(value) is type(choice):
            return choice
        if isinstance(value, str) and isinstance(choice, str) and value.lower() == choice:
            return choice
    raise _unexpected(annotation, value)


def _convert_scalar(annotation: Any, value: Any) -> Any:
    """A bool is no number and infinity is no float."""
    if annotation is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value):
            return float(value)
    elif isinstance(value, annotation) and not (annotation is int and isinstance(value, bool)):
        return value
    raise _unexpected(annotation, value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the largest float
        return False


def _open(cls: type[Media], source: object) -> Media:
    try:
        return cls.read(source)
    except InvalidInput as error:
        raise FieldError("", str(error)) from None


def _unexpected(annotation: Any, value: object) -> FieldError:
    return FieldError("", f"expected {_describe(annotation)}, given {show(value)}")


def _describe(annotation: Any) -> str:
    """The annotation in a user's words."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(choice) for choice in get_args(annotation))
    if origin is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(annotation))
    if origin in (list, tuple):
        return f"a list, each item {_describe(get_args(annotation)[0])}"
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return f"an object with {_field_list(annotation)}"
    if isinstance(annotation, type) and issubclass(annotation, Media):
        return f"an {annotation.kind} as bytes, a path or a data: URL"
    return _NAMES.get(annotation, "an object")
