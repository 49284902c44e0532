"""Tokens that tell times among those of a text: when they may come, and where they end what was said of a window.

Reference: transformers 4.57.6 `WhisperTimeStampLogitsProcessor` and `WhisperGenerationMixin._retrieve_segment`. Shape
letters: R rows, T tokens, V vocabulary.
"""

import dataclasses

import numpy as np

from onnxpipe.arrays import Floats
from onnxpipe.generation.logits import Processor
from onnxpipe.generation.scores import Tokens, log_softmax
from onnxpipe.sections import Transcription


def timestamp_rules(section: Transcription, prompt_length: int, eos: int) -> Processor:
    """Times come in pairs, an end and a beginning, never run backwards, and come first; the last may stand alone.

    Where all times together are likelier than any single word, a time has to come.
    """
    first = section.first_timestamp
    latest = None if section.max_initial_timestamp is None else first + section.max_initial_timestamp

    def apply(tokens: Tokens, scores: Floats) -> Floats:
        changed = scores.copy()
        changed[:, section.no_timestamps] = -np.inf
        for row, written in zip(changed, tokens[:, prompt_length:], strict=True):
            _keep_order(row, written, first, eos)
        if tokens.shape[1] == prompt_length:
            changed[:, :first] = -np.inf
            if latest is not None:
                changed[:, latest + 1 :] = -np.inf
        logprobs = log_softmax(changed)
        likely = np.logaddexp.reduce(logprobs[:, first:], axis=-1) > logprobs[:, :first].max(axis=-1)
        changed[likely, :first] = -np.inf
        return changed

    return apply


def _keep_order(row: Floats, written: Tokens, first: int, eos: int) -> None:
    """Take away from scores (V,) what may not follow the tokens written so far."""
    is_time = written >= first
    if not is_time.any():
        return
    ends_open = bool(is_time[-1]) and len(written) > 1 and not is_time[-2]
    if is_time[-1] and not ends_open:  # a beginning: words follow
        row[first:] = -np.inf
    elif ends_open:  # an end: the next beginning follows, or nothing
        row[:eos] = -np.inf
    latest = int(written[is_time][-1])
    # what comes next begins where this ended at the earliest; anything else takes time
    row[first : latest if ends_open else latest + 1] = -np.inf


@dataclasses.dataclass(frozen=True, slots=True)
class Settled:
    """How many of a window's tokens are certain, and how many steps of time further the next window begins.

    `advance` is None where the whole window was told.
    """

    count: int
    advance: int | None


def settle(ids: Tokens, first: int) -> Settled:
    """What of a window's tokens (T,), the end not among them, can be relied on.

    A text that ends with a time was all that is there; else what was begun last was cut by the window's end and is
    heard again from there. Where no two times follow one another, there is nothing to begin anew from. Unlike the
    reference, the time at which the next window begins is not told twice.
    """
    is_time = ids >= first
    pairs = np.flatnonzero(is_time[:-1] & is_time[1:])
    if not pairs.size or is_time[-2:].tolist() == [False, True]:
        return Settled(len(ids), None)
    last = int(pairs[-1])
    return Settled(last + 1, int(ids[last]) - first)
