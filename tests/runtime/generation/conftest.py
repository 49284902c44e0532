"""What tests of generation share: a small tokenizer of each kind, and compilers of grammars for them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from grammar_walks import EOS

from onnxpipe.generation.grammar import GrammarCompiler
from onnxpipe.sections import Text
from onnxpipe.text.tokenizer import Tokenizer
from tokenizer_kinds import KINDS


@pytest.fixture(scope="session")
def load_kind(corpus: list[str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Tokenizer]:
    """Tokenizers by the names of KINDS, each trained once; further arguments are fields of the manifest's Text."""
    made: dict[str, Path] = {}

    def load(kind: str, **text: object) -> Tokenizer:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind) / "tokenizer.json"
            KINDS[kind](corpus[:6]).save(str(made[kind]))
        return Tokenizer(made[kind], Text(tokenizer="tokenizer.json", **text))

    return load


@pytest.fixture(scope="module")
def compiler(load_kind: Callable[..., Tokenizer]) -> Callable[..., GrammarCompiler]:
    """Compilers by kind of tokenizer; scores have more ids than there are tokens, as padded vocabularies do."""
    made: dict[tuple[object, ...], GrammarCompiler] = {}

    def make(kind: str = "byte-level", **settings: int) -> GrammarCompiler:
        key = (kind, *settings.items())
        if key not in made:
            tokenizer = load_kind(kind)
            eos = [tokenizer.id(EOS), tokenizer.id("<|im_end|>")]
            made[key] = GrammarCompiler(tokenizer, vocabulary_size=tokenizer.size + 37, eos_token_ids=eos, **settings)
        return made[key]

    return make
