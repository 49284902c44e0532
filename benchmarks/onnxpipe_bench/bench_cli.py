"""`onnxpipe bench`: what each precision of a bundle costs and gains on this device."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from onnxpipe.errors import InvalidInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE", help="a bundle's folder; several are compared")
    parser.add_argument("--task", help="one of the bundles' tasks (default: their own; vectors for sentences)")
    parser.add_argument(
        "--variant", action="append", metavar="NAME", help="a precision; repeatable, or with commas (default: all)"
    )
    parser.add_argument("--threads", metavar="N,...", help="threads of a run (default: planned from the limits)")
    parser.add_argument("--provider", action="append", help="execution provider, repeatable: compared (default: cpu)")
    parser.add_argument("--batch", metavar="N,...", help="requests at once for throughput (default: by the kind)")
    parser.add_argument(
        "--lengths", metavar="N,...", help="tokens, pixels or seconds of a request (default: by the kind)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help='labelled rows, {"inputs": ..., "label": ...} in each line (default: precisions are held against fp32)',
    )
    parser.add_argument("--rows", type=int, metavar="N", help="take at most so many of them (default: all)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=4.0,
        metavar="S",
        help="how long each figure is measured (default: %(default)g)",
    )
    parser.add_argument(
        "--no-processes", action="store_true", help="leave out memory and first answers, which want fresh processes"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="store everything that was measured; - prints it")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a report with plots, in one file")
    parser.add_argument("--png", type=Path, metavar="DIR", help="write the plots as pictures (needs matplotlib)")


def run(args: argparse.Namespace) -> int:
    """Measure, print, and write what is asked for."""
    # here, not above: the command line reads this module for its arguments alone
    from onnxpipe_bench.desk.candidates import open_bundles, plan_candidates
    from onnxpipe_bench.desk.survey import Plan, Survey
    from onnxpipe_bench.desk.terminal import render

    check_seconds(args.seconds)
    if args.png:
        import matplotlib  # noqa: F401 - missing, it is told now and not when everything is measured
    for file in (args.json, args.html):
        _check_writable(file)
    plan = Plan(
        candidates=plan_candidates(
            open_bundles(args.bundles),
            precisions=names(args.variant),
            threads=numbers(args.threads, "--threads"),
            providers=args.provider or ("cpu",),
        ),
        task=args.task,
        lengths=numbers(args.lengths, "--lengths"),
        batches=numbers(args.batch, "--batch"),
        data=args.data,
        rows=args.rows,
        seconds=args.seconds,
        processes=not args.no_processes,
    )
    result = Survey(plan).run()
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    if args.json == Path("-"):
        print(text)
    else:
        print(render(result, color=sys.stdout.isatty()))
        if args.json:
            args.json.write_text(f"{text}\n", encoding="utf-8")
    write_pictures(result, args.html, args.png)
    return 0


def write_pictures(result: dict[str, object], html: Path | None, png: Path | None) -> None:
    """The report and the plots, where they are asked for."""
    if html:
        from onnxpipe_bench.desk.report import render_report

        html.write_text(render_report(result), encoding="utf-8")
        print(f"report: {html}", file=sys.stderr)
    if png:
        from onnxpipe_bench.desk.png import draw_all

        for file in draw_all(result, png):
            print(f"plot: {file}", file=sys.stderr)


def check_seconds(seconds: float) -> None:
    """Raise InvalidInput unless something can be measured in that time."""
    if not 0 < seconds <= 3600:
        raise InvalidInput(f"--seconds: expected more than 0 and at most 3600, given {seconds:g}")


def numbers(text: str | None, option: str) -> list[int]:
    """The integers in "1,2". Raises InvalidInput unless each is one from 1 on."""
    try:
        found = [int(part) for part in text.split(",")] if text else []
    except ValueError:
        found = [0]
    if any(number < 1 for number in found):
        raise InvalidInput(f"{option}: expected integers >= 1 with commas between them, as in 1,2; given {text!r}")
    return found


def names(given: Sequence[str] | None) -> list[str]:
    """Names that were given one by one or with commas between them."""
    return [name.strip() for part in given or () for name in part.split(",") if name.strip()]


def _check_writable(file: Path | None) -> None:
    if file is not None and file != Path("-") and not file.resolve().parent.is_dir():
        raise InvalidInput(f"{file}: there is no folder {file.resolve().parent} to write it to")
