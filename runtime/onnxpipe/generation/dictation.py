"""What a model writes down of one window: in which language, after how many attempts, and when each token was said.

Reference: transformers 4.57.6 `WhisperGenerationMixin.generate_with_fallback` and `_retrieve_init_tokens`.
"""

import dataclasses
from collections.abc import Generator, Mapping, Sequence

import numpy as np

from onnxpipe.arrays import Floats, softmax
from onnxpipe.generation.alignment import attention_of, token_starts
from onnxpipe.generation.confidence import TokenScores, compression_ratio
from onnxpipe.generation.decoder import Ids
from onnxpipe.generation.logits import Processor
from onnxpipe.generation.loop import Job
from onnxpipe.generation.options import GenerationOptions
from onnxpipe.generation.results import Generated, Step
from onnxpipe.generation.search import make_search
from onnxpipe.generation.speech_options import Plan
from onnxpipe.generation.timestamps import timestamp_rules
from onnxpipe.generation.transcript import Manner, StopWatch
from onnxpipe.generation.writer import Writer
from onnxpipe.pipeline import Model
from onnxpipe.sections import Transcription
from onnxpipe.session import Array

# Drawn texts below this are still good enough to go on from.
_LOW_TEMPERATURE = 0.5

Source = Mapping[str, Array]


@dataclasses.dataclass(frozen=True, slots=True)
class Passage:
    """The tokens (T,) written of a window, without the end, and the seconds (T,) at which each is over, if asked for.

    None at all where nothing was `said`. `reliable` ones may be read before the next window; after a `final` one none
    follows.
    """

    ids: Ids
    ends: Floats
    language: str | None
    said: bool
    reliable: bool
    final: bool


class Listen:
    """A search that chooses nothing: it keeps what a model says of the token behind a prompt, (V,)."""

    def __init__(self, prompt: Ids) -> None:
        self.rows = 1
        self.tokens: Ids = prompt[None]
        self.logits: Floats = np.zeros(0, np.float32)

    def step(self, logits: Floats, *, last: bool = False) -> Step:  # noqa: ARG002 - as Search has it
        """See Search."""
        self.logits, self.rows = logits[0].copy(), 0
        return Step(np.zeros(0, np.int64), np.zeros(0, np.intp))

    def results(self) -> list[Generated]:
        """See Search: no texts."""
        return []


class Dictation:
    """Writes down windows. It yields jobs for the model's loop and goes on when each is done."""

    def __init__(self, model: Model, writer: Writer, section: Transcription) -> None:
        self._section = section
        self._writer = writer
        self._encoder, self._decoder = model.sessions["encoder"], model.sessions["decoder"]
        self._graph = model.graph("decoder")
        self._input = model.graph("encoder").inputs[0].name
        self._capacity = writer.section.max_length

    def write(
        self,
        energies: Floats,
        plan: Plan,
        *,
        language: str | None,
        before: Sequence[int],
        positions: int,
        deadline: float | None,
    ) -> Generator[Job, None, Passage]:
        """What is said in energies (bins, frames), in a language, None where it has to be heard.

        `before` are the tokens said so far; of what the encoder makes of the window, `positions` are sound.
        """
        source = {name: array[0] for name, array in self._encoder.run({self._input: energies[None]}).items()}
        behind = self._behind(before)
        silence = 0.0
        if plan.no_speech_threshold is not None or (language is None and self._section.languages):
            prompt = np.array([*behind, self._section.start], np.int64)
            listen = Listen(prompt)
            yield Job(listen, prompt, 1, len(prompt) + 1, lambda: source, _length(source), deadline=deadline)
            silence = float(softmax(listen.logits)[self._section.no_speech])
            language = language or self._likeliest(listen.logits)
        prompt = np.array([*behind, *self._told(plan, language)], np.int64)
        for attempt, options in enumerate(plan.attempts):
            scores = TokenScores(len(prompt), options.eos_token_ids) if plan.logprob_threshold is not None else None
            job = self._job(source, prompt, options, plan, scores, deadline)
            yield job
            text = job.search.results()[0]
            mean = 0.0 if scores is None else scores.mean(text.ids)
            unlikely = plan.logprob_threshold is not None and mean < plan.logprob_threshold
            # where nothing says how likely a text has to be, silence alone decides, as in the original; the reference
            # fails
            said = not (
                plan.no_speech_threshold is not None
                and silence > plan.no_speech_threshold
                and (unlikely or plan.logprob_threshold is None)
            )
            bound = plan.compression_ratio_threshold
            repeats = bound is not None and compression_ratio(text.ids, self._writer.vocabulary_size) > bound
            if attempt + 1 == len(plan.attempts) or not said or not (unlikely or repeats):
                break
        ends = np.zeros(0, np.float32)
        if plan.times == "word" and said:
            ends = self._ends(source, prompt, text.ids, max(1, positions))
        count = len(text.ids) - (text.ids[-1] in options.eos_token_ids)
        return Passage(
            text.ids[:count],
            ends[:count],
            language,
            said,
            reliable=not options.do_sample or options.temperature < _LOW_TEMPERATURE,
            final=text.finish_reason == "stop_sequence",
        )

    def _behind(self, before: Sequence[int]) -> Sequence[int]:
        """What a text is written behind, of all that was said before: less than half of what a row holds."""
        if not before:
            return ()
        marker = [] if self._section.previous is None else [self._section.previous]
        return [*marker, *(before if self._capacity is None else before[-(self._capacity // 2 - 1) :])]

    def _told(self, plan: Plan, language: str | None) -> list[int]:
        """The tokens that tell what to write."""
        section = self._section
        told = [section.start]
        if language is not None and section.languages:
            # the reference leaves the task out where neither was asked for and no file names it
            told += [section.languages[language], section.tasks[plan.task]]
        return told if plan.tells_times else [*told, section.no_timestamps]

    def _likeliest(self, logits: Floats) -> str | None:
        """The code of the likeliest language."""
        languages = self._section.languages
        return max(languages, key=lambda code: float(logits[languages[code]]), default=None)

    def _job(
        self,
        source: Source,
        prompt: Ids,
        options: GenerationOptions,
        plan: Plan,
        scores: TokenScores | None,
        deadline: float | None,
    ) -> Job:
        total = options.total_length(len(prompt), self._capacity)
        extra: list[Processor] = []
        if plan.tells_times:
            extra.append(timestamp_rules(self._section, len(prompt), min(options.eos_token_ids)))
        if scores is not None:
            extra.append(scores)
        stops = StopWatch(Manner(self._writer.tokenizer, (), options.stop)) if options.stop else None
        search = make_search(options, prompt, max_length=total, extra=extra, stops=stops)
        return Job(search, prompt, options.rows, total, lambda: source, _length(source), deadline=deadline)

    def _ends(self, source: Source, prompt: Ids, ids: Ids, positions: int) -> Floats:
        """When each token (T,) is over, in seconds from the window's beginning: they are read once more, all at once.

        Having read a token, a model looks at what comes next. The last, the end as a rule, is never read, and over with
        the one before.
        """
        if len(ids) == 1:
            return np.zeros(1, np.float32)
        queries = self._queries(source, np.concatenate([prompt, ids[:-1]]))
        written = {layer: states[len(prompt) :] for layer, states in queries.items()}
        weights = attention_of(written, source, self._section.alignment_heads)[:, :, :positions]
        starts = token_starts(weights, self._section.median_filter_width)
        seconds: Floats = np.append(starts, starts[-1]).astype(np.float32) * np.float32(self._section.time_precision)
        return seconds

    def _queries(self, source: Source, tokens: Ids) -> dict[int, Floats]:
        """What the layers with alignment heads ask the source for at each token (T,): (T, heads * D), unscaled."""
        count = len(tokens)
        feeds: dict[str, Array] = {
            "input_ids": tokens[None],
            "position_ids": np.arange(count)[None],
            "text_lengths": np.array([count]),
            "seqlens_k": np.array([count - 1]),
            "total_sequence_length": np.array(count),
            "logit_positions": np.zeros((1, 1)),
        }
        for tensor in self._graph.inputs:
            if tensor.name in source:
                feeds[tensor.name] = source[tensor.name][None]
            elif tensor.name not in feeds:
                feeds[tensor.name] = np.zeros((1, int(tensor.shape[1]), count, int(tensor.shape[3])))
        typed = {tensor.name: feeds[tensor.name].astype(tensor.dtype, copy=False) for tensor in self._graph.inputs}
        outputs = self._decoder.run(typed)
        return {layer: outputs[f"cross_query.{layer}"][0] for layer, _ in self._section.alignment_heads}


def _length(source: Source) -> int:
    """How many positions an encoder's answer has."""
    return int(next(iter(source.values())).shape[1])
