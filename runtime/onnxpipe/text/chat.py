"""Messages to one text, as the model's chat template writes it (transformers 4.57.6, `apply_chat_template`)."""

import json
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from onnxpipe.errors import DeadlineExceeded, InvalidInput, UnprocessableInput
from onnxpipe.records import FieldError, show

if TYPE_CHECKING:
    from onnxpipe.text.sandbox import Limits

Message = dict[str, Any]  # what templates read: role, content, and whatever else a caller sends
Tool = dict[str, Any]  # {"type": "function", "function": {"name", "description", "parameters": a JSON Schema}}

ROLES = ("system", "user", "assistant", "tool")
_MAX_TEMPLATE = 500_000  # characters; the longest on the hub have some 20,000
# Stands at the end of a message that goes on; the space shows whether the template trims.
_OPEN_END = "OPEN-END-OF-THIS-MESSAGE "


class ChatTemplates:
    """The chat templates of one model by name, with its special tokens; compiled when first used, then kept.

    `special_tokens` are by role ("eos_token"); templates read them as variables. Safe to use from several threads.
    """

    def __init__(
        self,
        templates: str | Mapping[str, str],
        special_tokens: Mapping[str, str | Sequence[str]],
        *,
        limits: "Limits | None" = None,
    ) -> None:
        self._sources = {"default": templates} if isinstance(templates, str) else dict(templates)
        self._special_tokens = dict(special_tokens)
        self._limits = limits
        self._compiled: dict[str, Any] = {}  # jinja2.Template, whose library is imported when the first is used
        self._lock = threading.Lock()

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt for messages that `read_messages` has read, special tokens included: encode it without any more.

        `add_generation_prompt` begins the assistant's next message; `continue_final_message` instead leaves the last
        one open, for the model to go on with. `template` is a name; without one it is "tool_use" where there are tools
        and such a template, else "default". `variables` are further ones that a template knows (`enable_thinking`).

        Raises InvalidInput for an unknown template or nothing to continue; UnprocessableInput when the template refuses
        the messages, in its own words, or cannot render them, or makes too much of them; DeadlineExceeded when it takes
        too long.
        """
        given = {
            **self._special_tokens,
            **(variables or {}),
            "messages": _with_open_end(messages) if continue_final_message else list(messages),
            "tools": None if tools is None else list(tools),
            "documents": None if documents is None else list(documents),
            "add_generation_prompt": add_generation_prompt and not continue_final_message,
        }
        text = self._run(self._name(template, with_tools=tools is not None), given)
        return _cut_open_end(text, messages[-1]["content"]) if continue_final_message else text

    def _name(self, given: str | None, *, with_tools: bool) -> str:
        name = given or ("tool_use" if with_tools and "tool_use" in self._sources else "default")
        if name not in self._sources:
            names = ", ".join(map(repr, self._sources)) or "none"
            raise InvalidInput(f"the model has no chat template {name!r}; expected one of its own: {names}")
        return name

    def _run(self, name: str, variables: Mapping[str, Any]) -> str:
        try:
            import jinja2

            from onnxpipe.text import sandbox
        except ImportError:
            raise UnprocessableInput(
                "chat needs jinja2, which is not installed: pip install 'onnxpipe[chat]'"
            ) from None
        try:
            return sandbox.render(self._compile(name), variables, self._limits or sandbox.Limits())
        except sandbox.TimeExceeded as error:
            raise DeadlineExceeded(f"the model's chat template was stopped: {error}") from None
        except sandbox.LimitExceeded as error:
            raise UnprocessableInput(f"the model's chat template was stopped: {error}; send less text") from None
        except jinja2.TemplateSyntaxError as error:
            raise UnprocessableInput(f"the model's chat template {name!r} is not valid: {error}") from None
        except UnprocessableInput:
            raise
        except Exception as error:  # a template may raise anything that Python does
            if type(error) is jinja2.TemplateError:
                raise UnprocessableInput(f"the model's chat template refuses the messages: {error}") from None
            raise UnprocessableInput(f"the model's chat template cannot render the messages: {error}") from error

    def _compile(self, name: str) -> Any:
        from onnxpipe.text import sandbox

        with self._lock:
            if name not in self._compiled:
                source = self._sources[name]
                if len(source) > _MAX_TEMPLATE:
                    raise UnprocessableInput(
                        f"the model's chat template has {len(source)} characters; expected at most {_MAX_TEMPLATE}"
                    )
                self._compiled[name] = sandbox.compile_template(source)
            return self._compiled[name]


def read_messages(value: object) -> list[Message]:
    """The messages of a request in the form that templates expect.

    Content becomes a string, text parts are joined; only a message of tool calls may have None. Arguments of tool calls
    become objects. Other keys pass, those with null do not. Raises FieldError (an InvalidInput) for anything else, and
    for pictures and sounds.
    """
    if not isinstance(value, list | tuple) or not value:
        raise FieldError("messages", f"expected a list of at least one message, given {show(value)}")
    return [_in(f"messages[{index}]", _message, item) for index, item in enumerate(value)]


def read_tools(value: object) -> list[Tool] | None:
    """The tools of a request, None when there are none. Raises FieldError (an InvalidInput) for what is none."""
    if value is None or value == []:
        return None
    if not isinstance(value, list | tuple):
        raise FieldError("tools", f"expected a list of tools, given {show(value)}")
    return [_in(f"tools[{index}]", _tool, item) for index, item in enumerate(value)]


def _in(path: str, read: Any, item: object) -> Any:
    try:
        return read(item)
    except FieldError as error:
        raise error.inside(path) from None


def _message(value: object) -> Message:
    if not isinstance(value, Mapping):
        raise FieldError("", f"expected an object with `role` and `content`, given {show(value)}")
    message = {str(key): item for key, item in value.items() if item is not None}
    if message.get("role") not in ROLES:
        raise FieldError("role", f"expected one of {', '.join(ROLES)}, given {show(value.get('role'))}")
    if calls := message.pop("tool_calls", None):
        if not isinstance(calls, list | tuple):
            raise FieldError("tool_calls", f"expected a list, given {show(calls)}")
        message["tool_calls"] = [_in(f"tool_calls[{index}]", _tool_call, call) for index, call in enumerate(calls)]
    content = message.get("content")
    message["content"] = None if content is None and calls else _content(content)
    return message


def _content(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, list | tuple):
        raise FieldError("content", f"expected a string, null or a list of parts, given {show(value)}")
    return "".join(_in(f"content[{index}]", _part, part) for index, part in enumerate(value))


def _part(value: object) -> str:
    if isinstance(value, str):
        return value
    kind = value.get("type") if isinstance(value, Mapping) else None
    if isinstance(value, Mapping) and kind == "text" and isinstance(text := value.get("text"), str):
        return text
    if isinstance(kind, str) and kind != "text":
        raise FieldError("type", f"this model reads text only: expected 'text', given {show(kind)}")
    raise FieldError("", f'expected {{"type": "text", "text": a string}}, given {show(value)}')


def _tool_call(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise FieldError("", f"expected an object with `function`, given {show(value)}")
    function = value.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise FieldError("function", f"expected an object with `name` and `arguments`, given {show(function)}")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            arguments = None
    elif arguments is None:
        arguments = {}
    if not isinstance(arguments, Mapping):
        given = show(function.get("arguments"))
        raise FieldError("function.arguments", f"expected an object, or one as a JSON string, given {given}")
    return {**value, "type": "function", "function": {**function, "arguments": dict(arguments)}}


def _tool(value: object) -> Tool:
    function = value.get("function") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or not isinstance(function, Mapping):
        raise FieldError("", f'expected {{"type": "function", "function": {{"name", ...}}}}, given {show(value)}')
    if not isinstance(function.get("name"), str) or not function["name"]:
        raise FieldError("function.name", f"expected the function's name, given {show(function.get('name'))}")
    if not isinstance(function.get("parameters", {}), Mapping | None):
        raise FieldError("function.parameters", f"expected a JSON Schema, given {show(function['parameters'])}")
    return {**value, "type": "function", "function": {key: item for key, item in function.items() if item is not None}}


def _with_open_end(messages: Sequence[Message]) -> list[Message]:
    if not messages or not isinstance(messages[-1].get("content"), str):
        raise InvalidInput("there is nothing to continue: expected a last message with text")
    return [*messages[:-1], {**messages[-1], "content": messages[-1]["content"] + _OPEN_END}]


def _cut_open_end(text: str, content: str) -> str:
    """The text up to where the last message ends, with its last spaces only where the template keeps such."""
    end = text.rfind(_OPEN_END.strip())
    if end < 0 or content.strip() not in text:
        raise UnprocessableInput("the last message cannot be continued: the chat template leaves it out or changes it")
    return text[:end] if text.startswith(_OPEN_END, end) else text[:end].rstrip()
