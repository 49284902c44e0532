import sys
import threading
import time

import pytest

from onnxpipe.errors import DeadlineExceeded, InvalidInput, UnprocessableInput
from onnxpipe.text.chat import ChatTemplates, read_messages, read_tools

jinja2 = pytest.importorskip("jinja2", reason="chat templates need the chat extra")
sandbox = pytest.importorskip("onnxpipe.text.sandbox")

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HI = [{"role": "user", "content": "Hi"}]
LIMITS = sandbox.Limits(characters=20_000, seconds=0.5)


def render(templates, messages=HI, **settings):
    return ChatTemplates(templates, {"bos_token": "<s>", "eos_token": "</s>"}, limits=LIMITS).render(
        messages, **settings
    )


def test_messages_are_written_as_the_template_says():
    assert render(CHATML) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert render(CHATML, add_generation_prompt=False) == "<|im_start|>user\nHi<|im_end|>\n"


def test_a_template_knows_special_tokens_tools_documents_and_further_variables():
    template = (
        "{{ bos_token }}{{ tools | tojson }}{{ documents[0].text }}{{ enable_thinking }}{{ missing }}{{ eos_token }}"
    )
    tools = [{"type": "function", "function": {"name": "é"}}]
    expected = '<s>[{"type": "function", "function": {"name": "é"}}]dFalse</s>'
    variables = {"enable_thinking": False}
    assert render(template, tools=tools, documents=[{"text": "d"}], variables=variables) == expected
    assert render("{{ tools }} {{ documents }}") == "None None"


def test_the_template_is_chosen_by_name_or_by_the_tools():
    templates = {"default": "plain", "tool_use": "tools", "rag": "rag"}
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert render(templates) == "plain"
    assert render(templates, tools=tools) == "tools"
    assert render(templates, tools=tools, template="rag") == "rag"
    assert render("only", tools=tools) == "only"
    with pytest.raises(InvalidInput, match="no chat template 'rag'; expected one of its own: 'default'"):
        render("only", template="rag")
    with pytest.raises(InvalidInput, match="'default'"):
        render({"rag": "x"})


def test_the_last_message_can_be_continued():
    messages = [*HI, {"role": "assistant", "content": "Once upon a "}]
    assert render(CHATML, messages, continue_final_message=True).endswith("assistant\nOnce upon a ")
    trimmed = CHATML.replace("m.content", "m.content | trim")
    assert render(trimmed, messages, continue_final_message=True).endswith("assistant\nOnce upon a")
    with pytest.raises(UnprocessableInput, match="cannot be continued"):
        render("{{ messages[0].content }}", messages, continue_final_message=True)
    with pytest.raises(InvalidInput, match="nothing to continue"):
        render(CHATML, [{"role": "assistant", "content": None}], continue_final_message=True)


def test_a_template_may_refuse_messages_in_its_own_words():
    with pytest.raises(UnprocessableInput, match="refuses the messages: roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% if %}", "is not valid"),
        ("{{ messages.x.y }}", "cannot render"),
        ("{{ 'a' + 1 }}", "cannot render"),
        ("{{ messages[0].__class__.__mro__ }}", "cannot render"),
        ("{{ ''.__class__ }}{{ x() }}", "cannot render"),
        ("{{ messages.append(1) }}", "cannot render"),
        ("{% include 'other' %}", "cannot render"),
        ("{% import 'os' as os %}", "cannot render"),
        ("{{ cycler.__init__.__globals__ }}", "cannot render"),
        ("{{ lipsum() }}", "cannot render"),
        ("x" * 500_001, "500001 characters"),
        ("{{ " + "(" * 3000 + ")" * 3000 + " }}", "cannot render"),
    ],
)
def test_a_broken_or_forbidden_template_is_the_models_fault_and_no_crash(template, message):
    with pytest.raises(UnprocessableInput, match=message):
        render(template)


DOUBLE = "{%% set ns = namespace(x=%s) %%}{%% for i in range(60) %%}{%% set ns.x = %s %%}{%% endfor %%}{{ ns.x }}"


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(10**9) %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}text between tags{% endfor %}",
        "{% for i in [1] recursive %}{{ loop([1, 1, 1]) }}{% endfor %}",
        "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(50) }}",
        "{% set x = 'ab' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 60,
        "{{ 'a' * 10**10 }}",
        "{{ 10**10 * 'a' }}",
        "{{ ([0] * 10**9) | length }}",
        "{{ 9**999999 }}",
        "{{ (10**1000 * 10**1000) | length }}",
        DOUBLE % ("'ab'", "ns.x ~ ns.x"),
        DOUBLE % ("'ab'", "ns.x + ns.x"),
        DOUBLE % ("'ab'", "'%s%s' % (ns.x, ns.x)"),
        DOUBLE % ("'ab'", "'%s%s' | format(ns.x, ns.x)"),
        DOUBLE % ("'ab'", "'{0}{0}'.format(ns.x)"),
        DOUBLE % ("'ab'", "[ns.x, ns.x] | join"),
        DOUBLE % ("'ab'", "ns.x.replace('a', 'aa')"),
        DOUBLE % ("'ab'", "ns.x | replace('a', 'aa')"),
        DOUBLE % ("[1]", "[ns.x, ns.x]"),
        DOUBLE % ("[1]", "(ns.x, ns.x)"),
        DOUBLE % ("[1]", "{'a': ns.x, 'b': ns.x}"),
        DOUBLE % ("[1]", "dict(a=ns.x, b=ns.x)"),
        DOUBLE % ("[1]", "ns.x + ns.x"),
        "{% set a = namespace() %}{% set b = namespace(a=a) %}{% set a.b = b %}{{ a }}",
        "{% set a = namespace() %}{% set a.a = a %}{{ a }}",
        "{{ 'a' | center(10**9) }}",
        "{{ 'a'.center(10**9) }}",
        "{{ 'a'.zfill(width=10**9) }}",
        "{{ '\\t\\t\\t'.expandtabs(10**9) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (10**9, 1) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, 10**9) }}",
        "{{ ('%(a)s' * 3000) % {'a': 'b' * 3000} }}",
        "{{ 'a' | indent(10**9, true) }}",
        "{{ [1] | slice(10**9) | list }}",
        "{{ [1] | batch(10**9, 0) | list }}",
        "{{ [[[1]]] | tojson(indent=10**6) }}",
        "{{ range(9999) | map('string') | join('a' * 9999) }}",
        "{{ ('a' * 9999).join(range(9999) | map('string')) }}",
        "{{ 'abcdefgh'.translate({97: 'x' * 9999, 98: 'y'}) }}",
        "{{ (1).to_bytes(10**9, 'big') }}",
        "{{ ('<!-- -->' * 2000) | striptags }}",
        "{{ ('a' * 15000) | wordwrap(1) }}",
        "{{ range(999) | map('list') | sum(start=[]) }}",
        "{{ 1.5 | round(10**7, 'ceil') }}",
        "{% for i in range(99999) %}{{ loop.length }}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% filter center(10**9) %}a{% endfilter %}",
        "{{ ['a'] | map('center', 10**9) | list }}",
    ],
)
def test_a_malicious_template_is_stopped_in_time(template):
    start = time.monotonic()
    with pytest.raises((UnprocessableInput, DeadlineExceeded)):
        render(template)
    assert time.monotonic() - start < 10  # half a second, on a busy machine


def test_a_slow_template_misses_its_deadline():
    slow = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(DeadlineExceeded, match=r"longer than 0.5 seconds"):
        render(slow)


def test_large_but_honest_conversations_are_rendered():
    messages = [{"role": role, "content": f"{index} " * 100} for index in range(200) for role in ("user", "assistant")]
    text = ChatTemplates(CHATML, {}).render(messages)
    assert text.count("<|im_start|>") == 401
    messages = [{"role": "user", "content": "x" * 900_000}]
    assert len(ChatTemplates(CHATML, {}).render(messages)) > 900_000
    with pytest.raises(UnprocessableInput, match="more than 1000000 characters; send less text"):
        ChatTemplates(CHATML, {}).render([{"role": "user", "content": "x" * 1_000_001}])


def test_lists_can_be_gathered_in_a_loop():
    template = (
        "{% set ns = namespace(kept=[], text='') %}{% for m in messages %}{% set ns.kept = ns.kept + [m.content] %}"
        "{% set ns.text = ns.text ~ m.content ~ '|' %}{% endfor %}{{ ns.kept | length }} {{ ns.text | length }}"
    )
    messages = [{"role": "user", "content": "ab"} for _ in range(500)]
    assert render(template, messages) == "500 1500"


def test_loop_variables_are_those_of_jinja():
    template = (
        "{% for x in [1, 2, 3] %}{{ loop.index }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}"
        "{{ loop.previtem }}{{ loop.nextitem }};{% else %}none{% endfor %}"
        "{% for x in [] %}{% else %}none{% endfor %}"
        "{% for x in 'ab' if x != 'a' %}{{ x }}{{ loop.length }}{% endfor %}"
        "{% for x in [1, 2, 3] %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% break %}{% endfor %}"
        "{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}"
        "{% for x in [[1, [2]], 3] recursive %}"
        "{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}{% endif %}{% endfor %}"
    )
    environment = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"])
    assert render(template) == environment.from_string(template).render()


def test_templates_render_in_many_threads_at_once():
    templates, texts = ChatTemplates(CHATML, {}), {}

    def work(number):
        texts[number] = templates.render([{"role": "user", "content": str(number)}])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(f"\n{number}<|im_end|>" in texts[number] for number in range(16))


def test_without_jinja2_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UnprocessableInput, match=r"pip install 'onnxpipe\[chat\]'"):
        render(CHATML)


def test_content_may_be_null_or_parts_of_text():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "é"}, "c"]
    assert read_messages([{"role": "user", "content": parts}]) == [{"role": "user", "content": "aéc"}]
    assert read_messages([{"role": "user", "content": None, "name": None}]) == [{"role": "user", "content": ""}]
    assert read_messages([{"role": "assistant"}]) == [{"role": "assistant", "content": ""}]


def test_arguments_of_tool_calls_become_objects():
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": [1]}'}}
    (message,) = read_messages([{"role": "assistant", "content": None, "tool_calls": [call]}])
    assert message["content"] is None
    assert message["tool_calls"] == [{**call, "function": {"name": "f", "arguments": {"x": [1]}}}]
    for arguments in ({"x": [1]}, '{"x": [1]}'):
        call = {"function": {"name": "f", "arguments": arguments}}
        (message,) = read_messages([{"role": "assistant", "tool_calls": [call]}])
        assert message["tool_calls"][0] == {"type": "function", "function": {"name": "f", "arguments": {"x": [1]}}}
    assert "tool_calls" not in read_messages([{"role": "assistant", "content": "a", "tool_calls": []}])[0]
    for none in ("", None):
        call = {"function": {"name": "f", "arguments": none}}
        assert (
            read_messages([{"role": "assistant", "tool_calls": [call]}])[0]["tool_calls"][0]["function"]["arguments"]
            == {}
        )


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (None, "`messages`: expected a list of at least one message"),
        ([], "at least one message"),
        ("hi", "at least one message"),
        ([1], r"`messages\[0\]`: expected an object with `role` and `content`"),
        (
            [*HI, {"role": "robot", "content": "x"}],
            r"`messages\[1\].role`: expected one of system, user, assistant, tool",
        ),
        ([{"content": "x"}], "role`: expected one of"),
        ([{"role": "user", "content": 3}], r"`messages\[0\].content`: expected a string, null or a list of parts"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
            r"`messages\[0\].content\[0\].type`: this model reads text only: expected 'text', given 'image_url'",
        ),
        ([{"role": "user", "content": [{"type": "text"}]}], "a string"),
        ([{"role": "assistant", "tool_calls": {"a": 1}}], r"tool_calls`: expected a list"),
        ([{"role": "assistant", "tool_calls": [{"name": "f"}]}], r"tool_calls\[0\].function`: expected an object"),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "["}}]}],
            r"function.arguments`: expected an object, or one as a JSON string",
        ),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "3"}}]}],
            "expected an object, or",
        ),
    ],
)
def test_messages_of_another_form_are_refused(messages, message):
    with pytest.raises(InvalidInput, match=message):
        read_messages(messages)


def test_tools_are_read_as_they_are():
    tool = {"type": "function", "function": {"name": "f", "description": None, "parameters": {"type": "object"}}}
    expected = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    assert read_tools([tool]) == [expected]
    assert read_tools(None) is None
    assert read_tools([]) is None


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ({}, "`tools`: expected a list of tools"),
        ([{"name": "f"}], r"`tools\[0\]`: expected"),
        ([{"type": "function", "function": {}}], r"`tools\[0\].function.name`"),
        ([{"type": "function", "function": {"name": "f", "parameters": []}}], r"`tools\[0\].function.parameters`"),
    ],
)
def test_tools_of_another_form_are_refused(tools, message):
    with pytest.raises(InvalidInput, match=message):
        read_tools(tools)
