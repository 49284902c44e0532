"""The search for one request's texts: takes the scores of its rows step by step, says which tokens they get.

    search = make_search(options, prompt, max_length=...)
    while search.rows:
        step = search.step(logits)          # (rows, V): of the prompt at first, then of each row's newest token
        ...                                 # row i becomes a copy of row step.parents[i] with step.tokens[i] behind it
    texts = search.results()

A search begins with one row, the prompt, and fans out in its first step: then all parents are 0. Rows that have ended
are no longer among the parents. Nothing here runs a model or reads text.
"""

from collections.abc import Sequence

from onnxpipe.errors import InvalidInput
from onnxpipe.generation.beam import BeamSearch
from onnxpipe.generation.logits import Processor
from onnxpipe.generation.options import GenerationOptions
from onnxpipe.generation.results import Follower, LogprobOptions, Search, Stops
from onnxpipe.generation.rows import RowSearch
from onnxpipe.generation.scores import Tokens


def make_search(
    options: GenerationOptions,
    prompt: Tokens,
    *,
    max_length: int,
    source: Tokens | None = None,
    extra: Sequence[Processor | Follower] = (),
    stops: Stops | None = None,
    logprobs: LogprobOptions | None = None,
) -> Search:
    """The search that the options ask for.

    `prompt` (P,) are the decoder's first tokens and `source` the encoder's, where there is one; `max_length`, from
    `options.total_length`, counts the prompt. `extra` processors, such as a grammar, come before sampling; those that
    are `Follower`s are told what becomes of the rows. Raises InvalidInput for an empty prompt.
    """
    if not len(prompt) or max_length <= len(prompt):
        raise InvalidInput(f"expected a prompt of 1 to {max_length - 1} tokens, given {len(prompt)}")
    source = prompt if source is None else source
    if options.num_beams > 1:
        return BeamSearch(
            options,
            prompt,
            max_length=max_length,
            source=source,
            extra=extra,
            stops=stops,
            keep_logprobs=logprobs is not None,
        )
    return RowSearch(options, prompt, max_length=max_length, source=source, extra=extra, stops=stops, logprobs=logprobs)
