"""`onnxpipe tune`: find the fastest way to run a bundle on this machine, and keep it in the bundle."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxpipe_bench.bench_cli import check_seconds, names, numbers

if TYPE_CHECKING:
    from onnxpipe.recipe import Recipe
    from onnxpipe_bench.desk.tuning import Tuning


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("bundle", metavar="BUNDLE", help="the bundle's folder; the recipe is written into it")
    parser.add_argument(
        "--max-drop", default="0.5%", metavar="SHARE", help="quality that may be lost to fp32 (default: 0.5%%)"
    )
    parser.add_argument("--memory", metavar="SIZE", help="peak memory of a process, as in 512MiB (default: any)")
    parser.add_argument(
        "--latency",
        default="p50",
        metavar="PERCENTILE",
        help="what is to be short: p50, p90, p95, p99 (default: p50)",
    )
    parser.add_argument(
        "--lengths", metavar="N,...", help="tokens, pixels or seconds of requests (default: by the kind)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help='labelled rows, {"inputs": ..., "label": ...} in each line (default: precisions are held against fp32)',
    )
    parser.add_argument("--rows", type=int, metavar="N", help="take at most so many of them (default: all)")
    parser.add_argument("--task", help="one of the bundle's tasks (default: its own; vectors for sentences)")
    parser.add_argument("--variant", action="append", metavar="NAME", help="only these precisions; repeatable")
    parser.add_argument("--threads", metavar="N,...", help="only these numbers of threads")
    parser.add_argument("--provider", action="append", help="only these execution providers; repeatable")
    parser.add_argument(
        "--seconds", type=float, default=120.0, metavar="S", help="the longest race (default: %(default)g)"
    )
    parser.add_argument("--dry-run", action="store_true", help="tell what would be measured, and measure nothing")
    parser.add_argument("--json", action="store_true", help="print the recipe with all evidence")


def run(args: argparse.Namespace) -> int:
    """Tune, write the recipe, and tell what was found."""
    # here, not above: the command line reads this module for its arguments alone
    from onnxpipe.bundle import open_bundle
    from onnxpipe.recipe import write_recipe
    from onnxpipe.records import plain
    from onnxpipe_bench.desk.budget import Budget, read_bytes, read_percentile, read_share
    from onnxpipe_bench.desk.tuning import Order, Tuning

    check_seconds(args.seconds)
    budget = Budget(
        max_drop=read_share(args.max_drop),
        memory_bytes=read_bytes(args.memory) if args.memory else None,
        percentile=read_percentile(args.latency),
    )
    bundle = open_bundle(args.bundle)
    order = Order(
        bundle=bundle,
        budget=budget,
        task=args.task,
        lengths=numbers(args.lengths, "--lengths"),
        data=args.data,
        rows=args.rows,
        precisions=names(args.variant),
        threads=numbers(args.threads, "--threads"),
        providers=args.provider or (),
        seconds=args.seconds,
    )
    tuning = Tuning(order)
    if args.dry_run:
        print("\n".join(_plan(tuning, budget.told)))
        return 0
    if tuning.state.goes_on:
        print(f"going on with what was measured before ({tuning.state.file})", file=sys.stderr)
    try:
        recipe = tuning.run()
    except KeyboardInterrupt:
        print("\nwhat was measured is kept: the same command goes on from here", file=sys.stderr)
        raise
    file = write_recipe(bundle, recipe)
    tuning.state.forget()
    if args.json:
        print(json.dumps(plain(recipe), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print("\n".join(describe(recipe)))
        print(f"-> {file}; `load` and `serve` take it where neither a precision nor a provider is named")
    return 0


def _plan(tuning: "Tuning", told: str) -> list[str]:
    candidates = [f"  {candidate.key}" for candidate in tuning.candidates]
    last = f"first the quality of each precision, then a race; about {tuning.planned_s / 60:.0f} min at most"
    return [f"{len(candidates)} candidates, {told}:", *candidates, last]


def describe(recipe: "Recipe") -> list[str]:
    """What was found, in lines for a terminal."""
    evidence: dict[str, Any] = dict(recipe.evidence)
    told = evidence["quality_on"]
    where = f"{told['rows']} rows of {told['data']}" if told["data"] else f"{told['rows']} inputs made here"
    lines = [f"{told['metric']} on {where}; {evidence['budget']['told']}", ""]
    width = max(len(row["name"]) for row in evidence["candidates"])
    percentile = f"{evidence['budget']['percentile']}"
    for row in evidence["candidates"]:
        figures = [f"{one['quantiles'][percentile]:8.2f} ms" for one in row.get("latency", {}).values()]
        lines.append(f"{row['name']:<{width}}  {' '.join(figures)}  {row['out'] or 'chosen'}".rstrip())
    lines += ["", f"{evidence['chosen']} beside {evidence['baseline']}, measured again:"]
    for length, figures in evidence["figures"].items():
        slow, fast, speed = figures["fp32"], figures["chosen"], figures["speed"]
        times = f"p50 {fast['p50']:.2f} ms, p99 {fast['p99']:.2f} ms, to {slow['p50']:.2f} and {slow['p99']:.2f}"
        interval, default = f"{speed['low']:.2f} to {speed['high']:.2f}", figures["speed_to_default"]["value"]
        lines.append(f"  {length} {evidence['unit']}: {times}; {default:.2f}x as fast")
        lines.append(f"    {speed['value']:.2f}x ({interval}) beside fp32 run in the same way")
    quality = evidence["quality"][recipe.precision]
    drop, process = quality["drop"], evidence["process"]
    lines.append(
        f"  {told['metric']} {quality['value']:.4f}, {drop['value']:.2%} worse than fp32 ({drop['low']:.2%} to "
        f"{drop['high']:.2%})"
    )
    if drop["high"] > evidence["budget"]["max_drop"]:
        lines.append("  the interval reaches beyond the budget: more labelled rows would tell more")
    if not told["data"]:
        lines.append("  without --data this tells little: give labelled rows of your own")
    if process["peak_mb"] is not None:
        lines.append(f"  {process['peak_mb']:.0f} MiB at most, first answer after {process['first_answer_s']} s")
    return lines
