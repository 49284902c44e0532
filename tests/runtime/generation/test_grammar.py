import functools
import json
import re
import threading
import time

import numpy as np
import pytest

from onnxpipe.errors import InvalidInput, Overloaded, UnprocessableInput
from onnxpipe.generation import grammar
from onnxpipe.generation.detokenize import continuation, token_text
from onnxpipe.generation.grammar import GrammarCompiler, GrammarSource
from onnxpipe.records import read

llguidance = pytest.importorskip("llguidance", reason="grammars need the chat extra")
jsonschema = pytest.importorskip("jsonschema", reason="it judges what was written")

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 150}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "number"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
            },
            "required": ["value"],
            "additionalProperties": False,
        }
    },
}
SCHEMAS = {
    "any object": {"type": "object"},
    "person": PERSON,
    "nested": {
        "type": "object",
        "properties": {"a": {"type": "array", "items": PERSON, "maxItems": 3}},
        "required": ["a"],
    },
    "recursive": TREE,
    "enumeration": {"enum": ["red", "grün", "蓝", 4, None, {"a": [1]}]},
    "constant": {"const": {"a": [1, 2.5, None, "é\n\"'"]}},
    "pattern": {"type": "string", "pattern": "^[a-zß]{2,5}-[0-9]+$"},
    "open pattern": {"type": "string", "pattern": "[0-9]{2}"},
    "lengths": {"type": "string", "minLength": 2, "maxLength": 4},
    "date": {"type": "string", "format": "date"},
    "several kinds": {"type": ["string", "null", "boolean"]},
    "either": {"anyOf": [{"type": "integer", "minimum": 10, "maximum": 20}, PERSON]},
    "all of": {"allOf": [PERSON, {"properties": {"age": {"minimum": 18}}}]},
    "one of": {"oneOf": [{"type": "string", "maxLength": 3}, {"type": "integer"}]},
    "tuple": {
        "type": "array",
        "prefixItems": [{"type": "boolean"}, {"type": "integer"}],
        "items": False,
        "minItems": 2,
    },
    "patterned keys": {
        "type": "object",
        "patternProperties": {"^x_[a-z]$": {"type": "integer"}},
        "additionalProperties": False,
    },
    "range": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "multiples": {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 100},
    "few": {"type": "object", "minProperties": 1, "maxProperties": 2, "additionalProperties": {"type": "null"}},
    "keys that need quoting": {
        "type": "object",
        "properties": {'a"b\\': {"type": "null"}, "ключ": {"const": "значение"}},
        "required": ['a"b\\', "ключ"],
        "additionalProperties": False,
    },
}
REGEXES = [
    r"\d{3}-\d{4}",
    r"^abc$",
    r"(yes|no|maybe)",
    r"[a-z]+/[^/ ]{1,5}",
    r"(?i)true|false",
    r"[\u03b1-\u03c9]{2,6} [^\x00-\x7f]+",
    r"\"[^\"\n]*\"",
    r"(a|b)*a(a|b){3}",
    r"👍{1,3}",
    r"x\ny\t?",
    r"",
]
KINDS = ["byte-level", "llama", "metaspace"]
EOS = "</s>"


@pytest.fixture(scope="module")
def compiler(load_kind):
    """Compilers by kind of tokenizer; scores have more ids than there are tokens, as padded vocabularies do."""
    made = {}

    def make(kind="byte-level", **settings):
        key = (kind, *settings.items())
        if key not in made:
            tokenizer = load_kind(kind)
            eos = [tokenizer.id(EOS), tokenizer.id("<|im_end|>")]
            made[key] = GrammarCompiler(tokenizer, vocabulary_size=tokenizer.size + 37, eos_token_ids=eos, **settings)
        return made[key]

    return make


def walk(compiled, tokenizer, scores, *, steps):
    """The text of the tokens with the highest allowed score, and whether it came to its end."""
    matcher, eos, ids = compiled.begin(), {tokenizer.id(EOS), tokenizer.id("<|im_end|>")}, []
    for step in range(steps):
        masked = matcher.mask(scores(step))
        assert masked.dtype == np.float32
        token = int(masked.argmax())
        assert masked[token] > -np.inf
        assert not np.isfinite(masked[tokenizer.size :]).any()
        if token in eos:
            assert matcher.is_complete
            matcher.accept(token)
            assert matcher.is_finished
            return continuation(tokenizer, ids, prompt=[tokenizer.id("a")]), True
        matcher.accept(token)
        ids.append(token)
    return continuation(tokenizer, ids, prompt=[tokenizer.id("a")]), False


def uniform(seed, tokenizer, *, closing):
    """Random scores; `closing` favours what brings a text to its end, as no random model does by itself."""
    draw = np.random.default_rng(seed)
    bias = np.zeros(tokenizer.size + 37, np.float32)
    liked = [number for number in range(tokenizer.size) if token_text(tokenizer, number) in {'"', "}", "]", "1"}]
    bias[[*liked, tokenizer.id(EOS)]] = closing
    return lambda _: draw.gumbel(size=len(bias)).astype(np.float32) + bias


def adversary(tokenizer, liked):
    """Scores of a model that wants some characters, and never the end."""
    scores = np.random.default_rng(0).normal(size=tokenizer.size + 37).astype(np.float32)
    for number in range(tokenizer.size):
        scores[number] += 100 * any(character in tokenizer.token(number) for character in liked)
    scores[tokenizer.id(EOS)] = -1e9
    return lambda _: scores


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SCHEMAS)
def test_finished_json_always_validates(compiler, load_kind, kind, name):
    if kind == "metaspace" and not json.dumps(SCHEMAS[name], ensure_ascii=False).isascii():
        pytest.skip("its vocabulary cannot spell this")
    tokenizer = load_kind(kind)
    compiled = compiler(kind).compile(GrammarSource(type="json", value=SCHEMAS[name]))
    finished = 0
    for seed in range(6):
        text, done = walk(compiled, tokenizer, uniform(seed, tokenizer, closing=3 * seed), steps=300)
        if done:
            finished += 1
            jsonschema.validate(json.loads(text), SCHEMAS[name])
    assert finished


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("regex", REGEXES)
def test_finished_text_matches_its_regular_expression(compiler, load_kind, kind, regex):
    tokenizer = load_kind(kind)
    if kind == "metaspace" and not (regex.isascii() and regex.isprintable() and "\\n" not in regex):
        pytest.skip("its vocabulary cannot spell this")
    compiled = compiler(kind).compile(GrammarSource(type="regex", value=regex))
    finished = 0
    for seed in range(4):
        text, done = walk(compiled, tokenizer, uniform(seed, tokenizer, closing=4), steps=200)
        if done:
            finished += 1
            assert re.fullmatch(regex, text), text
    assert finished


@pytest.mark.parametrize("liked", [" \n\tĠĊ", "{[", '"', "\\", "}]", "\x00\x1f", "0123456789", "é€👍"])
def test_a_model_that_resists_writes_nothing_that_is_wrong(compiler, load_kind, liked):
    tokenizer = load_kind("byte-level")
    for schema in (PERSON, TREE, {"type": "object"}):
        compiled = compiler().compile(GrammarSource(type="json", value=schema))
        matcher, ids, scores = compiled.begin(), [], adversary(tokenizer, liked)
        for step in range(60):
            ids.append(int(matcher.mask(scores(step)).argmax()))
            matcher.accept(ids[-1])
            if matcher.is_finished:
                break
        closing = uniform(1, tokenizer, closing=12)
        while not matcher.is_finished:
            ids.append(int(matcher.mask(closing(0)).argmax()))
            matcher.accept(ids[-1])
        jsonschema.validate(json.loads(continuation(tokenizer, ids)), schema)


def test_white_space_comes_to_an_end(compiler, load_kind):
    """A model that would write new lines and spaces for ever has room for one indentation at each place."""
    tokenizer = load_kind("byte-level")
    schema = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"], "additionalProperties": False}
    compiled = compiler().compile(GrammarSource(type="json", value=schema))
    matcher, ids, scores = compiled.begin(), [], adversary(tokenizer, "ĠĊ")
    while not matcher.is_finished:
        ids.append(int(matcher.mask(scores(0)).argmax()))
        matcher.accept(ids[-1])
        assert len(ids) < 120
    assert json.loads(continuation(tokenizer, ids)) == {"a": 1}


def test_a_complete_text_may_end_or_go_on(compiler, load_kind):
    tokenizer = load_kind("byte-level")
    matcher = compiler().compile(GrammarSource(type="regex", value="ab?")).begin()
    eos = tokenizer.id(EOS)
    assert not matcher.is_complete
    assert not matcher.allowed()[eos]
    matcher.accept(tokenizer.id("a"))
    assert matcher.is_complete
    assert not matcher.is_finished
    assert set(np.flatnonzero(matcher.allowed())) == {eos, tokenizer.id("<|im_end|>"), tokenizer.id("b")}
    matcher.accept(tokenizer.id("b"))
    assert matcher.is_finished
    assert set(np.flatnonzero(matcher.allowed())) == {eos, tokenizer.id("<|im_end|>")}


def test_special_tokens_are_no_text(compiler, load_kind):
    tokenizer = load_kind("byte-level")
    allowed = compiler().compile(GrammarSource(type="regex", value=".+")).begin().allowed()
    assert not allowed[[tokenizer.id(token) for token in ("<s>", EOS, "<|im_end|>")]].any()


def test_copies_go_their_own_ways(compiler, load_kind):
    tokenizer = load_kind("byte-level")
    first = compiler().compile(GrammarSource(type="regex", value="a+b|c")).begin()
    first.accept(tokenizer.id("a"))
    second = first.copy()
    second.accept(tokenizer.id("b"))
    assert second.is_finished
    assert not first.is_finished
    assert first.allowed()[tokenizer.id("a")]


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


def test_a_token_that_may_not_follow_is_refused(compiler, load_kind):
    matcher = compiler().compile(GrammarSource(type="regex", value="a")).begin()
    with pytest.raises(InvalidInput, match="does not allow token"):
        matcher.accept(load_kind("byte-level").id("b"))


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


def test_a_grammar_that_grows_too_complex_is_an_error_and_not_the_end_of_the_text(compiler, load_kind):
    tokenizer = load_kind("byte-level")
    compiled = compiler().compile(GrammarSource(type="regex", value=r"(.{0,500}x.{0,500}|.{3,600}y){2,50}"))
    with pytest.raises(UnprocessableInput, match="too complex"):
        walk(compiled, tokenizer, uniform(0, tokenizer, closing=-100), steps=3000)


def test_characters_that_the_vocabulary_cannot_spell_are_an_error(compiler):
    compiled = compiler("metaspace").compile(GrammarSource(type="regex", value="☃"))
    with pytest.raises(UnprocessableInput, match="no token of the model can spell"):
        compiled.begin().allowed()


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


def test_many_threads_can_follow_one_grammar(compiler, load_kind):
    tokenizer = load_kind("byte-level")
    compiled = compiler().compile(GrammarSource(type="json", value=PERSON))
    texts = {}

    def follow(seed):
        texts[seed] = walk(compiled, tokenizer, uniform(seed % 4, tokenizer, closing=9), steps=400)

    threads = [threading.Thread(target=follow, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 8
    assert all(texts[seed] == texts[seed + 4] for seed in range(4))


def test_a_model_without_an_end_token_cannot_follow_grammars(load_kind):
    with pytest.raises(UnprocessableInput, match="no token that ends a text"):
        GrammarCompiler(load_kind("byte-level"), vocabulary_size=10, eos_token_ids=[])


def test_without_llguidance_the_error_names_the_extra(load_kind, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "llguidance", None)
    with pytest.raises(UnprocessableInput, match=r"pip install 'onnxpipe\[chat\]'"):
        GrammarCompiler(load_kind("byte-level"), vocabulary_size=10, eos_token_ids=[1])
