"""A local Ray with two replicas of a model, one of which is killed under load; prints what came of it as JSON.

python ray_under_load.py FOLDER
"""

import collections
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import httpx
import ray
from ray import serve

from conftest import word_tokenizer, write_bundle
from onnxpipe.sections import Embedding
from onnxpipe_server.ray_app import build
from tiny_graphs import encoder

LOAD_S, KILL_S, CLIENTS = 6.0, 1.5, 8


def replicas() -> list[int]:
    """The numbers of the processes that are replicas of the model."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_text()
        except OSError:
            continue
        if line.startswith("ray::ServeReplica:default:tiny"):
            found.append(int(folder.name))
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    (folder / "tiny").mkdir()
    write_bundle(
        folder / "tiny",
        encoder(),
        ("feature-extraction", "sentence-similarity"),
        embedding=Embedding(pooling=("mean",)),
        tokenizer=word_tokenizer(),
    )
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
    serve.start(http_options={"port": int(sys.argv[2])})
    serve.run(build({"models": str(folder), "min_replicas": 2, "max_replicas": 2, "cpus": 0.5, "model_cache": None}))
    url = f"http://127.0.0.1:{sys.argv[2]}"
    statuses: collections.Counter[int | str] = collections.Counter()
    answers: set[str] = set()
    end = time.monotonic() + LOAD_S
    # long enough that a replica is always at work on some of them
    body = {"inputs": ["one two " * 200] * 64, "options": {"use_cache": False}}

    def load() -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            while time.monotonic() < end:
                try:
                    response = client.post("/models/tiny/pipeline/feature-extraction", json=body)
                except httpx.HTTPError as error:
                    statuses[type(error).__name__] += 1
                else:
                    statuses[response.status_code] += 1
                    answers.add(response.text)

    before = replicas()
    threads = [threading.Thread(target=load) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    time.sleep(KILL_S)
    os.kill(before[0], signal.SIGKILL)
    for thread in threads:
        thread.join()
    deadline = time.monotonic() + 30
    while len(set(replicas()) - {before[0]}) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    with httpx.Client(base_url=url, timeout=30) as client:
        seen = {path: client.get(path).status_code for path in ("/health", "/health/ready", "/models", "/v1/models")}
        states = [model["state"] for model in client.get("/models").json()]
        embedded = client.post("/v1/embeddings", json={"input": "one", "model": "tiny"}).status_code
        unknown = client.post("/models/nobody", json={"inputs": "one"})
    print(
        json.dumps(
            {
                "before": len(before),
                "after": len(set(replicas()) - {before[0]}),
                "statuses": statuses,
                "answers": len(answers),
                "routes": seen,
                "states": states,
                "embedded": embedded,
                "unknown": [unknown.status_code, unknown.json()],
            }
        )
    )
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
