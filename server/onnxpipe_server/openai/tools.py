"""Tool calls: what may be called, the grammar of a call, and calls in the text that a model writes."""

import dataclasses
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from onnxpipe.errors import UnprocessableInput
from onnxpipe.generation.grammar import GrammarSource
from onnxpipe.records import FieldError, show
from onnxpipe.text.chat import Message, Tool, read_tools

# What a message grows by: {"content": ...} or {"tool_calls": [...]}, as in a chunk of a stream.
Delta = dict[str, Any]

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_BLOCK = re.compile(rf"\s*{_OPEN}(.*?)(?:{_CLOSE}|\Z)", re.DOTALL)
_CALL_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*(?=\S)')
_CALL_END = re.compile(r"[}\s]*\Z")
_TOOL_PROMPT = (
    'You may call one of these functions. To call one, answer with nothing but {"name": its name, "arguments": an '
    "object with its arguments}:"
)


@dataclasses.dataclass(frozen=True)
class ToolUse:
    """The functions that an answer may call, and whether it has to call one of them."""

    tools: list[Tool]
    forced: bool

    @property
    def names(self) -> list[str]:
        """The functions' names."""
        return [tool["function"]["name"] for tool in self.tools]

    def grammar(self) -> GrammarSource | None:
        """What a forced call follows: {"name": ..., "arguments": ...}; None where plain text is an answer too."""
        if not self.forced:
            return None
        schemas = {f"f{index}": _parameters(tool, f"#/$defs/f{index}") for index, tool in enumerate(self.tools)}
        forms = [
            {
                "type": "object",
                "properties": {"name": {"const": name}, "arguments": {"$ref": f"#/$defs/{key}"}},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
            for name, key in zip(self.names, schemas, strict=True)
        ]
        schema = forms[0] if len(forms) == 1 else {"anyOf": forms}
        return GrammarSource(type="json", value={**schema, "$defs": schemas})

    def reader(self) -> "Reader":
        """What makes a message of the text."""
        return CallReader() if self.forced else AutoReader(self.names)


def read_tool_use(tools: object, choice: object) -> ToolUse | None:
    """What `tools` and `tool_choice` of a request say; None when nothing may be called. Raises InvalidInput."""
    known = read_tools(tools)
    name: object = choice
    if isinstance(choice, Mapping):
        function = choice.get("function")
        name = function.get("name") if isinstance(function, Mapping) else choice.get("name")
        if not isinstance(name, str):
            raise FieldError("tool_choice", f'expected {{"function": {{"name": ...}}}}, given {show(choice)}')
    elif choice in (None, "auto", "none"):
        return ToolUse(known, forced=False) if known and choice != "none" else None
    if not known:
        raise FieldError("tool_choice", "there are no `tools` to choose from")
    if choice == "required":
        return ToolUse(known, forced=True)
    if chosen := [tool for tool in known if tool["function"]["name"] == name]:
        return ToolUse(chosen[:1], forced=True)
    names = ", ".join(repr(tool["function"]["name"]) for tool in known)
    raise FieldError("tool_choice", f"expected 'none', 'auto', 'required' or one of {names}; given {show(name)}")


def tell_of_tools(messages: Sequence[Message], tools: Sequence[Tool], prompt: str | None) -> list[Message]:
    """The messages with the tools written into the user's last one, for templates that know of no tools."""
    functions = json.dumps([tool["function"] for tool in tools], ensure_ascii=False)
    places = [index for index, message in enumerate(messages) if message["role"] == "user"]
    if not places:
        raise UnprocessableInput("tools need a message of the user to be told in: this model's template has no place")
    told = list(messages)
    last = told[places[-1]]
    told[places[-1]] = {**last, "content": f"{last['content']}\n\n{prompt or _TOOL_PROMPT}\n{functions}"}
    return told


class Reader(Protocol):
    """Makes a message of a growing text."""

    def add(self, piece: str) -> list[Delta]:
        """What the message grows by with a piece of text."""

    def finish(self) -> list[Delta]:
        """What it grows by when nothing more comes."""

    @property
    def called(self) -> bool:
        """Whether a function is called."""


class TextReader:
    """Takes all text as it is."""

    called = False

    def add(self, piece: str) -> list[Delta]:
        """See Reader."""
        return [{"content": piece}] if piece else []

    def finish(self) -> list[Delta]:
        """See Reader."""
        return []


class CallReader:
    """Reads a call that follows the grammar, its arguments as they come."""

    def __init__(self) -> None:
        self._text = ""
        self._sent = -1  # characters of the text that have been told of; -1 before the arguments begin
        self.called = False

    def add(self, piece: str) -> list[Delta]:
        """See Reader."""
        self._text += piece
        deltas: list[Delta] = []
        if self._sent < 0:
            head = _CALL_HEAD.match(self._text)
            if head is None:
                return []
            self._sent, self.called = head.end(), True
            deltas.append(_call(0, json.loads(head[1]), ""))
        # the last brace belongs to the call itself
        end = _CALL_END.search(self._text, self._sent)
        return deltas + self._more(len(self._text) if end is None else end.start())

    def finish(self) -> list[Delta]:
        """See Reader."""
        if self._sent < 0:
            return []
        try:
            json.loads(self._text)
        except ValueError:  # it was cut
            return self._more(len(self._text))
        whole = self._text.rstrip()
        return self._more(len(whole.removesuffix("}").rstrip()))

    def _more(self, end: int) -> list[Delta]:
        if end <= self._sent:
            return []
        piece, self._sent = self._text[self._sent : end], end
        return [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}]


class AutoReader:
    """Tells text from calls of known functions, which models write as <tool_call> blocks or as nothing but JSON.

    What may become a call is held back until it is clear.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._held = ""
        self._begun = False  # whether text was told of before
        self.called = False

    def add(self, piece: str) -> list[Delta]:
        """See Reader."""
        self._held += piece
        start = self._start()
        text, self._held = self._held[:start], self._held[start:]
        self._begun = self._begun or bool(text)
        return [{"content": text}] if text else []

    def finish(self) -> list[Delta]:
        """See Reader."""
        calls = _find_calls(self._held, self._names)
        self.called = bool(calls)
        if calls:
            return [_call(index, *call) for index, call in enumerate(calls)]
        return [{"content": self._held}] if self._held else []

    def _start(self) -> int:
        """Where a call may begin in what is held."""
        if not self._begun and self._held.lstrip()[:1] in ("", "{", "["):
            return 0
        if (found := self._held.find(_OPEN)) >= 0:
            return found
        longest = min(len(_OPEN) - 1, len(self._held))
        held = next((size for size in range(longest, 0, -1) if self._held.endswith(_OPEN[:size])), 0)
        return len(self._held) - held


def _find_calls(text: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """The names and arguments of the calls that a text consists of; none when it is anything else."""
    pieces = [block[1] for block in _BLOCK.finditer(text)] if _OPEN in text else [text]
    calls = []
    for piece in pieces:
        try:
            value = json.loads(piece)
        except (ValueError, RecursionError):
            return []
        calls += value if isinstance(value, list) else [value]
    found = [_read_call(call, names) for call in calls]
    return [call for call in found if call is not None] if None not in found else []


def _read_call(value: object, names: Sequence[str]) -> tuple[str, str] | None:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or value.get("name") not in names:
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        return value["name"], arguments
    return (value["name"], json.dumps(arguments, ensure_ascii=False)) if isinstance(arguments, dict) else None


def _call(index: int, name: str, arguments: str) -> Delta:
    function = {"name": name, "arguments": arguments}
    number = f"call_{uuid.uuid4().hex[:24]}"
    return {"tool_calls": [{"index": index, "id": number, "type": "function", "function": function}]}


def _parameters(tool: Tool, place: str) -> Any:  # a JSON Schema
    """The schema of a function's arguments, its references led to where it will stand."""
    schema = tool["function"].get("parameters") or {"type": "object"}
    return _led({"type": "object", **schema}, place)


def _led(value: Any, place: str) -> Any:
    if isinstance(value, Mapping):
        return {
            key: place + item[1:] if key == "$ref" and isinstance(item, str) and item[:1] == "#" else _led(item, place)
            for key, item in value.items()
        }
    return [_led(item, place) for item in value] if isinstance(value, list | tuple) else value
