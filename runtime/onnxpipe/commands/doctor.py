"""`onnxpipe doctor`: what this machine gives onnxpipe and how a bundle runs on it, with what mends what is wrong."""

import argparse
import json

from onnxpipe.bundle import open_bundle
from onnxpipe.doctor.report import diagnose, render, try_bundle
from onnxpipe.records import plain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("bundle", nargs="?", help="a bundle's folder, to see where its graphs really run")
    parser.add_argument("--precision", help="one of the bundle's precisions (default: the first)")
    parser.add_argument(
        "--provider",
        "--device",
        action="append",
        help="execution provider that the bundle should run on: cpu, cuda, ...; repeatable, in order",
    )
    parser.add_argument("--threads", type=int, help="threads for a run (default: planned from the machine's limits)")
    parser.add_argument("--network", action="store_true", help="ask the hub whether it can be reached")
    parser.add_argument("--json", action="store_true", help="print facts and findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Print facts and findings; 1 when something is broken, for warnings and notes are no failure."""
    bundle = None
    if args.bundle is not None:
        bundle = try_bundle(open_bundle(args.bundle), args.precision, args.provider, args.threads)
    diagnosis = diagnose(network=args.network, bundle=bundle)
    if args.json:
        machine = {"threads": diagnosis.facts.machine.threads, "threads_reason": diagnosis.facts.machine.reason}
        print(json.dumps({**plain(diagnosis), **machine, "broken": diagnosis.broken}, indent=2))
    else:
        print("\n".join(render(diagnosis)))
    return 1 if diagnosis.broken else 0
