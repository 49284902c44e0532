"""Chat templates beside transformers 4.57.6: the same text for every style, conversation and setting.

The templates in `chat_templates` are written for this test, after what the models' makers say of their formats.
"""

from pathlib import Path

import pytest

from onnxpipe.errors import UnprocessableInput
from onnxpipe.text.chat import ChatTemplates, read_messages

pytest.importorskip("optimum", reason="parity needs the export extra")
pytest.importorskip("jinja2", reason="chat templates need the chat extra")
import jinja2
import tokenizers
import transformers

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}

TEMPLATES = {
    file.stem: file.read_text(encoding="utf-8") for file in sorted((Path(__file__).parent / "chat_templates").iterdir())
}

CALL = {
    "type": "function",
    "id": "call00001",
    "function": {"name": "wetter", "arguments": {"ort": "Zürich", "n": [1.5, None]}},
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "wetter",
            "description": "Says the weather.\nOr not <b>'quoted'</b>.",
            "parameters": {
                "type": "object",
                "properties": {
                    "ort": {"type": "string"},
                    "n": {"type": "array", "items": {"type": ["number", "null"]}},
                },
                "required": ["ort"],
            },
        },
    },
    {
        "type": "function",
        "function": {"name": "f", "description": "né", "parameters": {"type": "object", "properties": {}}},
    },
]
U, A, S = "user", "assistant", "system"


def turns(*pairs):
    return [{"role": role, "content": content} for role, content in pairs]


CONVERSATIONS = {
    "one": turns((U, "Hi")),
    "system": turns((S, "Be kind."), (U, "Hi")),
    "many": turns((S, " Be \n"), (U, "Hi "), (A, "Hello! "), (U, "a"), (A, "b"), (U, "  tell me\nmore  ")),
    "ends with the assistant": turns((U, "Write."), (A, "Once upon a ")),
    "empty": turns((U, ""), (A, ""), (U, " ")),
    "unicode": turns((S, "日本語"), (U, "é ü ß 👩‍👩‍👧‍👦 \u200b\u202e <&>\"' {{ x }} {% y %}"), (A, "\\n \t")),
    "two in a row": turns((U, "a"), (U, "b"), (A, "c")),
    "starts with the assistant": turns((A, "Welcome."), (U, "Hi")),
    "thoughts": turns(
        (U, "2+2?"), (A, "<think>\nhm\n</think>\n\n4"), (U, "sure?"), (A, "<think>\nyes\n</think>\n\nyes")
    ),
    "tools": [
        *turns((S, "Use tools."), (U, "Weather?")),
        {"role": A, "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": '{"sun": true}', "tool_call_id": "call00001", "name": "wetter"},
        *turns((A, "Sunny."), (U, "Thanks")),
    ],
    "two calls": [
        *turns((U, "Weather?")),
        {"role": A, "content": "Let me see.", "tool_calls": [CALL, {**CALL, "id": "call00002"}]},
        *turns(("tool", "1"), ("tool", "2")),
    ],
    "tool answer as the last": turns((U, "a"), ("tool", "b")),
    "reasoning": [*turns((U, "a")), {"role": A, "content": "b", "reasoning_content": "because"}],
}
SETTINGS = {
    "prompt": {"add_generation_prompt": True},
    "no prompt": {"add_generation_prompt": False},
    "tools": {"add_generation_prompt": True, "tools": TOOLS},
    "documents": {
        "add_generation_prompt": True,
        "documents": [{"title": "T", "text": "x é"}, {"title": "U", "text": ""}],
    },
    "variables": {"add_generation_prompt": True, "variables": {"enable_thinking": False, "date_string": "1 Jan 2024"}},
    "continued": {"add_generation_prompt": False, "continue_final_message": True},
}


@pytest.fixture(scope="module")
def reference():
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    extra = {"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL, **extra)


def expect(reference, template, messages, *, variables=None, **settings):
    """The reference's text, None where it raises."""
    try:
        return reference.apply_chat_template(
            messages, chat_template=template, tokenize=False, **settings, **(variables or {})
        )
    except (jinja2.TemplateError, TypeError, ValueError, AttributeError):
        return None


def given(templates, messages, **settings):
    try:
        return templates.render(messages, **settings)
    except UnprocessableInput:
        return None


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("style", TEMPLATES)
def test_every_conversation_has_the_references_text(reference, style, setting):
    if setting == "continued" and style in ("every_filter", "white_space"):
        pytest.skip("it does not end with the last message, so both refuse or tell of their own mark")
    templates = ChatTemplates(TEMPLATES[style], reference.special_tokens_map)
    texts = set()
    for name, conversation in CONVERSATIONS.items():
        settings = SETTINGS[setting]
        messages = read_messages(conversation)
        if settings.get("continue_final_message") and messages[-1]["content"] is None:
            continue
        text = expect(reference, TEMPLATES[style], messages, **settings)
        assert given(templates, messages, **settings) == text, name
        texts.add(text)
    assert len(texts) > 2


def test_the_template_of_a_name_is_the_references_choice(reference):
    sources = {"default": "plain {{ messages[0].content }}", "tool_use": "tools", "rag": "rag"}
    templates = ChatTemplates(sources, {})
    reference = transformers.PreTrainedTokenizerFast(
        tokenizer_object=reference.backend_tokenizer, chat_template=sources
    )
    for name, tools in [(None, None), (None, TOOLS), ("rag", TOOLS), ("default", TOOLS)]:
        expected = reference.apply_chat_template(CONVERSATIONS["one"], tools=tools, chat_template=name, tokenize=False)
        assert templates.render(CONVERSATIONS["one"], tools=tools, template=name) == expected
