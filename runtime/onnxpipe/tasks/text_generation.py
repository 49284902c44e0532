"""text-generation: how a text goes on.

Models: decoders, from GPT-2 to Llama, Qwen and Gemma. Encoder-decoder models do not list the task, but are served by it
where clients of text generation inference ask: the input is what they read, and the new text all that comes back.
Reference: transformers 4.57.6 `generate`, and text generation inference for `details`; but 100 new tokens where neither
the request nor the model says how many, and sampling only where one of them asks for it.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxpipe.errors import InvalidInput
from onnxpipe.generation.decoder import Ids
from onnxpipe.generation.detokenize import token_text
from onnxpipe.generation.grammar import GrammarCompiler, GrammarSource
from onnxpipe.generation.options import GenerationOptions, GenerationParameters
from onnxpipe.generation.pipeline import Writing, WritingPipeline
from onnxpipe.generation.results import FinishReason, Follower, LogprobOptions
from onnxpipe.generation.writer import Composition, Written
from onnxpipe.records import FieldError, parameter

_TASK = "text-generation"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters(GenerationParameters):
    """How the text is read and goes on, and what is told about it."""

    return_full_text: bool | None = parameter(
        None, description="Whether the answer begins with the input that it continues. Absent: it does not."
    )
    details: bool = parameter(False, description="Whether each token is told, with its log probability.")
    decoder_input_details: bool = parameter(
        False, description="Whether the tokens of the input are told too. Wants `details`."
    )
    top_n_tokens: int | None = parameter(
        None, ge=0, le=20, description="How many of the likeliest tokens are told at each place. Wants `details`."
    )
    truncate: int | None = parameter(None, ge=1, description="Read only so many tokens of the input: its last.")
    grammar: GrammarSource | None = parameter(None, description="What the new text must follow.")
    adapter_id: str | None = parameter(None, description="A LoRA adapter; none can be had here.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adapter_id is not None:
            raise FieldError("adapter_id", f"no adapters are served here, given {self.adapter_id!r}; leave it out")


@dataclasses.dataclass(frozen=True)
class PrefillToken:
    """A token of the input; the first has no log probability."""

    id: int
    text: str
    logprob: float | None


@dataclasses.dataclass(frozen=True)
class TokenDetails:
    """A token and its log probability."""

    id: int
    text: str
    logprob: float | None
    special: bool


@dataclasses.dataclass(frozen=True)
class BestOfSequence:
    """A text that was drawn and is not the best."""

    generated_text: str
    finish_reason: FinishReason
    generated_tokens: int
    seed: int | None
    prefill: list[PrefillToken]
    tokens: list[TokenDetails]
    top_tokens: list[list[TokenDetails]] | None = None


@dataclasses.dataclass(frozen=True)
class Details:
    """How a text came about."""

    finish_reason: FinishReason
    generated_tokens: int
    seed: int | None
    prefill: list[PrefillToken]
    tokens: list[TokenDetails]
    top_tokens: list[list[TokenDetails]] | None = None
    best_of_sequences: list[BestOfSequence] | None = None


@dataclasses.dataclass(frozen=True)
class Generated:
    """A text, and how it came about where that was asked for."""

    generated_text: str
    details: Details | None = None


class TextGeneration(WritingPipeline[str, Parameters, list[Generated]]):
    """The texts that go on from one, as many as `num_return_sequences`, best first where they are ranked.

    >>> onnxpipe.load("smollm-135m")("Once upon a time, there was a", max_new_tokens=8)
    [Generated(generated_text=' little girl named Lily who loved to', details=None)]
    """

    def preprocess(self, inputs: str, parameters: Parameters) -> Writing[list[Generated]]:
        """The text's tokens, the last of them where they are too many."""
        options = self.options(parameters)
        ids = self.model.tokenizer.encode(inputs, side="left").ids
        if not ids.size:
            raise InvalidInput("the text has no tokens: expected at least one character that this model reads")
        read = ids if parameters.truncate is None else self.last_tokens(ids, parameters.truncate)
        if not self.has_encoder:
            read = self._writer.fitting(read, options)
        composition = self.compose(read, parameters, options)
        finish = functools.partial(self.results, inputs, parameters, composition)
        return Writing(
            rows=(), finish=lambda _: finish(), truncated_tokens=len(ids) - len(read), composition=composition
        )

    @property
    def vocabulary_size(self) -> int:
        """How many tokens it chooses from."""
        return self._writer.vocabulary_size

    def options(self, parameters: Parameters) -> GenerationOptions:
        """The parameters over the model's defaults."""
        return self._writer.options(parameters, _TASK)

    def last_tokens(self, ids: Ids, count: int) -> Ids:
        """The last `count` tokens of an input; what an encoder expects at its beginning, such as <s>, stays there."""
        if len(ids) <= count or not self.has_encoder:
            return ids[-count:]
        tokenizer = self.model.tokenizer
        begin = next((place for place, token in enumerate(ids.tolist()) if not tokenizer.is_special(token)), 0)
        begin = min(begin, count - 1)
        return np.concatenate([ids[:begin], ids[begin - count :]])

    def compose(
        self, ids: Ids, parameters: Parameters, options: GenerationOptions, *, include_stop: bool = True
    ) -> Composition:
        """A request for the tokens of an input (P,). Raises UnprocessableInput for a grammar that is none; one that
        cannot be followed is told of when the request is written.
        """
        grammar: Sequence[Follower] = ()
        if parameters.grammar is not None:
            grammar = (self._grammars.start(parameters.grammar).rows(),)
        told = parameters.details or parameters.decoder_input_details or parameters.top_n_tokens
        return self._writer.compose(
            self._writer.decoder_prompt if self.has_encoder else ids,
            options,
            source=ids if self.has_encoder else None,
            extra=grammar,
            logprobs=LogprobOptions(top_n=parameters.top_n_tokens or 0) if told else None,
            prompt_logprobs=parameters.decoder_input_details,
            include_stop=include_stop,
            clean_up=False,
        )

    @functools.cached_property
    def _grammars(self) -> GrammarCompiler:
        return GrammarCompiler(
            self.model.tokenizer,
            vocabulary_size=self._writer.vocabulary_size,
            eos_token_ids=self.options(Parameters()).eos_token_ids,
        )

    def results(self, inputs: str, parameters: Parameters, composition: Composition) -> list[Generated]:
        """What is answered when all texts of a composition are there."""
        texts = composition.texts()
        wanted = parameters.num_return_sequences or 1
        begin = inputs if parameters.return_full_text and not self.has_encoder else ""
        results = []
        for text in texts[:wanted]:
            details = None
            if parameters.details or parameters.decoder_input_details:
                losers = texts[wanted:] if (parameters.best_of or 1) > 1 else []
                details = self._details(text, losers, parameters, composition)
            results.append(Generated(begin + text.text, details))
        return results

    def _details(
        self, text: Written, losers: Sequence[Written], parameters: Parameters, composition: Composition
    ) -> Details:
        prefill = []
        if parameters.decoder_input_details:
            prefill = [PrefillToken(*token) for token in composition.prompt_tokens]
        top = bool(parameters.top_n_tokens)
        others = [
            BestOfSequence(generated_text=loser.text, prefill=prefill, **self._story(loser, top=top))
            for loser in losers
        ]
        return Details(prefill=prefill, best_of_sequences=others or None, **self._story(text, top=top))

    def _story(self, text: Written, *, top: bool) -> dict[str, Any]:
        """The fields that a text and one that lost against it have in common."""
        return {
            "finish_reason": text.finish_reason,
            "generated_tokens": len(text.tokens),
            "seed": text.seed,
            "tokens": [TokenDetails(token.id, token.shown, token.logprob, token.special) for token in text.tokens],
            "top_tokens": [self.likeliest(token.top) for token in text.tokens] if top else None,
        }

    def likeliest(self, top: Sequence[tuple[int, float]]) -> list[TokenDetails]:
        """The likeliest tokens at a place with their texts."""
        tokenizer = self.model.tokenizer
        return [
            TokenDetails(number, token_text(tokenizer, number), logprob, tokenizer.is_special(number))
            for number, logprob in top
        ]
