"""`onnxpipe doctor`: what this machine gives onnxpipe."""

import argparse
import dataclasses
import json

from onnxpipe.doctor import diagnose, render


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the findings; always 0, for advice is no failure."""
    diagnosis = diagnose()
    if args.json:
        print(json.dumps(dataclasses.asdict(diagnosis), indent=2))
    else:
        print("\n".join(render(diagnosis)))
    return 0
