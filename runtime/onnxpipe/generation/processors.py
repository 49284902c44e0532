"""The processors that options ask for, in the order of transformers 4.57.6 `_get_logits_processor`."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from onnxpipe.arrays import Floats
from onnxpipe.generation import logits, warpers
from onnxpipe.generation.logits import Processor
from onnxpipe.generation.options import GenerationOptions, GenerationParameters
from onnxpipe.generation.scores import Tokens
from onnxpipe.generation.watermark import watermark
from onnxpipe.records import FieldError


def process(processors: Iterable[Processor], tokens: Tokens, scores: Floats) -> Floats:
    """Scores (R, V) after all processors, for rows with these tokens so far (R, T)."""
    # a row in which nothing is allowed has no distribution; whoever chooses from it says so
    with np.errstate(invalid="ignore"):
        for processor in processors:
            scores = processor(tokens, scores)
    return scores


def make_processors(
    options: GenerationOptions,
    *,
    prompt_length: int,
    max_length: int,
    source: Tokens,
    extra: Sequence[Processor] = (),
    diversity: Processor | None = None,
) -> list[Processor]:
    """What changes the scores of each step; `process` applies it.

    `prompt_length` and `max_length` count the decoder's tokens; `source` (S,) are the encoder's, or the prompt where
    there is none. `extra` (a grammar) comes where transformers has a caller's own processors: after the penalties and
    bans, before sampling. Frequency and presence penalties, which transformers lacks, follow its repetition penalty,
    and `logit_bias` its sequence bias; `diversity` has the place it had while transformers had group beams.
    """
    penalties = _penalties(options, prompt_length, source, diversity)
    limits = _limits(options, prompt_length, max_length)
    shapes = _warpers(options) if options.do_sample else []
    last = [
        *([watermark(options.watermark)] if options.watermark else []),
        *([warpers.renormalize] if options.renormalize_logits else []),
    ]
    return [*penalties, *limits, *extra, *shapes, *last]


def check_token_ids(parameters: GenerationParameters, vocabulary: int) -> None:
    """Raise FieldError when a parameter names a token that the model, with so many tokens, does not have."""
    for name, ids in parameters.token_ids().items():
        if ids and max(ids) >= vocabulary:
            raise FieldError(name, f"expected token ids below {vocabulary}, the model's vocabulary; given {max(ids)}")


def _penalties(
    options: GenerationOptions, prompt_length: int, source: Tokens, diversity: Processor | None
) -> list[Processor]:
    made: list[Processor] = []
    if options.sequence_bias:
        made.append(logits.sequence_bias(options.sequence_bias))
    if options.logit_bias:
        made.append(logits.sequence_bias({(token,): bias for token, bias in options.logit_bias.items()}))
    if diversity is not None:
        made.append(diversity)
    if options.encoder_repetition_penalty != 1:
        made.append(logits.encoder_repetition_penalty(options.encoder_repetition_penalty, source))
    if options.repetition_penalty != 1:
        made.append(logits.repetition_penalty(options.repetition_penalty))
    if options.frequency_penalty or options.presence_penalty:
        made.append(logits.count_penalty(options.frequency_penalty, options.presence_penalty, prompt_length))
    if options.no_repeat_ngram_size:
        made.append(logits.no_repeat_ngram(options.no_repeat_ngram_size))
    if options.encoder_no_repeat_ngram_size:
        made.append(logits.encoder_no_repeat_ngram(options.encoder_no_repeat_ngram_size, source))
    if options.bad_words_ids:
        made.append(logits.bad_words(options.bad_words_ids, options.eos_token_ids))
    return made


def _limits(options: GenerationOptions, prompt_length: int, max_length: int) -> list[Processor]:
    made: list[Processor] = []
    eos = options.eos_token_ids
    least = max(options.min_length, prompt_length + options.min_new_tokens if options.min_new_tokens else 0)
    if least and eos:
        made.append(logits.min_length(least, eos))
    if options.forced_bos_token_id is not None:
        made.append(logits.force_at(1, (options.forced_bos_token_id,)))
    if options.forced_eos_token_ids:
        made.append(logits.force_at(max_length - 1, options.forced_eos_token_ids))
    if options.remove_invalid_values:
        made.append(logits.remove_invalid_values)
    if options.exponential_decay_length_penalty and eos:
        start, factor = options.exponential_decay_length_penalty
        made.append(logits.exponential_decay(start + prompt_length, factor, eos))
    if options.suppress_tokens:
        made.append(logits.suppress(options.suppress_tokens))
    if options.begin_suppress_tokens:
        # after a lone start token a forced one comes first
        forced = prompt_length == 1 and options.forced_bos_token_id is not None
        made.append(logits.suppress_at(prompt_length + forced, options.begin_suppress_tokens))
    if options.min_eos_p is not None and eos:
        made.append(logits.prefer_end(options.min_eos_p, eos))
    return made


def _warpers(options: GenerationOptions) -> list[Processor]:
    # beams need a choice that does not end the text, whatever ends are among the best
    keep = 1 if options.num_beams == 1 else max(2, len(options.eos_token_ids) + 1)
    made: list[Processor] = []
    if options.temperature != 1:
        made.append(warpers.temperature(options.temperature))
    if options.top_k is not None:
        made.append(warpers.top_k(options.top_k, keep))
    fractions: list[tuple[Callable[[float, int], Processor], float, float]] = [
        (warpers.top_p, options.top_p, 1),
        (warpers.min_p, options.min_p, 0),
        (warpers.typical_p, options.typical_p, 1),
        (warpers.epsilon_cutoff, options.epsilon_cutoff, 0),
        (warpers.eta_cutoff, options.eta_cutoff, 0),
    ]
    made.extend(warper(value, keep) for warper, value, off in fractions if value != off)
    return made
