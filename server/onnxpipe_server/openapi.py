"""The OpenAPI document, made from the tasks' own types, so that it cannot tell anything else than the code does.

Version 3.0.3: the Swagger UI that swagger_ui_bundle ships reads no 3.1.
"""

import dataclasses
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, get_origin, get_type_hints

import numpy as np
from fastapi.openapi.utils import get_openapi
from pydantic import Field, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema
from starlette.routing import BaseRoute
from typing_extensions import TypeAliasType

from onnxpipe.media import Media
from onnxpipe.pipeline import AnyPipeline
from onnxpipe.records import plain
from onnxpipe.tasks.text_generation import TextGeneration
from onnxpipe.version import __version__
from onnxpipe_server.models import Served
from onnxpipe_server.status import Error

Json = dict[str, Any]  # a JSON object: nothing more to say about it that mypy could follow
Numbers = TypeAliasType("Numbers", "list[float | Numbers]")  # an array of any number of axes

_EVENTS: Json = {"schema": {"type": "string", "description": "Server-sent events, each with an object in JSON."}}
_ERRORS = {
    "400": "The body, its inputs or its parameters are wrong",
    "401": "The server wants a token, or knows of no such one",
    "403": "The token may not do this, or the model does not fit into the memory for models",
    "404": "No model of that name is served",
    "408": "The body did not come in time",
    "413": "The body is over the limit",
    "415": "No decoder for such a file is installed",
    "422": "Well-formed, but this model cannot honour it",
    "424": "The model is of another kind than the route, or it failed",
    "429": "More requests than the limits allow; try again later",
    "500": "The model or the server failed",
    "503": "The model is being loaded; try again later",
    "504": "The time for the answer is over",
}
# of the roles that types have: what is sent may be null
_SENT = ("response", "error")


@dataclasses.dataclass(frozen=True)
class Operation:
    """A POST route that belongs to no single task. `response` None: only events; `streams`: events if asked for."""

    path: str
    summary: str
    request: Any  # a type
    response: Any  # a type or a generic alias
    streams: bool = False
    error: Any = Error
    tag: str = "generation"


def make_document(routes: Sequence[BaseRoute], models: Sequence[Served], operations: Sequence[Operation] = ()) -> Json:
    """The document of those `routes` that want to be in it, of every task of every model, and of `operations`."""
    served = [(one, task) for one in models for task in one.kinds]
    types = [
        *(
            ((one.id, task, role), annotation)
            for one, task in served
            for role, annotation in _annotations(one.kinds[task]).items()
        ),
        *(((one.path, "", "request"), one.request) for one in operations),
        *(((one.path, "", "response"), one.response) for one in operations if one.response is not None),
        *(((one.path, "", "error"), one.error) for one in operations),
    ]
    references, definitions = TypeAdapter.json_schemas(
        [(key, _mode(key[-1]), TypeAdapter(_documented(annotation))) for key, annotation in types],
        schema_generator=_Generator,
        ref_template="#/components/schemas/{model}",
    )
    document: Json = _nullable(
        get_openapi(title="onnxpipe", version=__version__, openapi_version="3.0.3", routes=routes)
    )
    for one, task in served:
        roles = _annotations(one.kinds[task])
        schemas = {role: references[(one.id, task, role), "validation"] for role in roles}
        document["paths"].setdefault(_path(one, task), {})["post"] = _operation(one, task, schemas)
    for operation in operations:
        schemas = {
            role: schema
            for role in ("request", *_SENT)
            if (schema := references.get(((operation.path, "", role), _mode(role))))
        }
        document["paths"].setdefault(operation.path, {})["post"] = _describe(operation, schemas)
    document["components"]["schemas"].update(definitions.get("$defs", {}))
    return document


def _mode(role: str) -> JsonSchemaMode:
    return "serialization" if role in _SENT else "validation"


def _nullable(value: Any) -> Any:  # JSON
    """What may be null, as OpenAPI 3.0 spells it: FastAPI writes 3.1."""
    if isinstance(value, list):
        return [_nullable(item) for item in value]
    if not isinstance(value, dict):
        return value
    choices = value.get("anyOf", [])
    if {"type": "null"} in choices:
        rest = [choice for choice in choices if choice != {"type": "null"}]
        others = {name: item for name, item in value.items() if name != "anyOf"}
        value = {**others, **(rest[0] if len(rest) == 1 else {"anyOf": rest}), "nullable": True}
    return {name: _nullable(item) for name, item in value.items() if name != "default" or item is not None}


class _Generator(GenerateJsonSchema):
    """JSON schema as OpenAPI 3.0 spells it: no null, no const, exclusive bounds as flags."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """What is not null, for a null parameter counts as absent; what other dialects are sent may be."""
        inner = self.generate_inner(schema["schema"])
        if self.mode == "validation":
            return inner
        return {"allOf": [inner], "nullable": True} if "$ref" in inner else {**inner, "nullable": True}

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """No default where it is null."""
        described = super().default_schema(schema)
        return {name: value for name, value in described.items() if name != "default" or value is not None}

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        """A list of choices, even if there is one."""
        described = super().literal_schema(schema)
        if "const" in described:
            described["enum"] = [described.pop("const")]
        return described

    def update_with_validations(
        self,
        json_schema: JsonSchemaValue,
        core_schema: core_schema.CoreSchema,
        mapping: dict[str, str],
    ) -> None:
        """Bounds: `exclusiveMinimum: 0` becomes `minimum: 0, exclusiveMinimum: true`."""
        super().update_with_validations(json_schema, core_schema, mapping)
        for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            if exclusive in json_schema:
                json_schema[bound], json_schema[exclusive] = json_schema[exclusive], True


def _annotations(pipeline: type[AnyPipeline]) -> Json:
    """What a task takes and gives, by role: the types that its class line states, and that of its second form."""
    annotations: Json = dict(zip(("inputs", "parameters", "result"), pipeline.types(), strict=True))
    if pipeline.tasks_form:
        annotations["tasks_form"] = get_type_hints(pipeline.tasks_form.convert)["return"]
    return annotations


def _documented(annotation: Any) -> Any:  # annotations: classes, unions, aliases
    """The annotation as pydantic can read it."""
    if isinstance(annotation, type) and issubclass(annotation, Media):
        return Annotated[str, Field(description=f"The {annotation.kind} file in base64, or as a data: URL.")]
    return Numbers if get_origin(annotation) is np.ndarray else annotation


def _path(served: Served, task: str) -> str:
    """The shortest route of a task."""
    own = next(iter(served.kinds))
    return f"/models/{served.id}" if task == own else f"/models/{served.id}/pipeline/{task}"


def _operation(served: Served, task: str, schemas: Mapping[str, Json]) -> Json:
    pipeline = served.kinds[task]
    request: Json = {
        "type": "object",
        "properties": {
            "inputs": {"anyOf": [schemas["inputs"], {"type": "array", "items": schemas["inputs"]}]},
            "parameters": schemas["parameters"],
        },
        "required": ["inputs"],
    }
    forms = [schemas[role] for role in ("result", "tasks_form") if role in schemas]
    lists: list[Json] = [{"type": "array", "items": form} for form in forms]
    choices = lists if pipeline.nested else forms + lists
    response = choices[0] if len(choices) == 1 else {"anyOf": choices}
    content, answer = _content(request), _content(response)
    if issubclass(pipeline, TextGeneration):
        described = "Whether the answer comes in events, one for each token."
        request["properties"]["stream"] = {"type": "boolean", "default": False, "description": described}
        answer["text/event-stream"] = _EVENTS
    if kind := pipeline.media_kind():
        content[f"{kind}/*"] = {"schema": {"type": "string", "format": "binary"}}
    for golden in served.golden:
        if golden.task == task:
            content["application/json"]["example"] = plain({"inputs": golden.inputs, "parameters": golden.parameters})
            wrap = pipeline.nested and not isinstance(golden.inputs, list)
            answer["application/json"]["example"] = [golden.expected] if wrap else golden.expected
    return {
        "tags": [served.id],
        "summary": task,
        "operationId": f"{served.id}:{task}",
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {"description": (inspect.getdoc(pipeline) or "").partition("\n")[0], "content": answer},
            **_errors({"$ref": "#/components/schemas/Error"}),  # the schema comes with the other routes
        },
    }


def _describe(operation: Operation, schemas: Mapping[str, Json]) -> Json:
    content = _content(schemas["response"]) if "response" in schemas else {}
    if operation.streams or not content:
        content["text/event-stream"] = _EVENTS
    return {
        "tags": [operation.tag],
        "summary": operation.summary,
        "operationId": operation.path.strip("/").replace("/", "-"),
        "requestBody": {"required": True, "content": _content(schemas["request"])},
        "responses": {"200": {"description": operation.summary, "content": content}, **_errors(schemas["error"])},
        **_path_parameters(operation.path),
    }


def _path_parameters(path: str) -> Json:
    names = re.findall(r"{(\w+)}", path)
    described = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    return {"parameters": described} if described else {}


def _errors(schema: Json) -> Json:
    error = _content(schema)
    return {status: {"description": reason, "content": error} for status, reason in _ERRORS.items()}


def _content(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}
