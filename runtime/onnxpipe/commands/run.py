"""`onnxpipe run`: a bundle on one input or several, the answer as JSON."""

import argparse
import json
import sys
from typing import Any

from onnxpipe.errors import InvalidInput, OnnxpipeError
from onnxpipe.load import load
from onnxpipe.records import plain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("bundle", help="the bundle's folder")
    parser.add_argument(
        "input",
        nargs="*",
        help="text, or JSON that starts with { or [; for images and audio the file; standard input when absent or -",
    )
    parser.add_argument("--task", help="one of the bundle's tasks (default: its own)")
    parser.add_argument(
        "--precision", help="one of the bundle's precisions (default: that of its recipe, else the first)"
    )
    parser.add_argument(
        "--device",
        "--provider",
        action="append",
        dest="provider",
        metavar="DEVICE",
        help="where it runs, or not at all: cpu, cuda, cuda:1, ...; repeatable, and cpu beside another takes the rest",
    )
    parser.add_argument("--threads", type=int, help="threads for a run (default: planned from the machine's limits)")
    parser.add_argument(
        "--parameters", default="{}", metavar="JSON", help="the task's parameters, as in '{\"top_k\": 1}'"
    )


def run(args: argparse.Namespace) -> int:
    """Print the result of one input, or a list of results for several."""
    pipeline = load(
        args.bundle, task=args.task, precision=args.precision, providers=args.provider, threads=args.threads
    )
    parameters = _json(args.parameters, "--parameters")
    if not isinstance(parameters, dict):
        raise InvalidInput(f"--parameters: expected a JSON object, given {args.parameters}")
    read = _read_input if pipeline.media_kind() is None else _read_media
    inputs = [read(given) for given in args.input or ["-"]]
    answer = pipeline(inputs if len(inputs) > 1 else inputs[0], **parameters)
    try:
        text = json.dumps(plain(answer), ensure_ascii=False, allow_nan=False, indent=2 if sys.stdout.isatty() else None)
    except ValueError:
        raise OnnxpipeError("the model's answer to these inputs holds NaN or infinity, which JSON cannot say") from None
    print(text)
    return 0


def _read_input(text: str) -> Any:  # a string or JSON data: the task checks it
    if text == "-":
        text = _read_stdin()
    return _json(text, "the input") if text.lstrip().startswith(("{", "[")) else text


def _read_media(given: str) -> bytes | str:
    return sys.stdin.buffer.read() if given == "-" else given


def _read_stdin() -> str:
    try:
        # not `sys.stdin.read()`: whether that refuses other bytes depends on the locale
        return sys.stdin.buffer.read().decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"standard input is not UTF-8 text: {error}") from None


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{what}: not JSON ({error})") from None
