"""What the encoders beside this file have in common: `python NAME_encoder.py MODEL WORK THREADS FORM`, asked by lines.

MODEL is a folder in hub layout, WORK one where a peer keeps what it makes of it, FORM which of its ways it goes. First
comes a line of JSON with `versions`. Then each line of stdin is `{"texts": [...], "calls": 3, "vectors": false}`, and
its answer `{"ms": [...]}`: milliseconds of each call that embeds all the texts, and their `vectors` where asked for.
What libraries print goes to stderr. Needs nothing of this project.
"""

import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Embed = Callable[[list[str]], Any]  # vectors (B, D), of the library's own kind
BATCH = 32


def answer(make: Callable[[Path, Path, int, str], Embed], packages: Sequence[str]) -> None:
    """Make an encoder of the command line's arguments and ask it until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    model, work, threads, form = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    embed = make(model, work, threads, form)
    print(json.dumps({"versions": installed(packages)}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(embed, json.loads(line))), file=answers, flush=True)


def installed(packages: Sequence[str]) -> dict[str, str]:
    """The versions of those packages that are there."""
    found = {found.metadata["Name"].lower(): found.version for found in importlib.metadata.distributions()}
    return {package: found[package] for package in packages if package in found}


def measure(embed: Embed, request: dict[str, Any]) -> dict[str, Any]:
    """The answer to one line."""
    times = []
    for _ in range(request["calls"]):
        begin = time.perf_counter()
        vectors = embed(request["texts"])
        times.append(1e3 * (time.perf_counter() - begin))
    if request["vectors"]:
        return {"ms": times, "vectors": [[float(value) for value in vector] for vector in vectors]}
    return {"ms": times}


def in_batches(embed: Embed) -> Embed:
    """An encoder that gets its texts by length, 32 at a time: the best that a caller can do with few lines."""

    def embed_all(texts: list[str]) -> list[Any]:
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        vectors: list[Any] = [None] * len(texts)
        for begin in range(0, len(texts), BATCH):
            batch = order[begin : begin + BATCH]
            for index, vector in zip(batch, embed([texts[index] for index in batch]), strict=True):
                vectors[index] = vector
        return vectors

    return embed_all
