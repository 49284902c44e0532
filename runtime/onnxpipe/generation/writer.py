"""What a model writes: prompts in tokens to texts, token by token or whole, all requests of a model in one loop."""

import collections
import dataclasses
import functools
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from onnxpipe.errors import UnsupportedModel
from onnxpipe.generation.batch import Batch
from onnxpipe.generation.decoder import Decoder, Ids
from onnxpipe.generation.detokenize import token_text
from onnxpipe.generation.loop import Job, TokenLoop
from onnxpipe.generation.options import GenerationOptions, GenerationParameters, read_defaults, resolve
from onnxpipe.generation.processors import check_token_ids
from onnxpipe.generation.results import Awaited, FinishReason, Follower, Generated, LogprobOptions
from onnxpipe.generation.search import make_search
from onnxpipe.generation.transcript import Manner, StopWatch, Token, Transcript
from onnxpipe.machine import inspect_machine
from onnxpipe.pipeline import Model
from onnxpipe.sections import Generation
from onnxpipe.session import Array, Session

# the share of this process's memory that keys and values of one model may take
_CACHE_SHARE = 0.25
_CACHE_BYTES_WHEN_UNKNOWN = 2**30
# seconds in which a request that waits for something else than the model can be left
_MOMENT = 0.05

_writers: "weakref.WeakKeyDictionary[Model, Writer]" = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """A finished text, without the prompt, and its tokens."""

    text: str
    finish_reason: FinishReason
    tokens: tuple[Token, ...]
    score: float | None
    seed: int | None


class Writer:
    """A model that writes. Raises UnsupportedModel when the bundle has no graph for it."""

    def __init__(self, model: Model) -> None:
        manifest = model.bundle.manifest
        if manifest.generation is None or "decoder" not in manifest.graphs:
            raise UnsupportedModel(f"{manifest.id} does not write text; it serves: {', '.join(manifest.tasks)}")
        self.section: Generation = manifest.generation
        self.tokenizer = model.tokenizer
        self._graph = model.graph("decoder")
        self._decoder = _session(model, "decoder")
        self._encoder = _session(model, "encoder") if "encoder" in manifest.graphs else None
        self._encoder_inputs = [tensor.name for tensor in model.graph("encoder").inputs] if self._encoder else []
        machine = inspect_machine()
        limit = machine.memory_limit_bytes or machine.memory_total_bytes
        self.loop = TokenLoop(
            self._make_batch,
            budget_bytes=int(limit * _CACHE_SHARE) if limit else _CACHE_BYTES_WHEN_UNKNOWN,
        )

    @property
    def has_encoder(self) -> bool:
        """Whether what it reads and what it writes are separate texts."""
        return self._encoder is not None

    @property
    def decoder_prompt(self) -> Ids:
        """The tokens (P,) that a text about a source begins with."""
        return np.array(self.section.decoder_prompt, np.int64)

    @property
    def vocabulary_size(self) -> int:
        """How many tokens it chooses from."""
        return int(self._graph.outputs[0].shape[-1])

    def options(self, parameters: GenerationParameters, *tasks: str, **more: object) -> GenerationOptions:
        """Parameters over the model's defaults: its general ones, those for each of `tasks`, and `more`.

        Raises FieldError for a token that the model does not have, and for parameters that cannot be together.
        """
        check_token_ids(parameters, self.vocabulary_size)
        defaults = dict(self.section.defaults)
        for task in tasks:
            defaults |= self.section.task_defaults.get(task, {})
        return resolve(parameters, read_defaults(defaults | more))

    def fitting(self, prompt: Ids, options: GenerationOptions) -> Ids:
        """The last tokens of a prompt, as many as leave room for new ones: at least half of what the model holds."""
        capacity = self.section.max_length
        if capacity is None:
            return prompt
        return prompt[-max(capacity - (options.max_new_tokens or options.default_new_tokens), capacity // 2) :]

    def compose(
        self,
        prompt: Ids,
        options: GenerationOptions,
        *,
        source: Ids | None = None,
        extra: Sequence[Follower] = (),
        logprobs: LogprobOptions | None = None,
        prompt_logprobs: bool = False,
        include_stop: bool = True,
        clean_up: bool | None = None,
    ) -> "Composition":
        """A request that writes behind `prompt` (P,); `source` (S,) is the encoder's text.

        `include_stop` leaves a stop string at the end of a text; `clean_up` joins punctuation to words, None as the
        model's tokenizer does. Raises InvalidInput when the prompt leaves no room.
        """
        encode = None if source is None else functools.partial(self._encode, source)
        total = options.total_length(len(prompt), self.section.max_length)
        behind = () if self.has_encoder else tuple(prompt.tolist())
        manner = Manner(self.tokenizer, behind, options.stop, include_stop, clean_up)
        search = make_search(
            options,
            prompt,
            max_length=total,
            source=source,
            extra=extra,
            stops=StopWatch(manner) if options.stop else None,
            logprobs=logprobs,
        )
        job = Job(
            search,
            prompt,
            options.rows,
            total,
            encode,
            0 if source is None else len(source),
            deadline=None if options.max_time is None else time.monotonic() + options.max_time,
            prompt_logprobs=prompt_logprobs,
            reread_at=self.section.reread_at,
        )
        return Composition(self, job, manner, [processor for processor in extra if isinstance(processor, Awaited)])

    def _encode(self, source: Ids) -> Mapping[str, Array]:
        """Keys and values (heads, S, D) of every cross-attention."""
        assert self._encoder is not None  # noqa: S101 - only encoder-decoder models have sources
        feeds = {"input_ids": source[None], "attention_mask": np.ones((1, len(source)), np.int64)}
        outputs = self._encoder.run({name: feeds[name] for name in self._encoder_inputs})
        return {name: array[0] for name, array in outputs.items()}

    def _make_batch(self, rows_per_source: int) -> Batch:
        return Batch(Decoder(self._decoder, self._graph, rows_per_source))


class Composition:
    """One request: texts that are being written."""

    def __init__(self, writer: Writer, job: Job, manner: Manner, awaited: Sequence[Awaited] = ()) -> None:
        self._writer = writer
        self._manner = manner
        self._awaited = awaited
        self.job = job

    def wait(self) -> Iterator[None]:
        """An item for each moment that what the search needs is not there yet; its time is counted from then on."""
        begin = time.monotonic()
        for processor in self._awaited:
            while not processor.wait(_MOMENT):
                yield
        if self.job.deadline is not None:
            self.job.deadline += time.monotonic() - begin

    @property
    def new_tokens(self) -> int:
        """Tokens of all finished texts."""
        return sum(len(text.ids) for text in self.job.search.results())

    @property
    def token_count(self) -> int:
        """Tokens of the prompt and of all finished texts."""
        return len(self.job.prompt) + self.new_tokens

    @property
    def prompt_tokens(self) -> list[tuple[int, str, float | None]]:
        """Id, text and log probability of each token of the prompt, None for the first; once it has been read."""
        ids = self.job.prompt.tolist()
        scores = [None, *self.job.prompt_scores] if self.job.prompt_scores else [None] * len(ids)
        tokenizer = self._writer.tokenizer
        return [(number, token_text(tokenizer, number), score) for number, score in zip(ids, scores, strict=True)]

    def stream(self) -> Iterator[tuple[int, Token]]:
        """The number of a text and its next token, as they come; closing the iterator ends the work.

        Of beams, whose texts are not settled before, all come at the end.
        """
        for tokens in self.steps():
            yield from tokens

    def steps(self) -> Iterator[list[tuple[int, Token]]]:
        """`stream` by steps of the model, and moments of waiting before: what each brought, which may be nothing."""
        for _ in self.wait():
            yield []
        transcripts: dict[int, Transcript] = {}
        for step in self._writer.loop.steps(self.job):
            yield [
                (
                    choice.sequence,
                    transcripts.setdefault(choice.sequence, Transcript(self._manner)).describe(
                        choice.token, choice.logprob, choice.top, choice.finish_reason
                    ),
                )
                for choice in step.choices
            ]
        if not transcripts:
            yield [(number, token) for number, written in enumerate(self.texts()) for token in written.tokens]

    def texts(self) -> list[Written]:
        """The finished texts, best first where they are ranked."""
        return [self._written(text) for text in self.job.search.results()]

    def _written(self, text: Generated) -> Written:
        transcript = Transcript(self._manner)
        ids = text.ids.tolist()
        logprobs = [None] * len(ids) if text.logprobs is None else text.logprobs.tolist()
        tops = text.top or ((),) * len(ids)
        reasons: list[FinishReason | None] = [*([None] * (len(ids) - 1)), text.finish_reason]
        tokens = tuple(map(transcript.describe, ids, logprobs, tops, reasons))
        whole = "".join(token.text for token in tokens)
        return Written(whole, text.finish_reason, tokens, text.score, text.seed)


def writer_of(model: Model) -> Writer:
    """The one writer of a model, whatever its tasks. Raises UnsupportedModel when it does not write."""
    if model not in _writers:
        _writers[model] = Writer(model)
    return _writers[model]


def write_all(writer: Writer, compositions: Sequence[Composition]) -> None:
    """Write several requests together. Raises what the first that fails does."""
    for composition in compositions:
        collections.deque(composition.wait(), maxlen=0)
    writer.loop.run([composition.job for composition in compositions])


def _session(model: Model, graph: str) -> Session:
    """The session of a graph; another engine cannot keep keys and values where they are."""
    engine = model.sessions[graph]
    if not isinstance(engine, Session):
        raise UnsupportedModel(f"{model.bundle.manifest.id}: {type(engine).__name__} cannot run a decoder step by step")
    return engine
