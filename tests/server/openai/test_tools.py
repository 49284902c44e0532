import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpipe.errors import InvalidInput
from onnxpipe_server.openai.tools import AutoReader, CallReader, TextReader, read_tool_use, tell_of_tools

SCHEMA = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}
FIND = {"type": "function", "function": {"name": "find", "description": "Finds.", "parameters": SCHEMA}}
STOP = {"type": "function", "function": {"name": "stop"}}
CALL = '{"name": "find", "arguments": {"x": "a}\\"b"}}'
ARGUMENTS = '{"x": "a}\\"b"}'


def read(reader, text, cuts=()):
    """The content, and the name and arguments of each call, that a reader makes of a text in pieces."""
    deltas = []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        deltas += reader.add(text[start:end])
    deltas += reader.finish()
    content, calls = "", {}
    for delta in deltas:
        content += delta.get("content", "")
        for part in delta.get("tool_calls", ()):
            name, arguments = calls.get(part["index"], ("", ""))
            function = part["function"]
            calls[part["index"]] = (name + function.get("name", ""), arguments + function["arguments"])
    return content, list(calls.values())


@st.composite
def cut(draw, texts):
    text = draw(texts)
    return text, sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))


@pytest.mark.parametrize(
    ("tools", "choice", "names", "forced"),
    [
        ([FIND, STOP], None, ["find", "stop"], False),
        ([FIND, STOP], "auto", ["find", "stop"], False),
        ([FIND, STOP], "required", ["find", "stop"], True),
        ([FIND, STOP], "stop", ["stop"], True),
        ([FIND, STOP], {"type": "function", "function": {"name": "find"}}, ["find"], True),
        ([FIND, STOP], {"function": {"name": "find"}}, ["find"], True),
        ([FIND, STOP], {"type": "function", "name": "stop"}, ["stop"], True),
    ],
)
def test_every_form_of_choice_is_understood(tools, choice, names, forced):
    use = read_tool_use(tools, choice)

    assert (use.names, use.forced) == (names, forced)


@pytest.mark.parametrize(("tools", "choice"), [([FIND], "none"), ([], None), (None, "auto"), ([], "none")])
def test_there_may_be_nothing_to_call(tools, choice):
    assert read_tool_use(tools, choice) is None


@pytest.mark.parametrize(
    ("tools", "choice", "words"),
    [
        ([FIND], "search", "'find'; given 'search'"),
        ([FIND], {"function": {"name": "search"}}, "given 'search'"),
        ([FIND], {"type": "function"}, "`tool_choice`"),
        ([], "required", "there are no `tools`"),
        ([{"function": {}}], None, "`tools[0].function.name`"),
    ],
)
def test_a_wrong_choice_is_refused(tools, choice, words):
    with pytest.raises(InvalidInput) as raised:
        read_tool_use(tools, choice)

    assert words in str(raised.value)


def test_the_grammar_of_one_function_names_it():
    schema = read_tool_use([FIND, STOP], "find").grammar().schema()

    assert schema["properties"]["name"] == {"const": "find"}
    assert schema["$defs"]["f0"] == SCHEMA
    assert read_tool_use([FIND], "auto").grammar() is None


def test_references_of_a_function_lead_to_where_its_schema_stands():
    parameters = {
        "type": "object",
        "properties": {"it": {"$ref": "#/$defs/It"}, "$ref": {"type": "string"}},
        "$defs": {"It": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
    }
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    schema = read_tool_use([STOP, tool], "required").grammar().schema()

    assert schema["$defs"]["f1"]["properties"] == {"it": {"$ref": "#/$defs/f1/$defs/It"}, "$ref": {"type": "string"}}
    assert schema["$defs"]["f1"]["$defs"]["It"]["anyOf"][0] == {"$ref": "#/$defs/f1"}
    assert len(schema["anyOf"]) == 2


@given(cut(st.text()))
def test_text_stays_text(case):
    assert read(TextReader(), *case) == (case[0], [])


@given(cut(st.sampled_from([CALL, CALL.replace(" ", ""), f"\n{CALL} \n", CALL.replace(": ", " :\n  ")])))
def test_a_forced_call_is_read_whatever_pieces_it_comes_in(case):
    reader = CallReader()
    content, calls = read(reader, *case)

    assert content == ""
    assert [(name, json.loads(arguments)) for name, arguments in calls] == [("find", {"x": 'a}"b'})]
    assert reader.called


@given(cut(st.sampled_from([CALL[:end] for end in range(len(CALL))])))
def test_a_forced_call_that_is_cut_has_the_arguments_so_far(case):
    _, calls = read(CallReader(), *case)

    begin = CALL.index('{"x"')
    assert calls == ([("find", CALL[begin : len(case[0])])] if len(case[0]) > begin else [])


def test_arguments_come_as_they_are_written():
    reader = CallReader()
    assert reader.add('{"name": "find"') == []
    first = reader.add(', "arguments": {"x": ')
    assert first[0]["tool_calls"][0]["function"] == {"name": "find", "arguments": ""}
    assert first[1]["tool_calls"][0]["function"] == {"arguments": '{"x":'}  # what may be behind the end is held


BLOCK = f"<tool_call>\n{CALL}\n</tool_call>"
CALLS = [
    (CALL, "", 1),
    (f" {CALL}\n", "", 1),
    (f"[{CALL}, {CALL}]", "", 2),
    (CALL.replace("arguments", "parameters"), "", 1),
    (f'{{"type": "function", "function": {CALL}}}', "", 1),
    (BLOCK, "", 1),
    (f"{BLOCK}\n{BLOCK}", "", 2),
    (f"I look it up.\n{BLOCK}", "I look it up.\n", 1),
]
TEXTS = [
    "Hello.",
    "",
    "a < b and <tool> is no call",
    "<tool_cal",
    "x <tool_call> y",
    "{",
    '{"a": 1}',
    "[1, 2]",
    '{"name": "search", "arguments": {}}',
    '{"name": "find", "arguments": 7}',
    f"It is {CALL}.",
    f"{BLOCK} and <tool_call>{{",
]


@given(cut(st.sampled_from([text for text, _, _ in CALLS])))
def test_calls_are_found_in_what_a_model_writes(case):
    expected = next((content, count) for text, content, count in CALLS if text == case[0])
    reader = AutoReader(["find", "stop"])
    content, calls = read(reader, *case)

    assert (content, len(calls)) == expected
    assert all(name == "find" and json.loads(arguments) == {"x": 'a}"b'} for name, arguments in calls)
    assert reader.called


@given(cut(st.sampled_from(TEXTS) | st.text(alphabet='<>tool_call{}[]"a ')))
def test_anything_else_is_told_as_it_is(case):
    reader = AutoReader(["find"])
    content, calls = read(reader, *case)

    assert (content, calls, reader.called) == (case[0], [], False)


def test_plain_text_is_not_held_back():
    reader = AutoReader(["find"])

    assert [reader.add(piece) for piece in ("He", "llo <", "b>")] == [
        [{"content": "He"}],
        [{"content": "llo "}],
        [{"content": "<b>"}],
    ]


def test_tools_are_told_in_the_last_words_of_the_user():
    messages = [{"role": role, "content": role} for role in ("system", "user", "assistant", "user", "tool")]
    told = tell_of_tools(messages, [FIND], "Call one:")

    assert [message["content"] for message in told if message["role"] != "user"] == ["system", "assistant", "tool"]
    assert told[1] == messages[1]
    assert told[3]["content"].startswith("user\n\nCall one:\n[{")
    with pytest.raises(InvalidInput, match="message of the user"):
        tell_of_tools(messages[:1], [FIND], None)
