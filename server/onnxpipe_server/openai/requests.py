"""What clients of OpenAI's API send, read into the parameters of text-generation."""

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

from onnxpipe.errors import UnprocessableInput
from onnxpipe.generation.grammar import GrammarSource
from onnxpipe.records import FieldError, Record, parameter, read, show
from onnxpipe.tasks.text_generation import Parameters
from onnxpipe_server.settings import Settings
from onnxpipe_server.tgi import check_best_of, check_limits, meant

Prompt = str | list[int]

_MAX_PROMPTS = 32
_MAX_TOP_LOGPROBS = 20
_MAX_LEGACY_LOGPROBS = 5
# our name of a parameter -> the names that these clients know it by
_NAMES = {"num_return_sequences": ("n",), "max_new_tokens": ("max_completion_tokens", "max_tokens")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamOptions(Record):
    """What a stream has beside the text."""

    include_usage: bool = parameter(False, description="Whether a last event tells how many tokens it took.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Common(Parameters):
    """What both kinds of requests have; parameters of text-generation may stand beside it."""

    num_return_sequences: int | None = parameter(
        None, ge=1, le=10, aliases=("n",), description="How many answers there are; `n` is its other name."
    )
    max_new_tokens: int | None = parameter(
        None,
        ge=1,
        aliases=("max_tokens", "max_completion_tokens"),
        description="Most tokens of an answer; `max_tokens` and `max_completion_tokens` are its other names.",
    )
    model: str | None = parameter(None, description="The model's id; ignored on routes that name one.")
    stream: bool = parameter(False, description="Whether the answer comes in events.")
    stream_options: StreamOptions = dataclasses.field(default_factory=StreamOptions)
    user: str | None = parameter(None, description="Not used.")

    @property
    def choices(self) -> int:
        """How many answers there are to each prompt."""
        return self.num_return_sequences or 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChatRequest(Common):
    """Messages to answer."""

    messages: tuple[Mapping[str, Any], ...] = parameter(description="What was said, each with `role` and `content`.")
    logprobs: bool = parameter(False, description="Whether the log probability of each token is told.")
    top_logprobs: int | None = parameter(
        None, ge=0, le=_MAX_TOP_LOGPROBS, description="How many of the likeliest tokens are told at each place."
    )
    tools: tuple[Mapping[str, Any], ...] = parameter((), description="Functions that the answer may call.")
    tool_choice: str | Mapping[str, Any] | None = parameter(
        None, description='"none", "auto", "required", or a function that has to be called.'
    )
    tool_prompt: str | None = parameter(
        None, description="What tells of the tools, where the model's chat template does not."
    )
    response_format: Mapping[str, Any] | None = parameter(None, description="What the answer must follow.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompletionRequest(Common):
    """Texts to go on from."""

    prompt: str | tuple[str, ...] | tuple[int, ...] | tuple[tuple[int, ...], ...] = parameter(
        description="A text, its tokens, or several of either."
    )
    logprobs: int | None = parameter(
        None,
        ge=0,
        le=_MAX_LEGACY_LOGPROBS,
        description="Tell log probabilities, of each token and of so many of the likeliest.",
    )
    echo: bool = parameter(False, description="Has to be false: an answer never repeats the prompt.")
    suffix: str | None = parameter(None, description="Cannot be had.")


def read_chat(data: Mapping[str, object], settings: Settings) -> ChatRequest:
    """A chat request; its text-generation parameters are those of the answer. Raises InvalidInput."""
    request: ChatRequest = _read(ChatRequest, data, settings)
    if request.top_logprobs is not None and not request.logprobs:
        raise FieldError("top_logprobs", "expected `logprobs` true beside it")
    grammar = request.grammar if request.response_format is None else meant(read_format(request.response_format))
    return dataclasses.replace(request, details=request.logprobs, top_n_tokens=request.top_logprobs, grammar=grammar)


def read_completion(data: Mapping[str, object], settings: Settings) -> CompletionRequest:
    """A completion request, as `read_chat`."""
    if data.get("logprobs") is False:  # as in chat requests
        data = {**data, "logprobs": None}
    request: CompletionRequest = _read(CompletionRequest, data, settings)
    if request.suffix:
        raise FieldError("suffix", "texts are written forward only; leave it out")
    if request.echo:
        raise FieldError("echo", "an answer never repeats the prompt; leave it out")
    if len(prompts_of(request)) > _MAX_PROMPTS:
        raise FieldError("prompt", f"expected at most {_MAX_PROMPTS} prompts, given {len(prompts_of(request))}")
    return dataclasses.replace(request, details=request.logprobs is not None, top_n_tokens=request.logprobs)


def prompts_of(request: CompletionRequest) -> list[Prompt]:
    """The prompts of a request: texts, or lists of tokens."""
    given = request.prompt
    if isinstance(given, str):
        return [given]
    if given and isinstance(given[0], int):
        return [list(given)]
    several = cast("tuple[str | tuple[int, ...], ...]", given)
    return [item if isinstance(item, str) else list(item) for item in several]


def check_tokens(ids: list[int], vocabulary: int) -> list[int]:
    """The tokens of a prompt. Raises FieldError for one that the model does not have."""
    if not ids:
        raise FieldError("prompt", "expected at least one token, given an empty list")
    if wrong := [token for token in ids if not 0 <= token < vocabulary]:
        raise FieldError("prompt", f"expected token ids from 0 to {vocabulary - 1}, given {show(wrong[0])}")
    return ids


def read_format(given: Mapping[str, Any]) -> GrammarSource | None:
    """What a `response_format` asks for, None for any text. Raises UnprocessableInput.

    {"type": "text"}
    {"type": "json_object"}                                       any JSON object
    {"type": "json_object" or "json", "value": a schema}          as huggingface_hub and TGI have it
    {"type": "json_schema", "json_schema": {"schema", "name"?}}   as OpenAI has it
    {"type": "json_schema", "value": {"schema", "name"?}}
    {"type": "regex", "value": an expression}
    """
    kind, value = given.get("type"), given.get("value")
    if kind == "text":
        return None
    try:
        if kind == "json_schema":
            form = given.get("json_schema", value)
            if isinstance(form, Mapping) and form.get("schema") is None:
                return GrammarSource(type="json")
            return GrammarSource(type="json_schema", value=form)
        if kind in ("json_object", "json"):
            return GrammarSource(type="json", value=value)
        if kind == "regex":
            return GrammarSource(type="regex", value=value)
    except FieldError as error:
        raise error.inside("response_format") from None
    names = "'text', 'json_object', 'json', 'json_schema' or 'regex'"
    raise FieldError("response_format.type", f"expected {names}, given {show(kind)}")


def _read(cls: type[Any], data: Mapping[str, object], settings: Settings) -> Any:  # of that class
    """A record from a body: null counts as absent, unknown fields are ignored."""
    given = {name: value for name, value in data.items() if value is not None}
    seed = given.get("seed")
    if isinstance(seed, int) and not isinstance(seed, bool) and -(2**63) <= seed < 0:
        given["seed"] = seed % 2**64  # OpenAI's are signed
    try:
        request = read(cls, given, ignore_unknown=True)
    except FieldError as error:
        name = next((name for name in _NAMES.get(error.path, ()) if name in given), error.path)
        raise FieldError(name, error.problem) from None
    if request.choices > settings.max_choices:
        raise FieldError("n", f"expected an integer from 1 to {settings.max_choices}, given {request.choices}")
    check_limits(request, settings)
    check_best_of(request, settings, stream=request.stream)
    sampled = request.do_sample
    if request.choices > 1 and sampled is None and request.temperature != 0 and (request.num_beams or 1) == 1:
        sampled = True  # asked for several, a client wants them different; greedy ones are all the same
    return dataclasses.replace(
        request, do_sample=sampled, decoder_input_details=False, return_full_text=None, grammar=meant(request.grammar)
    )


def with_grammar(request: ChatRequest, grammar: GrammarSource | None) -> ChatRequest:
    """The request with the grammar of its tools. Raises UnprocessableInput: one answer cannot follow two grammars."""
    if request.grammar is not None:
        raise UnprocessableInput("`response_format` and `tools` cannot be together; leave one out")
    return dataclasses.replace(request, grammar=grammar)
