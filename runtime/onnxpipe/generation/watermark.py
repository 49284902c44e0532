"""A watermark in text, and its detector (Kirchenbauer et al. 2023, "A Watermark for Large Language Models").

The token before chooses a "green" part of the vocabulary, whose scores get a bonus. Text with far more green tokens
than chance explains bears the mark. Whoever knows the key can tell; the model is not needed.

As in transformers 4.57.6 `WatermarkLogitsProcessor`, except for which tokens are green: there a permutation by torch's
generator, here a hash of token, context and key, so that a token can be judged without making its whole list. So each
finds its own marks only; a green list has the given ratio of the vocabulary on average; and with "selfhash" every token
is judged, not the 40 best.
"""

import dataclasses
import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats
from onnxpipe.errors import InvalidInput
from onnxpipe.generation.logits import Processor
from onnxpipe.generation.scores import Tokens
from onnxpipe.records import Record, parameter

_Hashes = NDArray[np.uint32]


@dataclasses.dataclass(frozen=True, kw_only=True)
class WatermarkOptions(Record):
    """The strength and the key of a watermark; who detects it needs the same."""

    greenlist_ratio: float = parameter(0.25, gt=0, lt=1, description="Part of the vocabulary that is green.")
    bias: float = parameter(2.0, description="What is added to the scores of green tokens.")
    hashing_key: int = parameter(15485863, ge=0, description="The secret that chooses the green tokens.")
    seeding_scheme: Literal["lefthash", "selfhash"] = parameter(
        "lefthash",
        description='What chooses the green tokens: "lefthash" the token before; "selfhash" the tokens of the context, '
        "of which the judged one is the last.",
    )
    context_width: int = parameter(1, ge=1, description="Tokens of the context; more than 1 matters to selfhash only.")


@dataclasses.dataclass(frozen=True)
class Detection:
    """How many of the judged tokens are green, and how likely as many are by chance (one-sided normal test)."""

    judged: int
    green: int
    z_score: float
    p_value: float


def watermark(options: WatermarkOptions) -> Processor:
    """A processor that adds the bias to green tokens; a row shorter than the context is left as it is."""

    def apply(tokens: Tokens, scores: Floats) -> Floats:
        if tokens.shape[1] < options.context_width:
            return scores
        changed = scores.copy()
        candidates = np.arange(scores.shape[1])
        for row, history in zip(changed, tokens, strict=True):
            context = history[len(history) - _context_length(options) :]
            np.add(row, np.float32(options.bias), out=row, where=_is_green(context[None], candidates, options))
        return changed

    return apply


def detect(ids: Tokens, options: WatermarkOptions, *, ignore_repeated: bool = True) -> Detection:
    """Whether the tokens (T,) bear the mark. A z-score above 4 is chance once in 30,000 texts.

    `ignore_repeated` judges each token with its context once: a text that repeats itself would else count the same luck
    many times. Raises InvalidInput for a text without any token to judge.
    """
    width = _context_length(options) + 1
    if len(ids) < width:
        raise InvalidInput(f"expected at least {width} tokens to look for a watermark in, given {len(ids)}")
    windows = np.lib.stride_tricks.sliding_window_view(ids, width)
    if ignore_repeated:
        windows = np.unique(windows, axis=0)
    green = int(_is_green(windows[:, :-1], windows[:, -1], options).sum())
    judged, ratio = len(windows), options.greenlist_ratio
    z_score = (green - ratio * judged) / math.sqrt(judged * ratio * (1 - ratio))
    return Detection(judged, green, z_score, math.erfc(z_score / math.sqrt(2)) / 2)


def _context_length(options: WatermarkOptions) -> int:
    """How many tokens before the judged one matter."""
    return 1 if options.seeding_scheme == "lefthash" else options.context_width - 1


def _is_green(context: Tokens, candidates: NDArray[np.integer], options: WatermarkOptions) -> NDArray[np.bool_]:
    """Which candidates (N,) are green after their contexts, (N, C) or one for all (1, C)."""
    key = _mix(np.array([options.hashing_key & 0xFFFFFFFF, options.hashing_key >> 32 & 0xFFFFFFFF], np.uint32))
    own = _mix(candidates.astype(np.uint32) ^ key[0])
    before = _mix(context.astype(np.uint32) ^ key[1])
    if options.seeding_scheme == "lefthash":
        seed = before[:, 0]
    else:  # the smallest of several hashes often stays the same when a word of the context is changed
        own_seed = _mix(candidates.astype(np.uint32) ^ key[1])
        seed = np.minimum(own_seed, before.min(axis=1)) if before.shape[1] else own_seed
    limit = np.uint32(options.greenlist_ratio * 2**32)
    green: NDArray[np.bool_] = _mix(own ^ _mix(seed)) < limit
    return green


def _mix(values: _Hashes) -> _Hashes:
    """32-bit integers to well mixed ones, one to one (C. Wellons' "lowbias32", found by search for the least bias)."""
    mixed = values ^ (values >> np.uint32(16))
    mixed *= np.uint32(0x7FEB352D)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x846CA68B)
    mixed ^= mixed >> np.uint32(16)
    return mixed
