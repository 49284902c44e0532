"""`onnxpipe pull`: ready-made ONNX graphs of a hub repository, or of a folder, as a bundle; `--list` shows them."""

import argparse
import dataclasses
import json
import sys
from typing import TYPE_CHECKING

from onnxpipe.errors import InvalidInput

if TYPE_CHECKING:
    from onnxpipe.hub.comparison import Outcome
    from onnxpipe.hub.layout import Layout


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("repo", help="a hub id (ORG/NAME), or a folder laid out as optimum and transformers.js do")
    parser.add_argument("out", nargs="?", help="the bundle's folder; made anew")
    parser.add_argument("--list", action="store_true", help="show which precisions there are, and pull nothing")
    parser.add_argument(
        "--precision", help="comma-separated precisions to take (default: the best there is, and 8 bits)"
    )
    parser.add_argument("--task", help="what the model is for; told by its files when absent")
    parser.add_argument("--id", help="the name it is served under (default: the hub id or the folder's name)")
    parser.add_argument("--revision", help="branch, tag or commit of a hub id")
    parser.add_argument("--force", action="store_true", help="replace a bundle that is already there")
    parser.add_argument("--json", action="store_true", help="print the list or the report as JSON")


def run(args: argparse.Namespace) -> int:
    """List, or pull and say what came of it: 0 when every precision passed, 1 when one was refused."""
    # here, not above: what measures needs half of the runtime, `--help` none of it
    from onnxpipe.hub.pull import find_layout, pull

    if args.list:
        layout = find_layout(args.repo, args.revision)
        print(json.dumps(_listed(layout), indent=2) if args.json else "\n".join(_list_lines(layout)))
        return 0
    if args.out is None:
        raise InvalidInput(f"say where the bundle goes: `onnxpipe pull {args.repo} OUT`, or look with --list")
    report = pull(
        args.repo,
        args.out,
        precisions=None if args.precision is None else [name.strip() for name in args.precision.split(",")],
        task=args.task,
        bundle_id=args.id,
        revision=args.revision,
        force=args.force,
        say=_say if not args.json else lambda _: None,
    )
    if args.json:
        print(json.dumps(dataclasses.asdict(report) | {"bundle": str(report.bundle)}, indent=2))
    else:
        print(f"\n{report.id} for {report.task} -> {report.bundle}\n")
        print("\n".join(_outcome_lines(report.outcomes, report.reference)))
    for outcome in report.refused:
        print(f"onnxpipe: {outcome.precision} was refused: {'; '.join(outcome.problems)}", file=sys.stderr)
    return 1 if report.refused else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _listed(layout: "Layout") -> dict[str, object]:
    return {
        precision: {"files": layout.files(precision), "size_bytes": layout.size_bytes(precision)}
        for precision in layout.graphs
    }


def _list_lines(layout: "Layout") -> list[str]:
    width = max(map(len, ("precision", *layout.graphs)))
    lines = [
        f"{precision:<{width}} {layout.size_bytes(precision) / 1e6:>10.1f}  {', '.join(layout.files(precision))}"
        for precision in layout.graphs
    ]
    return [f"{'precision':<{width}} {'MB':>10}  files", *lines]


def _outcome_lines(outcomes: "tuple[Outcome, ...]", reference: str) -> list[str]:
    """One line per precision: size, how it runs in batches, and the figures beside the reference."""
    width = max(map(len, ("precision", *(outcome.precision for outcome in outcomes))))
    lines = [f"{'precision':<{width}} {'MB':>8}  {'batches':<10}  measured beside {reference}"]
    for outcome in outcomes:
        batches = "together" if outcome.batch_invariant else "row by row"
        figures = ", ".join(f"{name} {value:.4g}" for name, value in outcome.figures.items())
        text = f"refused: {'; '.join(outcome.problems)}" if outcome.problems else figures
        lines.append(f"{outcome.precision:<{width}} {outcome.size_bytes / 1e6:>8.1f}  {batches:<10}  {text}")
    return lines
