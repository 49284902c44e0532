"""text-generation as text generation inference has it: how requests are checked, and the events of a stream.

What it says of wrong parameters is kept word for word where clients show it (contract section 9); limits that are ours
and not its own, such as a temperature of 0, are told as ours.
"""

import contextlib
import dataclasses
from collections.abc import Generator, Mapping
from typing import Any

from onnxpipe.bundle import Manifest
from onnxpipe.errors import InvalidInput, UnprocessableInput
from onnxpipe.generation.decoder import Ids
from onnxpipe.generation.grammar import GrammarSource
from onnxpipe.generation.transcript import Token
from onnxpipe.generation.writer import Composition
from onnxpipe.pipeline import Model
from onnxpipe.records import FieldError, plain, read
from onnxpipe.tasks.text_generation import Parameters, TextGeneration
from onnxpipe_server.explain import current_account
from onnxpipe_server.models import Served
from onnxpipe_server.settings import Settings
from onnxpipe_server.sse import event
from onnxpipe_server.writing import interleave

_MAX_TOP_TOKENS = 5
# field -> what is said of a number that is out of its range
_RANGES = {
    "best_of": "`best_of` must be > 0 and <= {max_best_of}. Given: {given}",
    "top_n_tokens": "`top_n_tokens` must be >= 0 and <= {max_top_tokens}. Given: {given}",
    "temperature": "`temperature` must be strictly positive",
    "repetition_penalty": "`repetition_penalty` must be strictly positive",
    "frequency_penalty": "`frequency_penalty` must be >= -2.0 and <= 2.0",
    "top_p": "`top_p` must be > 0.0 and <= 1.0",
    "typical_p": "`typical_p` must be > 0.0 and <= 1.0",
    "top_k": "`top_k` must be strictly positive",
    "max_new_tokens": "`max_new_tokens` must be strictly positive",
    "truncate": "`truncate` must be strictly positive. Given: {given}",
}
_SAMPLING = ("temperature", "top_k", "top_p", "typical_p")


@dataclasses.dataclass(frozen=True)
class Started:
    """A text that is about to be written: `prompt_tokens` of the input are read, and `cut` were left out."""

    composition: Composition
    prompt_tokens: int
    cut: int

    @property
    def new_tokens(self) -> int:
        """Tokens of all finished texts."""
        return self.composition.new_tokens

    def note(self, model: Model) -> None:
        """Take note of it for the request at work."""
        account = current_account()
        account.note_model(model, model.bundle.manifest.task)
        account.note_writing(self.prompt_tokens, lambda: self.composition.new_tokens)


@dataclasses.dataclass(frozen=True)
class Limits:
    """Most tokens of an input, of an answer, and of both together; None where there is no such limit."""

    inputs: int | None
    answer: int | None
    total: int | None


def read_parameters(given: Mapping[str, object], settings: Settings, *, stream: bool) -> Parameters:
    """The parameters of a request, unknown ones ignored. Raises UnprocessableInput, or FieldError for wrong types."""
    try:
        parameters = read(Parameters, given, ignore_unknown=True)
    except FieldError as error:
        value = given.get(error.path)
        if isinstance(value, int | float) and not isinstance(value, bool) and _is_range_of(error.path, value):
            raise _out_of_range(error.path, value, settings) from None
        if error.path.partition(".")[0] == "grammar":
            raise UnprocessableInput(f"grammar is not valid: {error}") from None
        raise error.inside("parameters") from None
    check_limits(parameters, settings)
    check_best_of(parameters, settings, stream=stream)
    if parameters.top_n_tokens is not None and parameters.top_n_tokens > _MAX_TOP_TOKENS:
        raise _out_of_range("top_n_tokens", parameters.top_n_tokens, settings)
    if stream and parameters.decoder_input_details:
        raise UnprocessableInput("`decoder_input_details` == true is not supported when streaming tokens")
    if stream and (parameters.num_return_sequences or 1) > 1:
        raise UnprocessableInput("`num_return_sequences` > 1 is not supported when streaming tokens")
    return dataclasses.replace(parameters, grammar=meant(parameters.grammar))


def meant(grammar: GrammarSource | None) -> GrammarSource | None:
    """The grammar with the type that its author has in mind: TGI takes a schema with `properties` for an object's.

    By itself such a schema says nothing of values that are no objects.
    """
    if grammar is None or grammar.type == "regex":
        return grammar
    schema = grammar.schema()
    if "properties" in schema and "type" not in schema:
        schema = {"type": "object", **schema}
    return GrammarSource(type="json", value=schema)


def check_limits(parameters: Parameters, settings: Settings) -> None:
    """Raise UnprocessableInput for more stop strings or beams than a request may have."""
    stops = (parameters.stop,) if isinstance(parameters.stop, str) else parameters.stop or ()
    if len(stops) > settings.max_stop_sequences:
        raise UnprocessableInput(
            f"`stop` supports up to {settings.max_stop_sequences} stop sequences. Given: {len(stops)}"
        )
    if (parameters.num_beams or 1) > settings.max_beams:
        raise UnprocessableInput(f"`num_beams` must be > 0 and <= {settings.max_beams}. Given: {parameters.num_beams}")


def check_best_of(parameters: Parameters, settings: Settings, *, stream: bool) -> None:
    """Raise UnprocessableInput where texts to choose from cannot be drawn."""
    best_of = parameters.best_of or 1
    if best_of > settings.max_best_of:
        raise _out_of_range("best_of", best_of, settings)
    if best_of > 1:
        asked = parameters.do_sample or any(getattr(parameters, name) is not None for name in _SAMPLING)
        if not asked or parameters.do_sample is False:
            raise UnprocessableInput("you must use sampling when `best_of` is > 1")
        if parameters.seed is not None:
            raise UnprocessableInput("`seed` must not be set when `best_of` > 1")
        if stream:
            raise UnprocessableInput("`best_of` != 1 is not supported when streaming tokens")


def _is_range_of(field: str, value: float) -> bool:
    """Whether the words for a field are true of a value."""
    return field in _RANGES and ("strictly positive" not in _RANGES[field] or value <= 0)


def _out_of_range(field: str, given: object, settings: Settings) -> UnprocessableInput:
    limits = {"max_best_of": settings.max_best_of, "max_top_tokens": _MAX_TOP_TOKENS}
    return UnprocessableInput(_RANGES[field].format(given=given, **limits))


def start(
    pipeline: TextGeneration, ids: Ids, parameters: Parameters, settings: Settings, *, include_stop: bool = True
) -> Started:
    """A text for the tokens of an input (P,), which fills what the model can hold when the request names no length, up
    to a setting. Beams that the request does not ask for are left out: no token is settled before they end.

    Raises UnprocessableInput when it does not fit.
    """
    if not ids.size:
        raise UnprocessableInput("`inputs` cannot be empty")
    limits = limits_of(pipeline)
    given = len(ids)
    if parameters.truncate is not None:
        if limits.inputs is not None and parameters.truncate > limits.inputs:
            raise UnprocessableInput(
                f"`truncate` must be strictly positive and less than {limits.inputs + 1}. Given: {parameters.truncate}"
            )
        ids = pipeline.last_tokens(ids, parameters.truncate)
    if limits.inputs is not None and len(ids) > limits.inputs:
        raise UnprocessableInput(f"`inputs` must have less than {limits.inputs + 1} tokens. Given: {len(ids)}")
    room = settings.max_new_tokens if limits.answer is None else min(settings.max_new_tokens, limits.answer)
    if limits.total is not None:
        if len(ids) + (parameters.max_new_tokens or 0) > limits.total:
            raise UnprocessableInput(
                f"`inputs` tokens + `max_new_tokens` must be <= {limits.total}. Given: {len(ids)} `inputs` tokens and "
                f"{parameters.max_new_tokens} `max_new_tokens`"
            )
        room = min(room, limits.total - len(ids))
    if parameters.max_new_tokens is None and parameters.max_length is None:
        # a smallest length that was asked for is an answer too
        parameters = dataclasses.replace(parameters, max_new_tokens=max(room, parameters.min_new_tokens or 0))
    options = pipeline.options(dataclasses.replace(parameters, num_beams=parameters.num_beams or 1))
    composition = pipeline.compose(ids, parameters, options, include_stop=include_stop)
    started = Started(composition, len(ids), given - len(ids))
    started.note(pipeline.model)
    return started


def encode(pipeline: TextGeneration, text: str) -> Ids:
    """The tokens of a text (P,), all of them."""
    # one window without a limit: `encode` would cut
    (whole,) = pipeline.model.tokenizer.windows(text, stride=0, max_tokens=2**62)
    return whole.ids


def limits_of(pipeline: TextGeneration) -> Limits:
    """What the model can hold. One with an encoder has a row for what it reads, and another for the answer."""
    return manifest_limits(pipeline.model.bundle.manifest)


def manifest_limits(manifest: Manifest) -> Limits:
    """The same of a model that need not be loaded."""
    if manifest.generation is None or manifest.text is None:
        return Limits(None, None, None)
    capacity = manifest.generation.max_length
    if "encoder" not in manifest.graphs:
        return Limits(None if capacity is None else capacity - 1, None, capacity)
    inputs = manifest.text.max_tokens
    answer = None if capacity is None else capacity - len(manifest.generation.decoder_prompt)
    return Limits(inputs, answer, None if inputs is None or answer is None else inputs + answer)


def events(
    pipeline: TextGeneration, started: Started, *, details: bool, prefix: str
) -> Generator[bytes | None, None, None]:
    """An event for each token of one text; the last has the whole text behind `prefix`. None is a step without one."""
    pieces = [prefix]
    with contextlib.closing(interleave([started.composition])) as steps:
        for step in steps:
            if not step:
                yield None
            for _, _, token in step:
                pieces.append(token.text)
                yield event(_describe(pipeline, started, token, pieces, details=details))


def _describe(
    pipeline: TextGeneration, started: Started, token: Token, pieces: list[str], *, details: bool
) -> dict[str, Any]:
    count = len(pieces) - 1
    data: dict[str, Any] = {
        "index": count,
        "token": {"id": token.id, "text": token.shown, "logprob": token.logprob, "special": token.special},
    }
    if token.top:
        data["top_tokens"] = plain(pipeline.likeliest(token.top))
    data["generated_text"] = data["details"] = None
    if token.finish_reason is not None:
        data["generated_text"] = "".join(pieces)
        if details:
            (text, *_) = started.composition.texts()
            data["details"] = {
                "finish_reason": token.finish_reason,
                "generated_tokens": count,
                "seed": text.seed,
                "input_length": started.prompt_tokens,
            }
    return data


def headers(served: Served, started: Started, inputs: str) -> dict[str, str]:
    """What is known of an answer before it begins."""
    known = {
        "x-compute-type": served.device,
        "x-compute-characters": str(len(inputs)),
        "x-prompt-tokens": str(started.prompt_tokens),
        "x-sha": served.sha,
    }
    return known | ({"x-truncated": str(started.cut)} if started.cut else {})


def text_of(inputs: object) -> str:
    """The one text of a request. Raises InvalidInput."""
    if not isinstance(inputs, str):
        raise FieldError("inputs", "expected one text as a string")
    if not inputs:
        raise InvalidInput("`inputs` cannot be empty")
    return inputs
