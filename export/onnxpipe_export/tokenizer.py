"""The model's tokenizer as one tokenizer.json, converted where the hub has only the slow kind."""

from pathlib import Path
from typing import Any

from tokenizers import normalizers

from onnxpipe.errors import UnsupportedModel
from onnxpipe_export.quiet import first_line, quiet
from onnxpipe_export.source import SourceModel
from onnxpipe_export.tokenizer_conversions import MISTAKEN, check_convertible, to_tokenizers

# written beside tokenizer.json because other ONNX runtimes (transformers.js) read them
_KEPT = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def load_tokenizer(source: SourceModel, tokenizer_class: str = "AutoTokenizer") -> Any:  # a transformers fast one
    """The reference tokenizer; slow ones (vocab.txt, sentencepiece) are made fast while loading where that can be.

    A sentence-transformers model that asks for lower-casing gets it as a first normaliser, as that library does.
    Raises UnsupportedModel when there is none, or when transformers knows no conversion.
    """
    import transformers

    loader = getattr(transformers, MISTAKEN.get(source.config.get("model_type", ""), tokenizer_class))
    with quiet():
        try:
            tokenizer = loader.from_pretrained(source.folder, trust_remote_code=False)
        except Exception as error:  # conversion raises whatever the vocabulary provokes
            raise UnsupportedModel(
                f"{source.name}: transformers cannot load its tokenizer ({first_line(error)})"
            ) from error
    if not tokenizer.is_fast:
        check_convertible(tokenizer, source.name)
        return tokenizer
    settings = source.read_json("sentence_bert_config.json") or {}
    if settings.get("do_lower_case"):
        backend = tokenizer.backend_tokenizer
        steps = [normalizers.Lowercase(), *([backend.normalizer] if backend.normalizer else [])]
        backend.normalizer = normalizers.Sequence(steps)
    return tokenizer


def write_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write tokenizer.json and its settings into `folder`, without truncation or padding of its own.

    Raises UnsupportedModel when no tokenizer.json can be made of a slow one.
    """
    converted = None if tokenizer.is_fast else to_tokenizers(tokenizer)
    if converted is None:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    for file in map(Path, tokenizer.save_pretrained(folder)):
        if file.name not in _KEPT:
            file.unlink(missing_ok=True)
    if converted is not None:
        converted.save(str(folder / "tokenizer.json"))
