"""What the project aims at for embeddings beside other libraries, held against the figures of `peers_speed`."""

from collections.abc import Iterable, Sequence
from typing import Any

Row = dict[str, Any]
_OURS = "onnxpipe int8"
_BARE = "bare int8"
# times ours at one sentence, at every length
_LATENCY = {
    "transformers.js q8": 1.25,
    "sentence-transformers onnx-int8": 1.3,
    "sentence-transformers-openvino openvino": 1.4,
    "sentence-transformers-openvino openvino-int8": 1.4,
}
_OVER_BARE = {"16": 1.10, "64": 1.07, "256": 1.07}


def claims(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Each of the claims that these rows can tell, with the figure found and whether it holds."""
    found = {row["candidate"]: row for row in rows}
    ours, bare = found.get(_OURS), found.get(_BARE)
    told = []
    if ours and bare:
        for tokens, limit in _OVER_BARE.items():
            over = ours["alone_ms"][tokens] / bare["alone_ms"][tokens]
            told.append(_claim(f"{_OURS} to {_BARE}, ms at {tokens} tokens", over, "at most", limit))
        for kind, rate in ours["per_second"].items():
            # text by text or in batches, whichever is faster
            best = max(row["per_second"][kind] for name, row in found.items() if name in (_BARE, f"{_BARE} x 32"))
            told.append(_claim(f"{_OURS} to {_BARE}, {kind} sentences per second", rate / best, "at least", 0.92))
    if ours:
        told += _beside_peers(ours, found)
    return told


def _beside_peers(ours: Row, found: dict[str, Row]) -> Iterable[dict[str, Any]]:
    for name, limit in _LATENCY.items():
        for tokens, ms in ours["alone_ms"].items() if name in found else ():
            ratio = found[name]["alone_ms"][tokens] / ms
            yield _claim(f"{name} to {_OURS}, ms at {tokens} tokens", ratio, "at least", limit)
    others = [row for name, row in found.items() if not name.startswith(("bare ", "onnxpipe "))]
    peers = [row for row in others if row["same_embedding"]]
    for kind, rate in ours["per_second"].items() if peers else ():
        best = max(peers, key=lambda row: row["per_second"][kind])
        name = f"{_OURS} to the best peer ({best['candidate']}), {kind} sentences per second"
        yield _claim(name, rate / best["per_second"][kind], "at least", 1.3)


def _claim(claim: str, found: float, bound: str, limit: float) -> dict[str, Any]:
    holds = found <= limit if bound == "at most" else found >= limit
    return {"claim": claim, "found": round(found, 3), "bound": bound, "limit": limit, "holds": holds}
