"""Jinja templates that come with models, rendered within bounds. The only door to jinja2 (extra `chat`).

Globals, filters and settings are those of chat templates in transformers 4.57.6 (utils/chat_template_utils.py), in
jinja2's ImmutableSandboxedEnvironment, which keeps a template away from everything but its variables. What that leaves
open is time and memory. Bounded here:

- Each turn of a loop, call, filter, operator and output looks at the clock, and none of them alone takes long, for
- every text or list is made only when it is known to be small enough (`Limits`): what multiplies sizes is estimated
  first, what adds them is measured after. Nesting counts in full: a list that holds another one ten times counts ten
  times, so printing or comparing it is bounded too.
- All that is made and written, into variables too, is summed up, and the sum is bounded.

Not bounded: a single call on texts of the largest size, some tens of milliseconds; parsing, which takes time in
proportion to a template's length, so that is bounded instead; and memory is counted in characters, not bytes. What is
not worth an estimate is refused: widths taken from arguments (`%*d`), `striptags` and the like on long texts, `lipsum`.
"""

import contextvars
import dataclasses
import datetime
import functools
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

# Names that templates cannot spell.
_LOOP, _TEXT, _NEW = " loop", " text", " new"
_WIDTH = re.compile(r"\d+")
# A width from an argument, as in %*d and {:{}}.
_INDIRECT = re.compile(r"%[^a-zA-Z%]*\*|\{[^{}]*\{")
# Takes time that grows faster than the text.
_SLOW_FILTERS = ("pprint", "striptags", "urlize", "wordwrap", "xmlattr")
_SLOW_SIZE = 10_000
# Their integers are widths and counts.
_SIZED_FILTERS = ("batch", "center", "indent", "slice", "truncate", "wordwrap")
_MAX_BITS = 4096


class LimitExceeded(Exception):
    """A template wants more memory than it may have."""


class TimeExceeded(Exception):
    """A template wants more time than it may have."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What rendering may take: characters of the result and of every value on the way; seconds.

    All values together may be fifty times as large as one.
    """

    characters: int = 1_000_000
    seconds: float = 5.0


def compile_template(source: str) -> jinja2.Template:
    """The template, instrumented. Raises jinja2.TemplateSyntaxError or, nested too deep, RecursionError."""
    environment = _environment()
    tree = _Instrument().visit(environment.parse(source))
    code = environment.compile(tree)
    return environment.template_class.from_code(environment, code, environment.make_globals(None))


def render(template: jinja2.Template, variables: Mapping[str, Any], limits: Limits) -> str:
    """The text. Raises LimitExceeded, TimeExceeded, or what the template raises: jinja2.TemplateError and any other."""
    token = _spent.set(_Budget(limits))
    try:
        return template.render(variables)
    finally:
        _spent.reset(token)


class _Budget:
    """What a rendering has taken of its limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._deadline = time.monotonic() + limits.seconds
        self._written = 0
        self._made = 0

    def step(self) -> None:
        if time.monotonic() > self._deadline:
            raise TimeExceeded(f"it takes longer than {self._limits.seconds:g} seconds")

    def fit(self, size: int) -> None:
        """Check the size of a value that would be made."""
        self.step()
        if size > self._limits.characters:
            raise LimitExceeded(f"it makes a value of more than {self._limits.characters} characters")

    def made(self, value: Any) -> Any:
        """A value that was made, if it is not too large."""
        self.step()
        if isinstance(value, str | bytes | list | tuple | dict | set | frozenset):
            self._made += len(value)
            self.fit(_measure(value, self._limits.characters))
            if self._made > 50 * self._limits.characters:
                raise LimitExceeded("all the values it makes are too large")
        return value

    def write(self, text: str) -> str:
        self.step()
        self._written += len(text)
        if self._written > self._limits.characters:
            raise LimitExceeded(f"its text has more than {self._limits.characters} characters")
        return text


_spent: contextvars.ContextVar[_Budget] = contextvars.ContextVar("spent")


def _measure(value: Any, limit: int) -> int:
    """The characters of a value and all that is in it, each place counted; stops beyond the limit."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, Namespace):
        raise LimitExceeded("it puts a namespace into another value")
    if isinstance(value, dict):
        parts: Iterable[Any] = (part for pair in value.items() for part in pair)
    elif isinstance(value, list | tuple | set | frozenset):
        parts = value
    else:
        return 8
    size = 2
    for part in parts:
        size += 2 + _measure(part, limit - size)
        if size > limit:
            break
    return size


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, with a look at the budget wherever something is done."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        budget = _spent.get()
        if operator == "*":
            _check_product(budget, left, right)
        elif operator == "**":
            _check_power(left, right)
        elif operator == "%" and isinstance(left, str | bytes):
            _check_format(budget, left, right)
        return budget.made(super().call_binop(context, operator, left, right))

    # the names of the base class, chosen so as not to meet a template's keywords
    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        budget = _spent.get()
        budget.step()
        if isinstance(__obj, LoopContext):  # a recursive loop takes its next turn
            args = (_turns(args[0]), *args[1:])
        method = getattr(__obj, "__wrapped__", __obj)  # the base class wraps the two that format
        owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
        if isinstance(owner, str | bytes | int | float | list | tuple | dict):
            args = _check_method(budget, owner, name, args, kwargs)
        return budget.made(super().call(__context, __obj, *args, **kwargs))


class _Namespace(Namespace):
    """Jinja's namespace, which holds no other namespace and prints as nothing large."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for value in dict(*args, **kwargs).values():
            _spent.get().made([value])

    def __setitem__(self, name: str, value: Any) -> None:
        _spent.get().made([value])
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<Namespace>"


class _Instrument(NodeTransformer):
    """Puts a filter of ours where values are made or taken without a call that the environment sees."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - the visitor's naming
        self.generic_visit(node)
        node.iter = _filtered(node.iter, _LOOP)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), _TEXT)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        return _filtered(self.generic_visit(node), _NEW)

    visit_Dict = visit_List  # noqa: N815

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, _NEW) if node.ctx == "load" else node

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:  # noqa: N802
        """Text between tags passes `_finalize` as values do, so that a loop around it is counted."""
        return nodes.Const(node.data, lineno=node.lineno)


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class _Generation(jinja2.ext.Extension):
    """`{% generation %}`, which marks a model's own words for training: here just its content."""

    tags = {"generation"}  # noqa: RUF012 - as the base class has it

    def parse(self, parser: Any) -> list[nodes.Node]:
        next(parser.stream)
        body: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return [nodes.Scope(body)]


@functools.cache
def _environment() -> _Environment:
    environment = _Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_Generation, jinja2.ext.loopcontrols],
        # what is constant would be computed while compiling, where no budget is
        optimized=False,
        finalize=_finalize,
    )
    environment.filters["tojson"] = _to_json
    del environment.globals["lipsum"]
    environment.globals |= {"raise_exception": _raise_exception, "strftime_now": _now, "namespace": _Namespace}
    environment.filters = {name: _guarded(name, function) for name, function in environment.filters.items()}
    environment.filters |= {_LOOP: _turns, _TEXT: _joined, _NEW: _new}
    return environment


@jinja2.pass_context  # with a context to pass, jinja2 calls it for constants too, and only when rendering
def _finalize(_: Context, value: Any) -> str:
    return _spent.get().write(str(value))


def _turns(items: Iterable[Any]) -> Iterator[Any]:
    budget = _spent.get()
    for item in items:
        budget.step()
        yield item


def _joined(values: list[Any]) -> str:
    budget = _spent.get()
    budget.made(values)
    return str(budget.made("".join(map(str, values))))


def _new(value: Any) -> Any:
    return _spent.get().made(value)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    # the local time of this machine, as in the reference
    return datetime.datetime.now().strftime(form)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - templates call it so
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    """Plain JSON, unlike jinja2's own filter, which escapes for HTML."""
    encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    if indent is None:
        return encoder.encode(value)
    budget, pieces, size = _spent.get(), [], 0
    for piece in encoder.iterencode(value):  # indentation may be far more than the value
        pieces.append(piece)
        budget.fit(size := size + len(piece))
    return "".join(pieces)


def _guarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        budget = _spent.get()
        budget.step()
        start = 1 if isinstance(args[0], Context | jinja2.Environment | nodes.EvalContext) else 0
        if len(args) > start:
            value, *rest = args[start:]
            args = (*args[:start], _check_filter(budget, name, value, [*rest, *kwargs.values()]), *rest)
        return budget.made(function(*args, **kwargs))

    return call


def _check_filter(budget: _Budget, name: str, value: Any, rest: list[Any]) -> Any:
    """The value that a filter may work on; it and the arguments are checked."""
    if name in _SIZED_FILTERS:
        _check_integers(budget, rest)
    if name == "join":
        value = list(_turns(value))
        return list(_check_join(budget, str(rest[0]) if rest else "", value))
    if name in _SLOW_FILTERS and _measure(value, _SLOW_SIZE) > _SLOW_SIZE:
        raise LimitExceeded(f"it uses {name!r} on more than {_SLOW_SIZE} characters")
    if name == "sum" and any(isinstance(argument, list | tuple) for argument in rest):
        raise LimitExceeded("it sums up lists")
    if name == "round" and any(isinstance(argument, int) and abs(argument) > 1000 for argument in rest):
        raise LimitExceeded("it rounds to more than 1000 digits")
    if name == "replace" and len(rest) > 1:
        _check_replace(budget, str(value), str(rest[0]), str(rest[1]))
    if name == "indent":
        widths = [argument if isinstance(argument, int) else len(str(argument)) for argument in rest] or [4]
        budget.fit(len(str(value)) + (str(value).count("\n") + 1) * max(widths))
    if name == "format":
        _check_format(budget, str(value), rest)
    return value


def _check_method(budget: _Budget, owner: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The arguments that a method of a plain value may get."""
    _check_integers(budget, [*args, *kwargs.values()])
    if isinstance(owner, str | bytes):
        if name == "join" and args:
            return (_check_join(budget, owner, list(_turns(args[0]))), *args[1:])
        if name == "replace" and len(args) > 1:
            _check_replace(budget, owner, args[0], args[1])
        elif name in ("format", "format_map"):
            _check_format(budget, owner, [*args, kwargs])
        elif name == "expandtabs":
            width = max([8, *(argument for argument in (*args, *kwargs.values()) if isinstance(argument, int))])
            budget.fit(len(owner) * width)
        elif name == "translate":
            sizes = [_measure(value, 10**9) for value in args[0].values()] if args and isinstance(args[0], dict) else []
            budget.fit(len(owner) * max([1, *sizes]))
    return args


def _check_integers(budget: _Budget, values: Iterable[Any]) -> None:
    """Widths and counts: none larger than a text may be."""
    for value in values:
        if isinstance(value, int):
            budget.fit(abs(value))


def _check_join(budget: _Budget, separator: str | bytes, items: list[Any]) -> list[Any]:
    budget.fit(_measure(items, 10**9) + len(separator) * len(items))
    return items


def _check_replace(budget: _Budget, text: Any, old: Any, new: Any) -> None:
    budget.fit(len(text) + text.count(old) * len(new))


def _check_product(budget: _Budget, left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > _MAX_BITS:
            raise LimitExceeded("it computes a number of too many digits")
        return
    for value, count in ((left, right), (right, left)):
        if isinstance(count, int) and not isinstance(value, int | float):
            budget.fit(_measure(value, 10**9) * max(count, 0))


def _check_power(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > _MAX_BITS:
        raise LimitExceeded("it computes a number of too many digits")


def _check_format(budget: _Budget, form: Any, values: Any) -> None:
    text = form if isinstance(form, str) else form.decode("latin-1")
    if _INDIRECT.search(text):
        raise LimitExceeded("it formats with a width taken from an argument")
    fields = text.count("%") + text.count("{")
    widths = sum(min(int(width[:10]), 10**9) for width in _WIDTH.findall(text)) if fields else 0
    budget.fit(len(text) + widths + fields * _measure(values, 10**9))
