"""What tests of generation share: a small tokenizer of each kind."""

from collections.abc import Callable
from pathlib import Path

import pytest

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
