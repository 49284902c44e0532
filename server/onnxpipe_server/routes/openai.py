"""OpenAI's routes, for the default model under /v1 and for each under /models/{id}/v1."""

import contextlib
import functools
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import orjson
from fastapi import APIRouter, Depends, Request, Response

from onnxpipe.errors import UnprocessableInput
from onnxpipe.generation.decoder import Ids
from onnxpipe.generation.writer import Composition
from onnxpipe.text.chat import read_messages
from onnxpipe.version import __version__
from onnxpipe_server import contract, tgi
from onnxpipe_server.body import read_body
from onnxpipe_server.models import Models, Served
from onnxpipe_server.openai import forms, requests, responses, tools
from onnxpipe_server.openapi import Operation
from onnxpipe_server.settings import Settings
from onnxpipe_server.sse import Opening, Parts, Reply, event
from onnxpipe_server.status import OPENAI, TemplateRefused, speak
from onnxpipe_server.workers import Workers
from onnxpipe_server.writing import interleave

# What an endpoint does with a body, for the model that its path names, or the one that the body does.
_Endpoint = Callable[[Models, str | None, Settings, bytes], Parts]

OPERATIONS = tuple(
    Operation(prefix + path, summary, request, response, streams=True, error=forms.ProblemReport)
    for path, summary, request, response in (
        ("/v1/chat/completions", "Answer messages", requests.ChatRequest, forms.ChatCompletion),
        ("/v1/completions", "Continue texts", requests.CompletionRequest, forms.Completion),
    )
    for prefix in ("", "/models/{model_id}")
)


def make_router(models: Models, settings: Settings, writers: Workers) -> APIRouter:
    """The routes. `writers` are for requests that write text."""
    router = APIRouter(include_in_schema=False, dependencies=[Depends(speak(OPENAI))])
    started = int(time.time())

    async def respond(endpoint: _Endpoint, request: Request, model_id: str | None) -> Response:
        body = await read_body(request, settings.max_body_bytes)
        return Reply(writers, functools.partial(endpoint, models, model_id, settings, body))

    @router.post("/v1/chat/completions")
    async def chat_default(request: Request) -> Response:
        return await respond(chat, request, None)

    @router.post("/v1/completions")
    async def complete_default(request: Request) -> Response:
        return await respond(complete, request, None)

    @router.post("/models/{model_id:path}/v1/chat/completions")
    async def chat_one(request: Request, model_id: str) -> Response:
        return await respond(chat, request, model_id)

    @router.post("/models/{model_id:path}/v1/completions")
    async def complete_one(request: Request, model_id: str) -> Response:
        return await respond(complete, request, model_id)

    @router.get("/v1/models")
    async def list_models() -> Response:
        return _json({"object": "list", "data": [_describe(served, started) for served in models.all()]})

    @router.get("/v1/models/{model_id:path}")
    async def show_model(model_id: str) -> Response:
        return _json(_describe(models.find(model_id), started))

    return router


def chat(models: Models, model_id: str | None, settings: Settings, body: bytes) -> Parts:
    """Answers to messages, step by step."""
    data = contract.parse_object(body)
    # without any template the refusal below says so
    if model_id:
        served = models.find(model_id)
    elif any(one.chats for one in models.all()):
        served = models.choose(data.get("model"), lambda one: one.chats, "answers messages")
    else:
        served = models.choose_writer(data.get("model"))
    pipeline, tokenizer = served.generator, served.model.tokenizer
    request = requests.read_chat(data, settings)
    use = tools.read_tool_use(list(request.tools), request.tool_choice)
    if use is not None:
        request = requests.with_grammar(request, use.grammar())
    started = tgi.start(pipeline, _chat_prompt(served, request, use), request, settings, include_stop=False)
    answers = [
        responses.ChatAnswer(index, use.reader() if use else tools.TextReader(), tokenizer, logprobs=request.logprobs)
        for index in range(request.choices)
    ]
    head = responses.Head.make("chatcmpl", served.id, _fingerprint(served))
    if not request.stream:
        yield from _written([started.composition])
        for answer, written in zip(answers, started.composition.texts(), strict=False):
            for token in written.tokens:
                answer.add(token)
        usage = responses.usage_of(started.prompt_tokens, started.new_tokens)
        whole = head.wrap("chat.completion", [answer.whole() for answer in answers], usage)
        yield _json(whole, _headers(served, started))
        return
    yield Opening(_headers(served, started))
    begun = False
    with contextlib.closing(interleave([started.composition])) as steps:
        for step in steps:
            choices = [choice for _, number, token in step for choice in answers[number].add(token)]
            if step and not begun:
                begun = True
                choices = [answer.begin() for answer in answers] + choices
            yield _chunks(head, "chat.completion.chunk", choices)
    yield _ending(head, "chat.completion.chunk", request, started.prompt_tokens, started.new_tokens)


def complete(models: Models, model_id: str | None, settings: Settings, body: bytes) -> Parts:
    """How texts go on, step by step."""
    data = contract.parse_object(body)
    served = models.find(model_id) if model_id else models.choose_writer(data.get("model"))
    pipeline, tokenizer = served.generator, served.model.tokenizer
    request = requests.read_completion(data, settings)
    vocabulary = pipeline.vocabulary_size
    prompts = [
        tgi.encode(pipeline, prompt)
        if isinstance(prompt, str)
        else np.array(requests.check_tokens(prompt, vocabulary), np.int64)
        for prompt in requests.prompts_of(request)
    ]
    all_started = [tgi.start(pipeline, prompt, request, settings, include_stop=False) for prompt in prompts]
    count = request.choices
    answers = [
        responses.TextAnswer(index, tokenizer, logprobs=request.logprobs) for index in range(len(prompts) * count)
    ]
    head = responses.Head.make("cmpl", served.id, _fingerprint(served))
    compositions = [started.composition for started in all_started]
    prompt_tokens = sum(started.prompt_tokens for started in all_started)
    if not request.stream:
        yield from _written(compositions)
        for number, composition in enumerate(compositions):
            for answer, written in zip(answers[number * count :][:count], composition.texts(), strict=False):
                for token in written.tokens:
                    answer.add(token)
        usage = responses.usage_of(prompt_tokens, sum(started.new_tokens for started in all_started))
        whole = head.wrap("text_completion", [answer.whole() for answer in answers], usage)
        yield _json(whole, _headers(served, *all_started))
        return
    yield Opening(_headers(served, *all_started))
    with contextlib.closing(interleave(compositions)) as steps:
        for step in steps:
            choices = [choice for number, text, token in step for choice in answers[number * count + text].add(token)]
            yield _chunks(head, "text_completion", choices)
    yield _ending(head, "text_completion", request, prompt_tokens, sum(started.new_tokens for started in all_started))


def _chat_prompt(served: Served, request: requests.ChatRequest, use: tools.ToolUse | None) -> Ids:
    """The tokens of the messages. Raises TemplateRefused where there is no template, or it does not take them."""
    if not served.chats:
        raise TemplateRefused(f"{served.id} has no chat template; /v1/completions takes its prompts as they are")
    messages = read_messages(list(request.messages))
    listed = None if use is None else use.tools
    if listed and not served.tells_of_tools:
        messages, listed = tools.tell_of_tools(messages, listed, request.tool_prompt), None
    try:
        return served.chat.ids(messages, tools=listed)
    except UnprocessableInput as error:
        raise TemplateRefused(str(error)) from None


def _written(compositions: Sequence[Composition]) -> Parts:
    """Write all of them to their ends."""
    with contextlib.closing(interleave(compositions)) as steps:
        for _ in steps:
            yield None


def _chunks(head: responses.Head, kind: str, choices: list[responses.Json]) -> bytes | None:
    """An event for each choice; None for none."""
    return b"".join(event(head.wrap(kind, [choice], None)) for choice in choices) or None


def _ending(head: responses.Head, kind: str, request: requests.Common, prompt_tokens: int, new_tokens: int) -> bytes:
    usage = b""
    if request.stream_options.include_usage:
        usage = event(head.wrap(kind, [], responses.usage_of(prompt_tokens, new_tokens)))
    return usage + b"data: [DONE]\n\n"


def _headers(served: Served, *started: tgi.Started) -> dict[str, str]:
    cut = sum(one.cut for one in started)
    return {
        "x-compute-type": served.device,
        "x-prompt-tokens": str(sum(one.prompt_tokens for one in started)),
        "x-sha": served.sha,
        **({"x-truncated": str(cut)} if cut else {}),
    }


def _fingerprint(served: Served) -> str:
    return f"onnxpipe-{__version__}-{served.model.precision}-{served.sha[:12]}"


def _describe(served: Served, created: int) -> responses.Json:
    owner = served.id.partition("/")[0] if "/" in served.id else "onnxpipe"
    return {"id": served.id, "object": "model", "created": created, "owned_by": owner}


def _json(value: responses.Json, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), headers=headers, media_type="application/json")
