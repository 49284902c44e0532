"""Which provider really runs the nodes of a bundle's graphs: its golden request, recorded by onnxruntime's profiler."""

import dataclasses
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxpipe.bundle import Bundle
from onnxpipe.load import make_pipeline
from onnxpipe.pipeline import Model
from onnxpipe.session import Session


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodeShare:
    """The nodes of a graph that one provider ran: how many, their part of the graph's time, and their operators."""

    graph: str
    provider: str
    nodes: int
    time_share: float
    operators: tuple[str, ...]


def run_nodes(
    bundle: Bundle, precision: str, providers: Sequence[str] | None, threads: int | None
) -> tuple[NodeShare, ...]:
    """The shares of the providers in each graph, while a golden request was answered.

    Raises whatever loading and running raise: ProviderUnavailable, BundleError, InvalidInput ...
    """
    _, variant = bundle.variant(precision)
    manifest = bundle.manifest
    with tempfile.TemporaryDirectory() as folder:
        sessions = {
            name: Session(
                bundle.file(file),
                providers,
                threads,
                steps=manifest.graphs[name].has_past,
                profile=Path(folder) / name,
            )
            for name, file in variant.files.items()
        }
        model = Model(bundle, precision, variant, sessions)
        for golden in model.golden or manifest.golden[:1]:
            make_pipeline(model, golden.task)(golden.inputs, **golden.parameters)
        profiles = {name: json.loads(session.end_profile().read_bytes()) for name, session in sessions.items()}
    return tuple(share for name, events in profiles.items() for share in node_shares(name, events))


def node_shares(graph: str, events: Iterable[Mapping[str, Any]]) -> list[NodeShare]:
    """The shares of the providers in a graph's recorded events, the one with most of the time first."""
    nodes: dict[str, dict[str, str]] = {}  # provider -> node -> operator
    times: dict[str, int] = {}
    for event in events:
        provider = event.get("args", {}).get("provider")
        if event.get("cat") != "Node" or not provider:
            continue
        nodes.setdefault(provider, {})[event["name"]] = event["args"].get("op_name", "")
        times[provider] = times.get(provider, 0) + event["dur"]
    total = max(1, sum(times.values()))
    return [
        NodeShare(
            graph=graph,
            provider=provider,
            nodes=len(nodes[provider]),
            time_share=times[provider] / total,
            operators=tuple(sorted(set(nodes[provider].values()))),
        )
        for provider in sorted(nodes, key=lambda name: times[name], reverse=True)
    ]
