"""huggingface_hub's asynchronous client behind the face of the other one, so that one test asks both."""

import asyncio
from collections.abc import Callable


class AwaitingClient:
    """Every call runs to its end, in an event loop and with a client of its own; a stream becomes a list."""

    def __init__(self, **options: object) -> None:
        self._options = options

    def __getattr__(self, method: str) -> Callable[..., object]:
        return lambda *args, **options: asyncio.run(self._call(method, args, options))

    async def _call(self, method: str, args: tuple[object, ...], options: dict[str, object]) -> object:
        from huggingface_hub import AsyncInferenceClient

        async with AsyncInferenceClient(**self._options) as client:
            answer = await getattr(client, method)(*args, **options)
            return [item async for item in answer] if hasattr(answer, "__aiter__") else answer


def client_of(kind: str) -> Callable[..., object]:
    """The "sync" or "async" client's class."""
    import huggingface_hub
    import pytest

    if kind == "sync":
        return huggingface_hub.InferenceClient
    if huggingface_hub.__version__.startswith("0."):
        pytest.importorskip("aiohttp", reason="the asynchronous client of this release stands on it")
    return AwaitingClient
