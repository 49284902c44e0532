"""Tokenizers that transformers has in Python only, beside tokenizer.json as the runtime reads it."""

import random
from types import SimpleNamespace

import pytest
import transformers

from onnxpipe.errors import UnsupportedModel
from onnxpipe.sections import Text
from onnxpipe.text.tokenizer import Tokenizer
from onnxpipe_export.source import find_model
from onnxpipe_export.tokenizer import load_tokenizer, write_tokenizer
from onnxpipe_export.tokenizer_conversions import check_convertible, known_ids
from writer_zoo import _numbered, _pieces, _write_vocabulary

FAMILIES = ("marian", "marian, several targets", "m2m_100", "blenderbot-small")
# what each conversion says of itself that it leaves out
APART = {"ΣΑΣ ΟΔΟΣ": ("blenderbot-small",)}
SPECIAL = (
    "Hello... it's (me)!\nAnd you?",
    "a'\nb\n\nc \nd",
    "don't!!! I'm a.b.c, 'quoted'\n",
    "one </s> two <unk>three<pad>",
    "__start__ one __end__",
    "__en__ one __fr__",
    "in Ω the Ω middle ΩΩ and Ж ЖЖ",
    "  two  spaces \t tab   ",
    "\ufdd0 \ufdd0\ufdd1 x\ufdd0y",
    "ΣΑΣ ΟΔΟΣ",
)


def slow_and_ours(folder, out):
    slow = load_tokenizer(find_model(str(folder)))
    assert not slow.is_fast
    write_tokenizer(slow, out)
    text = Text(tokenizer="tokenizer.json", unknown_from=known_ids(slow), special_tokens={"unk_token": slow.unk_token})
    return slow, Tokenizer(out / "tokenizer.json", text)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def both(family, tiny_model, tmp_path_factory):
    return slow_and_ours(tiny_model(family, "ForSeq2SeqLM"), tmp_path_factory.mktemp("converted"))


def test_every_text_gets_the_ids_that_the_slow_tokenizer_gives(family, both, texts):
    slow, ours = both
    for text in [*texts, *SPECIAL]:
        if family not in APART.get(text, ()):
            assert ours.encode(text).ids.tolist() == slow(text)["input_ids"], text


def test_no_id_is_beyond_those_that_the_model_has(both, texts):
    slow, ours = both
    assert max(ours.encode(text).ids.max(initial=0) for text in texts) < known_ids(slow)
    assert ours.size > known_ids(slow)  # pieces that pass through: there are some


def test_generated_tokens_give_the_text_that_the_slow_tokenizer_gives(both):
    slow, ours = both
    randomly = random.Random(0)
    for _ in range(300):
        ids = [randomly.randrange(known_ids(slow)) for _ in range(12)]
        if any(token == "<s>" or token.startswith(">>") for token in slow.convert_ids_to_tokens(ids)):
            continue  # control pieces and languages are no text, and nothing that a model writes
        # two things are left out on one side: the mark of an unfinished word at the end, and a lone space there
        expected = slow.decode(ids, skip_special_tokens=True).removesuffix("@@")
        assert ours.decode(ids).strip() == expected


def test_a_text_for_marian_may_begin_with_its_language_and_nowhere_else(tiny_model, tmp_path):
    slow, ours = slow_and_ours(tiny_model("marian, several targets", "ForSeq2SeqLM"), tmp_path)
    french = slow.convert_tokens_to_ids(">>fra<<")
    for text in (">>fra<< the house", ">>fra<<the house", ">>fra<<", ">>zho_Hans<<  ü Ω", "the >>fra<< house"):
        assert ours.encode(text).ids.tolist() == slow(text)["input_ids"]
    assert ours.encode(">>fra<< the house").ids[0] == french
    assert french not in ours.encode("the >>fra<< house").ids


@pytest.mark.parametrize("source_language", ["en", "fr"])
def test_m2m100_begins_with_the_source_language_of_its_settings(tiny_model, tmp_path, source_language):
    slow = transformers.M2M100Tokenizer.from_pretrained(tiny_model("m2m_100", "ForSeq2SeqLM"), src_lang=source_language)
    write_tokenizer(slow, tmp_path)
    ours = Tokenizer(tmp_path / "tokenizer.json", Text(tokenizer="tokenizer.json"))
    assert ours.encode("").ids.tolist() == [slow.get_lang_id(source_language), slow.eos_token_id]


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_both_kinds_of_sentencepiece_models_are_converted(corpus, texts, tmp_path, kind):
    folder = tmp_path / "model"
    folder.mkdir()
    model = _pieces(corpus, folder / "spm.model", model_type=kind, character_coverage=0.998)
    vocabulary = _write_vocabulary(["<s>", "<pad>", "</s>", "<unk>", *_numbered(model)[3:], "Ω", "ΩΩ", "ひ"], folder)
    slow = transformers.M2M100Tokenizer(vocabulary, model)
    write_tokenizer(slow, tmp_path)
    text = Text(tokenizer="tokenizer.json", unknown_from=known_ids(slow), special_tokens={"unk_token": "<unk>"})
    ours = Tokenizer(tmp_path / "tokenizer.json", text)
    for line in [*texts[::5], *SPECIAL]:
        assert ours.encode(line).ids.tolist() == slow(line)["input_ids"], line


def test_pieces_that_a_user_defined_are_refused(corpus, tmp_path):
    model = _pieces(corpus, tmp_path / "spm.model", user_defined_symbols=["<sep>"])
    vocabulary = _write_vocabulary(["<s>", "<pad>", "</s>", "<unk>", *_numbered(model)[3:]], tmp_path)
    with pytest.raises(UnsupportedModel, match="pieces that stand for bytes, or that a user defined"):
        write_tokenizer(transformers.M2M100Tokenizer(vocabulary, model), tmp_path / "out")


def test_another_slow_tokenizer_is_refused_by_name():
    with pytest.raises(UnsupportedModel, match=r"org/model: SimpleNamespace has no fast form.*MarianTokenizer"):
        check_convertible(SimpleNamespace(), "org/model")
