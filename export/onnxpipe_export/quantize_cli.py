"""`onnxpipe quantize`: arguments, and the closing table."""

import argparse
import dataclasses
import importlib.util
import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxpipe_export.variants import Outcome

_RED, _PLAIN = "\033[31m", "\033[0m"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("bundle", help="the bundle's folder; it must have fp32")
    parser.add_argument(
        "--precision",
        required=True,
        help="comma-separated: fp16, int8, int8-static, int8-weights, int4-weights; of models that write: int8, int4",
    )
    parser.add_argument("--data", metavar="FILE", help="inputs that answers are compared on as well, one JSON a line")
    parser.add_argument(
        "--calibration",
        metavar="FOLDER|FILE",
        help="typical inputs for fixed scales: a folder of pictures, or a file like that of --data or of texts",
    )
    parser.add_argument(
        "--method", choices=("minmax", "percentile", "entropy"), default="minmax", help="of scales (default: minmax)"
    )
    parser.add_argument(
        "--block",
        type=int,
        choices=(16, 32, 64, 128),
        help="weights that share a scale (default: 64 for int4 of models that write, else 32)",
    )
    parser.add_argument("--asymmetric", action="store_true", help="blocks whose zero may lie anywhere")
    parser.add_argument(
        "--embeddings",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="store tables of embeddings in 8 bits (default: yes)",
    )
    parser.add_argument("--keep-float", nargs="+", default=[], metavar="NODE", help="products to keep, or patterns")
    parser.add_argument(
        "--keep-int8", nargs="+", default=[], metavar="NODE", help="products whose weights get blocks of 8 bits"
    )
    parser.add_argument("--force", action="store_true", help="make a precision anew that is there")
    parser.add_argument("--dry-run", action="store_true", help="make and measure, but leave the bundle as it is")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(args: argparse.Namespace) -> int:
    """Add the precisions, and say what came of it: 0 when every one passed, 1 when one was refused."""
    for name in ("onnx", "onnx_ir", "tqdm"):
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    # here, not above: `onnxpipe --help` must not import onnx
    from onnxpipe_export.add_variants import add_variants
    from onnxpipe_export.maker import Options
    from onnxpipe_export.products import Blocks

    report = add_variants(
        args.bundle,
        [name.strip() for name in args.precision.split(",") if name.strip()],
        options=Options(
            method=args.method,
            blocks=Blocks(args.block, symmetric=not args.asymmetric),
            embeddings=args.embeddings,
            kept={**dict.fromkeys(args.keep_float, "float"), **dict.fromkeys(args.keep_int8, "weights8")},
        ),
        calibration=args.calibration,
        data=args.data,
        force=args.force,
        dry_run=args.dry_run,
        show_progress=not args.json,
    )
    if args.json:
        print(json.dumps(dataclasses.asdict(report) | {"bundle": str(report.bundle)}, indent=2))
    else:
        print(f"\n{report.id} for {report.task}{'' if report.written else ', which stays as it was'}\n")
        for outcome in report.outcomes:
            print("\n".join(_lines(outcome)))
    for outcome in report.outcomes:
        for note in outcome.notes:
            print(f"onnxpipe: {outcome.precision}: {_red(note) if 'slower' in note else note}", file=sys.stderr)
    for outcome in report.refused:
        print(f"onnxpipe: {outcome.precision} was refused: {'; '.join(outcome.problems)}", file=sys.stderr)
    return 1 if report.refused else 0


def _lines(outcome: "Outcome") -> list[str]:
    """What a precision is, in a few lines."""
    figures = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in outcome.figures.items())
    speed = ", ".join(f"{ratio:.2f}x fp32 at {name}" for name, ratio in outcome.speed.items())
    forms = sorted(set(outcome.kept.values()))
    kept = ", ".join(f"{sum(form == one for form in outcome.kept.values())} {one}" for one in forms)
    rows = [
        ("result", "refused" if outcome.problems else "ok"),
        ("size", f"{outcome.size_bytes / 1e6:.1f} MB"),
        ("speed", speed),
        ("batches", "invariant" if outcome.batch_invariant else "run row by row"),
        ("products", kept and f"in safer forms: {kept}"),
        ("figures", figures),
    ]
    return [outcome.precision, *(f"  {name:<9} {text}" for name, text in rows if text)]


def _red(text: str) -> str:
    return f"{_RED}{text}{_PLAIN}" if sys.stderr.isatty() else text
