import json
import re
import threading

import numpy as np
import pytest
from grammar_walks import EOS, PERSON, uniform, walk

from onnxpipe.errors import InvalidInput, UnprocessableInput
from onnxpipe.generation.detokenize import continuation
from onnxpipe.generation.grammar import GrammarSource

pytest.importorskip("llguidance", reason="grammars need the chat extra")
jsonschema = pytest.importorskip("jsonschema", reason="it judges what was written")

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
        written = json.loads(continuation(tokenizer, ids))
        assert jsonschema.Draft202012Validator(schema).is_valid(written), written


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


def test_a_token_that_may_not_follow_is_refused(compiler, load_kind):
    matcher = compiler().compile(GrammarSource(type="regex", value="a")).begin()
    with pytest.raises(InvalidInput, match="does not allow token"):
        matcher.accept(load_kind("byte-level").id("b"))


def test_a_grammar_that_grows_too_complex_is_an_error_and_not_the_end_of_the_text(compiler, load_kind):
    tokenizer = load_kind("byte-level")
    compiled = compiler().compile(GrammarSource(type="regex", value=r"(.{0,500}x.{0,500}|.{3,600}y){2,50}"))
    with pytest.raises(UnprocessableInput, match="too complex"):
        walk(compiled, tokenizer, uniform(0, tokenizer, closing=-100), steps=3000)


def test_characters_that_the_vocabulary_cannot_spell_are_an_error(compiler):
    compiled = compiler("metaspace").compile(GrammarSource(type="regex", value="☃"))
    with pytest.raises(UnprocessableInput, match="no token of the model can spell"):
        compiled.begin().allowed()


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
