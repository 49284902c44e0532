"""Small tokenizers of every kind that models have, trained in the test run with the tokenizers library alone."""

import json
import string
from collections.abc import Callable, Iterable, Mapping

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
SPECIAL = ["<s>", "</s>", "<unk>", "<|im_end|>"]
MARK = "▁"
LETTERS = [*string.digits, *string.ascii_letters, *string.punctuation]


def byte_level(corpus: Iterable[str]) -> tokenizers.Tokenizer:
    """As GPT-2, Llama 3 and Qwen."""
    tokenizer = tokenizers.ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(corpus, vocab_size=1200, special_tokens=SPECIAL, show_progress=False)
    return tokenizer._tokenizer


def byte_fallback(corpus: Iterable[str], *, steps: Iterable[decoders.Decoder]) -> tokenizers.Tokenizer:
    """As Llama 2 and Gemma: pieces with a mark for spaces, and tokens for the bytes of what no piece has."""
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", MARK)
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=[*SPECIAL, *BYTES],
        limit_alphabet=160,
        initial_alphabet=LETTERS,
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    # the byte tokens belong to the model, they are no special ones
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] in SPECIAL]
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(data))
    tokenizer.decoder = decoders.Sequence(list(steps))
    return tokenizer


def metaspace(corpus: Iterable[str], *, scheme: str = "always") -> tokenizers.Tokenizer:
    """As T5, Marian, NLLB and mBART."""
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    trainer = trainers.UnigramTrainer(
        vocab_size=800, special_tokens=SPECIAL, unk_token="<unk>", initial_alphabet=[*LETTERS, " "], show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def wordpiece(corpus: Iterable[str], *, cleanup: bool) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=cleanup)
    trainer = trainers.WordPieceTrainer(
        vocab_size=1200, special_tokens=SPECIAL, limit_alphabet=300, show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def word_suffixes(corpus: Iterable[str]) -> tokenizers.Tokenizer:
    """As the first GPT."""
    tokenizer = tokenizers.CharBPETokenizer(suffix="</w>")
    tokenizer.train_from_iterator(
        corpus, vocab_size=900, special_tokens=SPECIAL, limit_alphabet=200, show_progress=False
    )
    return tokenizer._tokenizer


def bare_words(corpus: Iterable[str]) -> tokenizers.Tokenizer:
    """No decoder: the library puts spaces between tokens."""
    tokenizer = wordpiece(corpus, cleanup=False)
    tokenizer.decoder = None
    return tokenizer


def with_decoder(*steps: decoders.Decoder) -> Callable[[Iterable[str]], tokenizers.Tokenizer]:
    return lambda corpus: byte_fallback(corpus, steps=steps)


SPACES_BACK = decoders.Replace(MARK, " ")
KINDS: Mapping[str, Callable[[Iterable[str]], tokenizers.Tokenizer]] = {
    "byte-level": byte_level,
    "llama": with_decoder(SPACES_BACK, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)),
    "gemma": with_decoder(SPACES_BACK, decoders.ByteFallback(), decoders.Fuse()),
    "stripped": with_decoder(decoders.ByteFallback(), decoders.Fuse(), SPACES_BACK, decoders.Strip(" ", 3, 0)),
    "metaspace-bytes": with_decoder(decoders.ByteFallback(), decoders.Metaspace()),
    "pieces-stripped": with_decoder(decoders.Strip(MARK, 1, 0), decoders.ByteFallback(), decoders.Replace("e", "ab")),
    "replaced-text": with_decoder(decoders.Fuse(), decoders.Replace("<0x", "[<"), decoders.Replace("<<", "<")),
    "metaspace": metaspace,
    "metaspace-never": lambda corpus: metaspace(corpus, scheme="never"),
    "wordpiece": lambda corpus: wordpiece(corpus, cleanup=True),
    "wordpiece-plain": lambda corpus: wordpiece(corpus, cleanup=False),
    "suffixes": word_suffixes,
    "bare": bare_words,
    "pattern": with_decoder(decoders.Replace(tokenizers.Regex(f"{MARK}+"), " "), decoders.Fuse()),
}
