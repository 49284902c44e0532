"""tokenizer.json for tokenizers that transformers 4.57.6 has in Python only: Marian, M2M100 and Blenderbot-small.

Each gives a piece of text first and looks up its number in a vocabulary of its own, which has pieces that never come
and lacks others that do. The tokenizers library has one list for both. So pieces that are missing in the vocabulary
get numbers beyond it, which the runtime takes for the unknown token (`Text.unknown_from`); how the others are kept
apart is told below.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from onnxpipe.errors import UnsupportedModel

Slow = Any  # a tokenizer of transformers, which is untyped here
Steps = list[Any]  # normalisers of the tokenizers library

_SPACE = "▁"
# no characters, and they never will be (Unicode 16, 23.7)
_MARK, _OTHER = "\ufdd0", "\ufdd1"
_END_OF_WORD = "</w>"
# kinds of pieces in a sentencepiece model, and kinds of models
_NORMAL, _USER_DEFINED, _BYTE = 1, 4, 6
_UNIGRAM, _BPE = 1, 2


def to_tokenizers(tokenizer: Slow) -> Tokenizer:
    """A tokenizer of the tokenizers library that gives the same ids.

    Raises UnsupportedModel for what a vocabulary or a model has that no conversion is known for.
    """
    return CONVERSIONS[type(tokenizer).__name__](tokenizer)


def check_convertible(tokenizer: Slow, model: str) -> None:
    """Raise UnsupportedModel, naming the model, for tokenizers of other kinds."""
    if (name := type(tokenizer).__name__) not in CONVERSIONS:
        raise UnsupportedModel(
            f"{model}: {name} has no fast form, so no tokenizer.json can be made of it; of such, "
            f"{', '.join(CONVERSIONS)} can be converted"
        )


def known_ids(tokenizer: Slow) -> int | None:
    """How many ids a tokenizer has that is converted here: those beyond stand for unknown tokens. None for others."""
    if type(tokenizer).__name__ not in CONVERSIONS:
        return None
    languages: Mapping[str, int] = getattr(tokenizer, "lang_token_to_id", {})
    return 1 + int(max(*tokenizer.encoder.values(), *languages.values()))


def _marian(tokenizer: Slow) -> Tokenizer:
    """Pieces of the source's model; a text may begin with the token of a language, such as >>fra<<.

    Where the vocabulary does not have such a token, the reference reads an unknown one; here it is read as text.
    """
    if tokenizer.separate_vocabs:
        raise UnsupportedModel("a tokenizer with one vocabulary for each language is not supported, only a joint one")
    languages = tokenizer.supported_language_codes
    vocabulary = {token: number for token, number in tokenizer.encoder.items() if token not in set(languages)}
    spelled = {f"{_SPACE}{_MARK}{token}": tokenizer.encoder[token] for token in languages}
    made = _from_sentencepiece(Path(tokenizer.spm_files[0]), vocabulary, tokenizer, spelled=spelled, begin=languages)
    end = tokenizer.eos_token
    made.post_processor = processors.TemplateProcessing(
        single=["$A", end], pair=["$A", "$B", end], special_tokens=[(end, tokenizer.eos_token_id)]
    )
    return made


def _m2m100(tokenizer: Slow) -> Tokenizer:
    """The tokens of the languages come behind the vocabulary; that of the source comes first in a text."""
    vocabulary = {**tokenizer.encoder, **tokenizer.lang_token_to_id}
    made = _from_sentencepiece(Path(tokenizer.spm_file), vocabulary, tokenizer)
    source, end = tokenizer.get_lang_token(tokenizer.src_lang), tokenizer.eos_token
    made.post_processor = processors.TemplateProcessing(
        single=[source, "$A", end],
        pair=[source, "$A", "$B", end],
        special_tokens=[(source, tokenizer.lang_token_to_id[source]), (end, tokenizer.eos_token_id)],
    )
    return made


def _from_sentencepiece(
    file: Path,
    vocabulary: Mapping[str, int],
    tokenizer: Slow,
    *,
    spelled: Mapping[str, int] | None = None,
    begin: Sequence[str] = (),
) -> Tokenizer:
    """Pieces of a sentencepiece model with the numbers of a vocabulary.

    A text may `begin` with one of some tokens, which are `spelled` as they are here: behind a space and a mark.

    Pieces of the vocabulary that are not the model's, those of a target language for instance, stand between two marks,
    which the decoder takes away, so that no text has them. But in texts the model finds characters that it does not
    know, leaves a run of them whole, and the vocabulary may have just that run: so the normaliser puts the same marks
    around such runs.
    """
    proto = _read_model(file)
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == _NORMAL}
    specials = tokenizer.all_special_tokens
    numbers = dict(spelled or {})
    for piece, number in vocabulary.items():
        numbers[piece if piece in scores or piece in specials else f"{_MARK}{piece}{_MARK}"] = number
    made = Tokenizer(_model(proto, file, scores, numbers, tokenizer))
    made.normalizer = normalizers.Sequence(_normalizer_steps(proto, scores, begin))
    scheme = "always" if proto.normalizer_spec.add_dummy_prefix else "never"
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme=scheme),
            pre_tokenizers.Split(Regex(f"{_MARK}[^{_MARK}]*{_MARK}"), "isolated"),
        ]
    )
    made.decoder = decoders.Sequence(
        [decoders.Replace(_MARK, ""), decoders.Metaspace(replacement=_SPACE, prepend_scheme=scheme)]
    )
    made.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in specials])
    return made


def _read_model(file: Path) -> Any:  # a ModelProto, which has no types
    from transformers.convert_slow_tokenizer import import_protobuf

    proto = import_protobuf().ModelProto()
    proto.ParseFromString(file.read_bytes())
    if proto.trainer_spec.model_type not in (_UNIGRAM, _BPE):
        raise UnsupportedModel(f"{file.name}: only unigram and BPE models of sentencepiece are supported")
    if any(piece.type in (_USER_DEFINED, _BYTE) for piece in proto.pieces):
        raise UnsupportedModel(f"{file.name}: pieces that stand for bytes, or that a user defined, are not supported")
    return proto


def _model(proto: Any, file: Path, scores: Mapping[str, float], numbers: Mapping[str, int], tokenizer: Slow) -> Any:
    """The model with all pieces of `numbers`, and behind them those of `scores` that have no number."""
    spare = [piece for piece in scores if piece not in numbers]
    pieces = [*sorted(numbers, key=lambda piece: numbers[piece]), *spare]
    if sorted(numbers.values()) != list(range(len(numbers))):
        raise UnsupportedModel("the numbers of the tokenizer's vocabulary have gaps")
    if proto.trainer_spec.model_type == _UNIGRAM:
        # of no weight for what no text has: the lowest score is what unknown characters are measured by
        listed = [(piece, float(scores.get(piece, 0.0))) for piece in pieces]
        return models.Unigram(listed, unk_id=tokenizer.unk_token_id)
    from transformers.convert_slow_tokenizer import SentencePieceExtractor

    ranked = [(piece.piece, piece.score) for piece in proto.pieces]
    _, merges = SentencePieceExtractor(str(file)).extract(ranked)
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    # whole words first: no merges lead to what stands between marks
    return models.BPE(vocabulary, merges, unk_token=tokenizer.unk_token, fuse_unk=True, ignore_merges=True)


def _normalizer_steps(proto: Any, scores: Mapping[str, float], begin: Sequence[str]) -> Steps:
    """As sentencepiece does, then marks around each run of characters that no piece has.

    A token that a text may `begin` with gets a space behind it at first, and at last one mark, before it.
    """
    spec = proto.normalizer_spec
    unknown = f"[^{_ranges({*itertools.chain.from_iterable(scores), ' ', _SPACE, _MARK})}]"
    steps: Steps = [normalizers.Replace(_MARK, _OTHER)]
    steps += [normalizers.Replace(Regex(rf"\A{re.escape(token)}"), f"{token} ") for token in begin]
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    # At last: what puts characters where there were none loses count of the text's own (tokenizers 0.22 and 0.23), and
    # only further replacements and splits do not mind.
    border = normalizers.Replace(Regex(f"(?<!{unknown})(?={unknown})|(?<={unknown})(?!{unknown})"), _MARK)
    begins = [
        normalizers.Replace(Regex(rf"\A{re.escape(border.normalize_str(token))}(?= |\z)"), f"{_MARK}{token}")
        for token in begin
    ]
    return [*steps, border, *begins]


def _ranges(characters: Iterable[str]) -> str:
    """The inside of a regular expression's class for some characters."""
    numbers = sorted(map(ord, characters))
    # neighbours have the same distance to their place in the list
    groups = itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    runs = [[number for _, number in members] for _, members in groups]
    return "".join(rf"\x{{{run[0]:x}}}-\x{{{run[-1]:x}}}" for run in runs)


def _blenderbot_small(tokenizer: Slow) -> Tokenizer:
    """Lower-cased words, with punctuation as words of their own, in pairs of characters.

    Its vocabulary marks pieces that a word goes on behind ("hel@@"), its merges those that end one ("lo</w>"); here the
    second way serves for both. At the very end of a text the reference shows the "@@", which is left out here; and
    there a capital sigma that ends a word becomes a small one of that kind.
    """
    merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.get)
    specials = tokenizer.all_special_tokens
    numbers = {_by_end(token, specials): number for token, number in tokenizer.encoder.items()}
    pieces = dict.fromkeys(piece for merge in merges for piece in (*merge, "".join(merge)))
    spare = (piece for piece in pieces if piece not in numbers)
    vocabulary = numbers | {piece: len(numbers) + place for place, piece in enumerate(spare)}
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token=tokenizer.unk_token, end_of_word_suffix=_END_OF_WORD))
    made.normalizer = normalizers.Sequence(
        [
            # a line that ends right behind a word; behind an apostrophe its end is taken for a space
            normalizers.Replace(Regex(r"(?<=[^\s'])\n"), " __newln__ "),
            *(normalizers.Replace(mark, f" {mark}") for mark in ".,!?()"),
            normalizers.Replace("'", " ' "),
            normalizers.Lowercase(),
        ]
    )
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.decoder = decoders.BPEDecoder(suffix=_END_OF_WORD)
    made.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in specials])
    return made


def _by_end(token: str, specials: Sequence[str]) -> str:
    """A token of Blenderbot's vocabulary as the merges spell it."""
    if token in specials:
        return token
    return token.removesuffix("@@") if token.endswith("@@") else f"{token}{_END_OF_WORD}"


CONVERSIONS: dict[str, Callable[[Slow], Tokenizer]] = {
    "MarianTokenizer": _marian,
    "M2M100Tokenizer": _m2m100,
    "BlenderbotSmallTokenizer": _blenderbot_small,
}
# families whose fast form in transformers is of another kind than the slow one, which is right
MISTAKEN = {"blenderbot-small": "BlenderbotSmallTokenizer"}
