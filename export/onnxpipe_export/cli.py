"""`onnxpipe export`: arguments, and the closing table."""

import argparse
import dataclasses
import importlib.util
import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxpipe_export.variants import Outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", help="a model folder in hub layout, or a hub id (ORG/NAME)")
    parser.add_argument("out", help="the bundle's folder; made anew")
    parser.add_argument("--task", help="what the model is for; guessed from its files when absent")
    parser.add_argument(
        "--precision", default="fp32,int8", help="comma-separated variants to make (default: %(default)s)"
    )
    parser.add_argument("--id", help="the name it is served under (default: the hub id or the folder's name)")
    parser.add_argument("--revision", help="branch, tag or commit of a hub id")
    parser.add_argument(
        "--calibration",
        metavar="FOLDER",
        help="typical pictures, for int8 of convolutional networks (default: drawn ones)",
    )
    parser.add_argument("--force", action="store_true", help="replace a bundle that is already there")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(args: argparse.Namespace) -> int:
    """Export, and say what came of it: 0 when every precision passed, 1 when one was refused."""
    # before anything is downloaded, which can take long
    for name in ("torch", "transformers", "optimum"):
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    # here, not above: `onnxpipe --help` must not import torch
    from onnxpipe_export.export import export

    report = export(
        args.model,
        args.out,
        task=args.task,
        precisions=[name.strip() for name in args.precision.split(",") if name.strip()],
        bundle_id=args.id,
        revision=args.revision,
        calibration=args.calibration,
        force=args.force,
        show_progress=not args.json,
    )
    if args.json:
        print(json.dumps(dataclasses.asdict(report) | {"bundle": str(report.bundle)}, indent=2))
    else:
        print(f"\n{report.id} for {report.task} -> {report.bundle}\n")
        for line in _table(report.outcomes):
            print(line)
    for outcome in report.outcomes:
        for note in outcome.notes:
            print(f"onnxpipe: {outcome.precision}: {note}", file=sys.stderr)
    for outcome in report.refused:
        print(f"onnxpipe: {outcome.precision} was refused: {'; '.join(outcome.problems)}", file=sys.stderr)
    return 1 if report.refused else 0


def _table(outcomes: "tuple[Outcome, ...]") -> list[str]:
    """One line per precision: size, figures beside torch, and whether batches change its answers."""
    names = [name for name in outcomes[0].figures if name != "integer_operators"]
    header = ["precision", "MB", *(name.replace("_", " ") for name in names), "batches", "result"]
    rows = [
        [
            outcome.precision,
            f"{outcome.size_bytes / 1e6:.1f}",
            *(f"{outcome.figures[name]:.4g}" for name in names),
            "invariant" if outcome.batch_invariant else "run row by row",
            "refused" if outcome.problems else "ok",
        ]
        for outcome in outcomes
    ]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]
