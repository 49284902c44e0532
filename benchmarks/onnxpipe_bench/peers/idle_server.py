"""Our server over a model whose runs cost nothing: what is left is HTTP, JSON, tokenising and pooling.

`python -m onnxpipe_bench.peers.idle_server BUNDLE`, on a free port, for an encoder of texts.
"""

import dataclasses
import sys
from collections.abc import Mapping

import numpy as np
import uvicorn

from onnxpipe.load import load_model, make_pipeline
from onnxpipe.pipeline import Model
from onnxpipe.session import Array, Arrays
from onnxpipe_server.app import create_app
from onnxpipe_server.cli import listen, server_options
from onnxpipe_server.models import Models, Served
from onnxpipe_server.scheduler import Scheduler
from onnxpipe_server.settings import Settings


class Idle:
    """An engine that answers with the same numbers at once."""

    device = "cpu"
    threads = 1

    def __init__(self, width: int) -> None:
        self._hidden = np.random.default_rng(0).standard_normal((1, 512, width)).astype(np.float32)

    def run(self, feeds: Mapping[str, Array]) -> Arrays:
        """A hidden state for each token, of a batch of one."""
        return {"last_hidden_state": self._hidden[:, : feeds["input_ids"].shape[1]]}


def idle_model(path: str) -> Model:
    """The bundle's model without its graph."""
    model = load_model(path)
    width = model.graph().outputs[0].shape[-1]
    variant = dataclasses.replace(model.variant, batch_invariant=False)
    return dataclasses.replace(model, variant=variant, sessions={"model": Idle(int(width))})


if __name__ == "__main__":
    shared = dataclasses.replace(idle_model(sys.argv[1]), runner=Scheduler().runner())
    served = Served(shared, {task: make_pipeline(shared, task) for task in shared.bundle.manifest.tasks})
    app = create_app(Models([served]), Settings())
    with listen("127.0.0.1", 0) as listener:
        print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        uvicorn.Server(uvicorn.Config(app, **server_options("warning"))).run(sockets=[listener])
