import functools
import json
import threading
import time

import numpy as np
import pytest
from grammar_walks import EOS, PERSON

from onnxpipe.errors import InvalidInput, Overloaded, UnprocessableInput
from onnxpipe.generation import grammar
from onnxpipe.generation.grammar import GrammarCompiler, GrammarSource
from onnxpipe.records import read

llguidance = pytest.importorskip("llguidance", reason="grammars need the chat extra")


@pytest.mark.parametrize(
    ("source", "schema"),
    [
        ({"type": "json"}, {"type": "object"}),
        ({"type": "json", "value": PERSON}, PERSON),
        ({"type": "json", "value": json.dumps(PERSON)}, PERSON),
        ({"type": "json_schema", "value": {"name": "person", "schema": PERSON}}, PERSON),
    ],
)
def test_a_schema_comes_as_an_object_a_string_or_under_a_name(source, schema):
    assert read(GrammarSource, source).schema() == schema


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"type": "json", "value": "{"}, "a string that is not JSON"),
        ({"type": "json", "value": "[" * 100_000}, "a string that is not JSON"),
        ({"type": "json", "value": [1]}, "a JSON Schema, which is an object"),
        ({"type": "json_schema", "value": {"name": "x"}}, 'an object with "schema"'),
        ({"type": "json_schema"}, 'an object with "schema"'),
        ({"type": "regex", "value": 3}, "a regular expression as a string"),
        ({"type": "lark", "value": "start: /a/"}, "one of 'json', 'json_schema', 'regex'"),
    ],
)
def test_what_is_no_grammar_is_refused(source, message):
    with pytest.raises(InvalidInput, match=message):
        read(GrammarSource, source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"type": "regex", "value": "(a"}, "cannot be used: unclosed group$"),
        ({"type": "regex", "value": "(?=a)b"}, "look-around"),
        ({"type": "json", "value": {"type": "array", "uniqueItems": True}}, 'Unimplemented keys: \\["uniqueItems"\\]$'),
        ({"type": "json", "value": {"type": "integer", "minimum": 3, "maximum": 1}}, "Unsatisfiable schema"),
        ({"type": "json", "value": {"not": {}, "x-guidance": {"lenient": True}}}, "Unimplemented"),
        ({"type": "json", "value": {"$ref": "https://example.com/schema"}}, "not present in a registry"),
        ({"type": "json", "value": {"type": "object", "description": "x" * 300_000}}, "too large"),
        ({"type": "json", "value": {"minimum": float("nan")}}, "not JSON"),
        ({"type": "json", "value": functools.reduce(lambda item, _: {"items": item}, range(400), {})}, "recursion"),
    ],
)
def test_a_grammar_that_cannot_be_honoured_is_refused_with_the_reason(compiler, source, message):
    with pytest.raises(UnprocessableInput, match=message) as caught:
        compiler().compile(read(GrammarSource, source))
    assert "\n" not in str(caught.value)


def test_the_same_grammar_is_compiled_once(compiler, monkeypatch):
    fresh = compiler(cache_size=2)
    made = []
    original = fresh._make
    monkeypatch.setattr(fresh, "_make", lambda *arguments: (made.append(arguments[0]), original(*arguments)))
    one, two, three = (GrammarSource(type="regex", value=value) for value in ("a", "b", "c"))
    for source in (one, one, two, one, three, one, two):  # two makes room for three
        fresh.compile(source)
    assert len(made) == 4
    assert fresh._threads.acquire(blocking=False)
    assert fresh._threads.acquire(blocking=False)
    assert not fresh._threads.acquire(blocking=False)


def test_rows_follow_their_parents(compiler, load_kind):
    tokenizer = load_kind("byte-level")
    a, b, c = (tokenizer.id(letter) for letter in "abc")
    rows = compiler().start(GrammarSource(type="regex", value="a+b|c")).rows()
    assert rows.wait(10)
    scores = np.zeros((1, tokenizer.size + 37), np.float32)
    tokens = np.zeros((1, 1), np.int64)
    assert set(np.flatnonzero(np.isfinite(rows(tokens, scores)[0]))) >= {a, c}
    rows.follow(np.array([0, 0, 0]), np.array([a, c, a]))  # one row becomes three
    masked = rows(tokens.repeat(3, 0), scores.repeat(3, 0))
    assert [np.isfinite(row[b]) for row in masked] == [True, False, True]
    rows.follow(np.array([2, 0]), np.array([a, b]))  # the second leaves, the others change places
    masked = rows(tokens.repeat(2, 0), scores.repeat(2, 0))
    assert [np.isfinite(row[b]) for row in masked] == [True, False]


class SlowLibrary:
    def __init__(self):
        self.go = threading.Event()
        self.LLParserLimits = llguidance.LLParserLimits
        self.LLTokenizer = llguidance.LLTokenizer
        self.regex_to_lark = llguidance.regex_to_lark

    def LLMatcher(self, *arguments, **settings):  # noqa: N802 - its name there
        self.go.wait(20)
        return llguidance.LLMatcher(*arguments, **settings)


def test_a_slow_grammar_is_given_up_in_time_and_cannot_pile_up(load_kind, monkeypatch):
    slow = SlowLibrary()
    monkeypatch.setattr(grammar, "_library", lambda: slow)
    tokenizer = load_kind("byte-level")
    compiler = GrammarCompiler(
        tokenizer, vocabulary_size=tokenizer.size, eos_token_ids=[tokenizer.id(EOS)], seconds=0.05, max_threads=2
    )
    compiler.warm()
    sources = [GrammarSource(type="regex", value=value) for value in ("a", "b", "c")]
    for source in (*sources[:2], sources[0]):  # asking again does not start again
        with pytest.raises(UnprocessableInput, match=r"not compiled within 0.05 seconds"):
            compiler.compile(source)
    with pytest.raises(Overloaded):
        compiler.compile(sources[2])
    waiting = compiler.start(sources[0]).rows()
    assert not waiting.wait(0)
    slow.go.set()
    deadline = time.monotonic() + 20
    while not all(future.done() for future in list(compiler._cache.values())) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert waiting.wait(0)
    assert compiler.compile(sources[0]).begin().allowed()[tokenizer.id("a")]


def test_a_model_without_an_end_token_cannot_follow_grammars(load_kind):
    with pytest.raises(UnprocessableInput, match="no token that ends a text"):
        GrammarCompiler(load_kind("byte-level"), vocabulary_size=10, eos_token_ids=[])


def test_without_llguidance_the_error_names_the_extra(load_kind, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "llguidance", None)
    with pytest.raises(UnprocessableInput, match=r"pip install 'onnxpipe\[chat\]'"):
        GrammarCompiler(load_kind("byte-level"), vocabulary_size=10, eos_token_ids=[1])
