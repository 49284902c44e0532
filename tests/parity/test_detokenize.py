"""Streams of tokens beside `decode` of transformers 4.57.6: the tokenizer classes of models that write text."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from onnxpipe.generation.detokenize import Detokenizer
from onnxpipe.sections import Text
from onnxpipe.text.tokenizer import Tokenizer

pytest.importorskip("optimum", reason="parity needs the export extra")
import transformers

FOLDER = "tokenizers/transformers_fixtures"
BPE = {"vocab_file": "vocab.json", "merges_file": "merges.txt"}
# class -> its vocabulary files
CLASSES = {
    "GPT2TokenizerFast": BPE,
    "Qwen2TokenizerFast": BPE,
    "BartTokenizerFast": BPE,
    "BlenderbotTokenizerFast": BPE,
    "CodeGenTokenizerFast": BPE,
    "LlamaTokenizerFast": {"vocab_file": "test_sentencepiece_with_bytefallback.model"},
    "GemmaTokenizerFast": {"vocab_file": "test_sentencepiece_with_bytefallback.model"},
    "CodeLlamaTokenizerFast": {"vocab_file": "test_sentencepiece_with_bytefallback.model"},
    "T5TokenizerFast": {"vocab_file": "test_sentencepiece.model"},
    "PegasusTokenizerFast": {"vocab_file": "test_sentencepiece_no_bos.model"},
    "MBartTokenizerFast": {"vocab_file": "test_sentencepiece.model"},
    "MBart50TokenizerFast": {"vocab_file": "test_sentencepiece.model"},
    "NllbTokenizerFast": {"vocab_file": "test_sentencepiece.model"},
    "XGLMTokenizerFast": {"vocab_file": "test_sentencepiece.model"},
    "BertTokenizerFast": {"vocab_file": "vocab.txt"},
}


@pytest.fixture(scope="module")
def load(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple]:
    """The reference's tokenizer and ours."""
    made: dict[str, tuple] = {}

    def make(name: str) -> tuple:
        if name not in made:
            files = {role: str(test_data / FOLDER / file) for role, file in CLASSES[name].items()}
            reference = getattr(transformers, name)(**files)
            file = tmp_path_factory.mktemp(name) / "tokenizer.json"
            reference.backend_tokenizer.save(str(file))
            text = Text(tokenizer=file.name, clean_up_spaces=bool(reference.clean_up_tokenization_spaces))
            made[name] = reference, Tokenizer(file, text)
        return made[name]

    return make


def check(pair: tuple, ids: list[int], *, skip_special_tokens: bool) -> None:
    reference, tokenizer = pair
    detokenizer = Detokenizer(tokenizer, skip_special_tokens=skip_special_tokens)
    pieces = [*map(detokenizer.add, ids), detokenizer.finish()]
    expected = reference.decode(ids, skip_special_tokens=skip_special_tokens)
    assert "".join(pieces) == expected
    assert "\ufffd" in expected or not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize("skip_special_tokens", [True, False])
@pytest.mark.parametrize("name", CLASSES)
def test_the_stream_of_a_text_is_the_references_text(load, texts, name, skip_special_tokens):
    pair = load(name)
    if name == "BertTokenizerFast":
        pytest.skip("the vocabulary at hand has no token for unknown words")
    for text in texts:
        check(pair, pair[0](text[:400])["input_ids"], skip_special_tokens=skip_special_tokens)


@pytest.mark.parametrize("skip_special_tokens", [True, False])
@pytest.mark.parametrize("name", CLASSES)
def test_the_stream_of_random_tokens_is_the_references_text(load, name, skip_special_tokens):
    pair = load(name)
    draw = random.Random(11)
    size = len(pair[0])
    for _ in range(300):
        check(pair, draw.choices(range(size), k=draw.randrange(1, 40)), skip_special_tokens=skip_special_tokens)


@pytest.mark.parametrize("name", CLASSES)
def test_behind_a_prompt_comes_what_the_references_text_grows_by(load, name):
    """As its pipeline takes the answer out of the whole text."""
    reference, tokenizer = load(name)
    draw = random.Random(12)
    for _ in range(200):
        ids = draw.choices(range(len(reference)), k=30)
        cut = draw.randrange(30)
        detokenizer = Detokenizer(tokenizer, prompt=ids[:cut], clean_up=False)
        given = "".join([*map(detokenizer.add, ids[cut:]), detokenizer.finish()])
        whole, prompt = (
            reference.decode(part, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            for part in (ids, ids[:cut])
        )
        assert given == whole[len(prompt) :]
