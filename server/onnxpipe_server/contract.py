"""The classic Inference API on the wire: body bytes to a checked call, and its answer back to bytes and headers.

Nothing here knows of HTTP routes or of single tasks: what a task takes and gives is read off its pipeline's types.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args

import orjson

from onnxpipe.audio.waveform import Audio, Limits
from onnxpipe.errors import InvalidInput
from onnxpipe.media import decode_base64
from onnxpipe.pipeline import Answer, AnyPipeline, WireForm
from onnxpipe.records import FieldError, Record, plain, read, show
from onnxpipe_server.status import NotFinite

_PARTS = ("inputs", "parameters", "options")
_SWITCH = {"true": True, "1": True, "false": False, "0": False}
# what the classic API has beside the ranges of the tasks themselves
_CLASSIC_RANGES = {"min_length": (1, 500), "max_length": (1, 500)}


@dataclasses.dataclass(frozen=True)
class Envelope:
    """What a body says, before any task has looked at it. `parameters` holds names no task may know."""

    inputs: object
    parameters: Mapping[str, object]
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Call:
    """A request that fits a pipeline: checked inputs and parameters. `single` when it did not give a list."""

    pipeline: AnyPipeline
    inputs: Sequence[Any]  # of the pipeline's input type
    parameters: Record
    single: bool


def parse(body: bytes, content_type: str) -> Envelope:
    """The request in a body. Raises InvalidInput when it is not UTF-8, empty, or JSON that does not parse."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the body is not UTF-8 text: {error}") from None
    stripped = text.strip()
    if not stripped:
        raise InvalidInput('the body is empty; expected JSON such as {"inputs": "..."}')
    try:
        value = orjson.loads(stripped)
    except orjson.JSONDecodeError as error:
        if _declares_json(content_type) or stripped.startswith(("{", "[")):
            raise InvalidInput(f"the body is not valid JSON: {error}") from None
        return Envelope(text, {})
    if isinstance(value, dict):
        return _open_envelope(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Envelope(stripped if is_number else value, {})


def parse_media(body: bytes, content_type: str, read_url: Callable[[str], bytes] | None = None) -> Envelope:
    """The request in a body for a model that takes files: JSON with base64 (one or a list), else the file itself.

    With `read_url` an http or https address may stand in the place of base64. Raises InvalidInput when the body is
    empty, JSON that does not parse, or what it holds is not base64, and what `read_url` does.
    """
    if not body:
        raise InvalidInput("the body is empty; expected a file's content, or JSON with it as base64")
    if not (_declares_json(content_type) or body.lstrip()[:1] in (b"{", b"[", b'"')):
        return Envelope(body, {})
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body is not valid JSON: {error}") from None
    envelope = Envelope(value, {})
    if isinstance(value, dict):
        file = value.get("image", value.get("inputs"))
        if file is None:
            raise FieldError("inputs", "required, but missing")
        envelope = _open_envelope({name: part for name, part in value.items() if name != "image"} | {"inputs": file})
    files = envelope.inputs
    decoded = [_decode(item, read_url) for item in files] if isinstance(files, list) else _decode(files, read_url)
    return dataclasses.replace(envelope, inputs=decoded)


def open_audio(envelope: Envelope, limits: Limits) -> Envelope:
    """The same with its files opened as sound. Raises InvalidInput when one is none or beyond the limits."""
    files = envelope.inputs
    opened = [Audio.read(file, limits) for file in files] if isinstance(files, list) else Audio.read(files, limits)
    return dataclasses.replace(envelope, inputs=opened)


def _decode(item: object, read_url: Callable[[str], bytes] | None) -> bytes:
    """The file in base64: never a path, and an address only with what reads those."""
    if not isinstance(item, str):
        raise FieldError("inputs", f"expected base64, given {show(item)}")
    try:
        if read_url is not None and item[:8].lower().startswith(("http://", "https://")):
            return read_url(item)
        return decode_base64(item)
    except InvalidInput as error:
        raise FieldError("inputs", str(error)) from None


def parse_object(body: bytes) -> dict[str, object]:
    """The JSON object in a body. Raises InvalidInput when it is anything else."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidInput(f"expected a JSON object, given {show(value)}")
    return value


def bind(envelope: Envelope, pipelines: Sequence[AnyPipeline]) -> Call:
    """The call of the first pipeline whose input type fits. Raises InvalidInput: the first pipeline's own reason."""
    pipeline, inputs = match(envelope, pipelines)
    return make_call(envelope, pipeline, inputs, read_parameters(pipeline, envelope.parameters))


def match(envelope: Envelope, pipelines: Sequence[AnyPipeline]) -> tuple[AnyPipeline, Sequence[Any]]:
    """The first pipeline whose input type fits, and its checked inputs. Raises InvalidInput as `bind` does."""
    inputs: Any = envelope.inputs  # whatever JSON holds: `is_single` tells whether it is a list of inputs
    reasons = []
    for pipeline in pipelines:
        items = [inputs] if pipeline.is_single(inputs) else inputs
        try:
            return pipeline, _check_inputs(pipeline, items)
        except InvalidInput as error:
            reasons.append(error)
    raise reasons[0]


def make_call(envelope: Envelope, pipeline: AnyPipeline, inputs: Sequence[Any], parameters: Record) -> Call:
    """The call of a pipeline that matched."""
    return Call(pipeline, inputs, parameters, pipeline.is_single(envelope.inputs))


def read_parameters(pipeline: AnyPipeline, parameters: Mapping[str, object]) -> Record:
    """The parameters of a task, unknown names ignored. Raises FieldError."""
    cls: type[Record] = pipeline.types()[1]
    try:
        return read(cls, parameters, ignore_unknown=True)
    except FieldError as error:
        raise error.inside("parameters") from None


def check_classic_ranges(parameters: Record) -> None:
    """Raise FieldError for a length that the classic API refuses, where a task has such parameters."""
    for name, (least, most) in _CLASSIC_RANGES.items():
        value = getattr(parameters, name, None)
        if value is not None and not least <= value <= most:
            raise FieldError(f"parameters.{name}", f"expected an integer from {least} to {most}, given {value}")


def read_switch(envelope: Envelope, headers: Mapping[str, str], name: str, *, default: bool) -> bool:
    """An option that is on or off: by its header, such as x-use-cache, else as the body has it. Raises FieldError."""
    header = f"x-{name.replace('_', '-')}"
    place, value = (header, headers[header]) if header in headers else (f"options.{name}", envelope.options.get(name))
    if value is None:
        return default
    known = _SWITCH.get(str(value).strip().lower())
    if known is None:
        raise FieldError(place, f"expected true or false, given {show(value)}")
    return known


def choose_form(pipeline: AnyPipeline, headers: Mapping[str, str]) -> WireForm | None:
    """The form a client wants results in, None for the classic one: by `x-output-format`, else by its `user-agent`.

    Raises InvalidInput for a format there is none of. `headers` has lower-case names.
    """
    form = pipeline.tasks_form
    if form is None:
        return None
    requested = headers.get("x-output-format", "").lower()
    if requested not in ("", "legacy", "tasks"):
        raise FieldError("x-output-format", f"expected 'legacy' or 'tasks', given {show(requested)}")
    agent = headers.get("user-agent", "")
    newer = any(_version(agent, product) >= first for product, first in form.clients.items())
    return form if requested == "tasks" or (newer and not requested) else None


def render(call: Call, answer: Answer[Any], form: WireForm | None = None) -> bytes:
    """The answer's JSON: one result for a single input, else a list of them. Raises NotFinite for NaN or infinity."""
    results: list[Any] = answer.results if form is None else [form.convert(result) for result in answer.results]
    flat = call.single and not call.pipeline.nested
    if call.pipeline.joined and not call.single and all(len(result) == 1 for result in results):
        results = [result[0] for result in results]
    return to_json(results[0] if flat else results)


def to_json(value: object) -> bytes:
    """The JSON of records, arrays and what holds them. Raises NotFinite for NaN or infinity."""
    # `plain` leaves out the empty optional fields of records, which orjson on its own would write as null
    body = orjson.dumps(value, default=plain, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATACLASS)
    if b"null" in body:  # so orjson writes NaN and infinity; only then is a second look worth its time
        try:
            json.dumps(plain(value), allow_nan=False)
        except ValueError:
            raise NotFinite("the model's answer to these inputs holds NaN or infinity") from None
    return body


def answer_headers(answer: Answer[Any]) -> dict[str, str]:
    """What the answer says about its own making."""
    seconds = (answer.preprocess_ms + answer.infer_ms + answer.postprocess_ms) / 1e3
    headers = {
        "x-compute-time": f"{seconds:.3f}",
        "x-tokenization-time": f"{answer.preprocess_ms:.0f}",
        "x-inference-time": f"{answer.infer_ms:.0f}",
    }
    if answer.truncated_tokens:
        headers["x-truncated"] = str(answer.truncated_tokens)
    if answer.warnings:
        headers["x-warnings"] = json.dumps(answer.warnings)  # ASCII only, line ends escaped
    return headers


def input_headers(envelope: Envelope, answer: Answer[Any], media_kind: str | None) -> dict[str, str]:
    """How much was given: the length of all strings together and their tokens, how many files, or seconds of sound."""
    if media_kind is None:
        characters = sum(map(len, _strings(envelope.inputs)))
        return {"x-compute-characters": str(characters), "x-compute-tokens": str(answer.elements)}
    files = envelope.inputs if isinstance(envelope.inputs, list) else [envelope.inputs]
    if media_kind == Audio.kind:
        seconds = sum(file.seconds or 0.0 for file in files if isinstance(file, Audio))
        return {"x-compute-audio-length": f"{seconds:.3f}"}
    return {f"x-compute-{media_kind}s": str(len(files))}


def _version(agent: str, product: str) -> tuple[int, ...]:
    """The version of a product in a user-agent header, empty without one."""
    found = re.search(rf"(?<![^\s;]){re.escape(product)}/(\d{{1,9}}(?:\.\d{{1,9}})*)", agent)
    return tuple(map(int, found[1].split("."))) if found else ()


def _declares_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def _open_envelope(body: dict[str, object]) -> Envelope:
    """The body's parts. Without `inputs` the other fields are the inputs; those fields count as parameters too."""
    given = body.get("parameters")
    if given is not None and not isinstance(given, dict):
        raise FieldError("parameters", f"expected an object, given {show(given)}")
    others = {name: value for name, value in body.items() if name not in _PARTS}
    inputs = body.get("inputs")
    if inputs is None and not others:
        raise FieldError("inputs", "required, but missing")
    options = body.get("options")
    return Envelope(
        others if inputs is None else inputs,
        _without_null(given or {}) | _without_null(others),
        options if isinstance(options, dict) else {},
    )


def _without_null(parameters: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in parameters.items() if value is not None}


def _check_inputs(pipeline: AnyPipeline, items: Sequence[object]) -> Sequence[Any]:
    known = _field_names(pipeline.types()[0])
    return pipeline.check_inputs([_keep(item, known) for item in items])


def _field_names(annotation: Any) -> set[str]:  # a class or a union
    """The fields of the records among the types of one input, under all their names."""
    records = [cls for cls in (annotation, *get_args(annotation)) if isinstance(cls, type) and issubclass(cls, Record)]
    fields = [field for record in records for field in dataclasses.fields(record)]
    return {name for field in fields for name in (field.name, *field.metadata.get("aliases", ()))}


def _keep(item: object, names: set[str]) -> object:
    """An input without the fields its record does not have: clients send leftovers."""
    if names and isinstance(item, Mapping):
        return {name: value for name, value in item.items() if name in names}
    return item


def _strings(inputs: object) -> Iterator[str]:
    pending = [inputs]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            pending.extend(item.values())
        elif isinstance(item, list | tuple):
            pending.extend(item)
