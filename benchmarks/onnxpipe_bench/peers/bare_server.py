"""The least that a server of embeddings can do: a Starlette handler around tokenise + session.run + mean.

`python -m onnxpipe_bench.peers.bare_server BUNDLE PRECISION`, on a free port, with uvicorn as `onnxpipe serve` runs it.
"""

import sys
from typing import Any

import numpy as np
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onnxpipe.bundle import open_bundle
from onnxpipe.machine import inspect_machine
from onnxpipe_server.cli import listen, server_options


def make_app(path: str, precision: str) -> Starlette:
    """An application that answers POST / with the embedding of `inputs`."""
    import onnxruntime
    import tokenizers

    bundle = open_bundle(path)
    _, variant = bundle.variant(precision)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = inspect_machine().threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(bundle.file(variant.files["model"])), options)
    tokenizer = tokenizers.Tokenizer.from_file(str(bundle.path / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)

    def embed(body: bytes) -> bytes:
        encoding = tokenizer.encode(orjson.loads(body)["inputs"])
        feeds: dict[str, Any] = {
            "input_ids": np.array([encoding.ids]),
            "attention_mask": np.array([encoding.attention_mask]),
            "token_type_ids": np.array([encoding.type_ids]),
        }
        (hidden,) = session.run(None, feeds)
        return orjson.dumps(hidden[0].mean(axis=0), option=orjson.OPT_SERIALIZE_NUMPY)

    async def answer(request: Request) -> Response:
        return Response(await run_in_threadpool(embed, await request.body()), media_type="application/json")

    return Starlette(routes=[Route("/", answer, methods=["POST"])])


if __name__ == "__main__":
    app = make_app(sys.argv[1], sys.argv[2])
    with listen("127.0.0.1", 0) as listener:
        print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        uvicorn.Server(uvicorn.Config(app, **server_options("warning"))).run(sockets=[listener])
