"""The README's measured tables, made from results/*.json.

    python -m onnxpipe_bench.tables README.md [--check]

A table stands between `<!-- table NAME -->` and `<!-- end -->`; `--check` changes nothing and fails when one is stale.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from onnxpipe_bench.measure import RESULTS

Result = dict[str, Any]
_BLOCK = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    """Rewrite the tables of a file, or with --check say whether they are up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    text = args.file.read_text(encoding="utf-8")
    renewed = renew(text, RESULTS)
    if args.check:
        if renewed != text:
            print(f"{args.file}: a table differs from results/*.json; run python -m onnxpipe_bench.tables {args.file}")
        return int(renewed != text)
    args.file.write_text(renewed, encoding="utf-8")
    return 0


def renew(text: str, results: Path) -> str:
    """`text` with every table made again from the result of its name."""

    def table(match: re.Match[str]) -> str:
        make, file = TABLES[match[2]], results / f"{match[2]}.json"
        if not file.exists():
            return f"{match[1]}_Not measured yet._\n{match[3]}"
        result = json.loads(file.read_text(encoding="utf-8"))
        return f"{match[1]}{make(result)}\n\n{_stamp(result)}\n{match[3]}"

    return _BLOCK.sub(table, text)


def _sts(result: Result) -> str:
    rows = [
        [row["engine"], f"{row['spearman']:.2f}", _figure(row, "cosine_mean"), _figure(row, "cosine_worst")]
        for row in result["rows"]
    ]
    return _markdown(["engine", "Spearman x 100", "mean cosine to torch", "worst"], rows)


def _variants(result: Result) -> str:
    rows = [
        [
            row["precision"],
            f"{row['mb']:.1f}",
            f"{row['spearman']:.2f}",
            f"{row['cosine_mean']:.4f}",
            f"{row['batch_cosine_worst']:.4f}",
            *(f"{ratio:.2f}" for ratio in row["speed"].values()),
        ]
        for row in result["rows"]
    ]
    speed = [f"x fp32 at {length} tokens" for length in result["rows"][0]["speed"]]
    header = ["precision", "MB", "Spearman x 100", "mean cosine to fp32", "worst cosine of a text in a batch to alone"]
    return _markdown([*header, *speed], rows)


def _overhead(result: Result) -> str:
    rows = [
        [
            row["precision"],
            str(row["tokens"]),
            f"{row['bare_ms']['p50']:.2f}",
            f"{row['call_ms']['p50']:.2f}",
            f"{row['overhead_ms']:.2f}",
        ]
        for row in result["rows"]
    ]
    return _markdown(["precision", "tokens", "bare run, ms", "onnxpipe call, ms", "overhead, ms"], rows)


def _footprint(result: Result) -> str:
    rows = [["site-packages, pip included", f"{result['site_packages_mb']:.0f} MB"]]
    rows.append(["`import onnxpipe`", f"{result['import_ms']:.0f} ms"])
    for row in result["rows"]:
        rows.append([f"load and first answer, {row['precision']}", f"{row['first_answer_ms']:.0f} ms"])
        rows.append([f"peak memory, {row['precision']}", f"{row['peak_memory_mb']:.0f} MB"])
    return _markdown(["", "measured"], rows)


def _task_overhead(result: Result) -> str:
    rows = [
        [
            row["task"],
            row["precision"],
            f"{row['bare_ms']['p50']:.2f}",
            f"{row['overhead_ms']:.2f}",
            f"{100 * row['overhead_ms'] / row['bare_ms']['p50']:.0f} %",
        ]
        for row in result["rows"]
    ]
    return _markdown(["task", "precision", "bare run, ms", "overhead, ms", "share"], rows)


def _quality(result: Result) -> str:
    rows = [
        [row["task"], row["engine"], *_beside_torch(row, "score", 2), f"{row['same_answers']:.2f} %"]
        for row in result["rows"]
    ]
    return _markdown(["task", "engine", "points (95 %)", "to torch (95 %)", "same answers as torch"], rows)


def _vision_quantization(result: Result) -> str:
    ways = list(result["rows"][0]["ways"])
    rows = [
        [
            row["architecture"],
            f"{row['gmac']:.2f}",
            f"{row['chains']:.0%}",
            f"{row['float_ms']['p10']:.1f}",
            *(f"{row['ways'][way]['speed']:.2f}x" for way in ways),
            f"{row['ways']['export']['mb'] / row['float_mb']:.0%}",
        ]
        for row in result["rows"]
    ]
    return _markdown(["architecture", "GMAC", "in chains", "float, ms", *ways, "size"], rows)


def _image_preprocessing(result: Result) -> str:
    rows = [
        [
            row["picture"],
            row["engine"],
            *(
                figure
                for scope in ("file", "decoded")
                for figure in (f"{row[f'{scope}_ms']['p50']:.1f}", f"{row[f'{scope}_ratio']:.2f}")
            ),
        ]
        for row in result["rows"]
    ]
    return _markdown(["picture", "engine", "from a JPEG file, ms", "ratio", "from decoded, ms", "ratio"], rows)


def _panoptic(result: Result) -> str:
    rows = [
        [
            str(row["sure"]),
            row["engine"],
            f"{row['ms']['p50']:.0f}",
            f"{row['peak_mb']:.0f}",
            f"{row['png_ms']['p50']:.0f} ({row['segments']})" if "png_ms" in row else "",
        ]
        for row in result["rows"]
    ]
    return _markdown(["queries with a label", "engine", "ms", "peak, MB", "PNG files, ms (segments)"], rows)


def _detection_quality(result: Result) -> str:
    rows = [[row["engine"], f"{row['map_50']:.2f}", f"{row['map_50_95']:.2f}"] for row in result["rows"]]
    return _markdown(["engine", "mAP at 0.5", "mAP at 0.5 to 0.95"], rows)


def _language_quality(result: Result) -> str:
    rows = [
        [
            row["engine"],
            *_beside_torch(row, "perplexity", 3),
            f"{row['divergence']:.5f}",
            f"{row['same_likeliest']:.2f} %",
            f"{row['megabytes']:.1f}",
        ]
        for row in result["rows"]
    ]
    header = ["engine", "perplexity (95 %)", "to torch (95 %)", "divergence, nats", "same likeliest token", "MB"]
    return _markdown(header, rows)


def _generation_speed(result: Result) -> str:
    together = {}
    for row in result["rows"]:
        name, _, count = row["candidate"].partition(" x ")
        if count:
            python = f"{row['python_ms']:.2f}"
            together[name] = [f"{1e3 * int(count) / row['next_ms']:.0f}", f"{row['times_one']:.1f}x", python]
    rows = [
        [
            row["candidate"],
            f"{row['first_ms']:.1f}",
            f"{row['next_ms']:.1f}",
            _milliseconds(row, "python_ms"),
            *together.get(row["candidate"], [""] * 3),
        ]
        for row in result["rows"]
        if " x " not in row["candidate"]
    ]
    head = ["engine", "first token, ms", "next token, ms", "of it Python"]
    return _markdown([*head, "8 together, tokens/s", "to one", "Python, ms per step"], rows)


def _translation_speed(result: Result) -> str:
    rows = [
        [row["candidate"], f"{row['first_ms']:.1f}", f"{row['next_ms']:.1f}", _milliseconds(row, "python_ms")]
        for row in result["rows"]
    ]
    return _markdown(["engine", "first token, ms", "step, ms", "of it Python"], rows)


def _speech_speed(result: Result) -> str:
    rows = [
        [
            row["engine"],
            f"{row['call_ms']['p50']:.0f}",
            f"{row['ratio']:.2f}x",
            f"{row['features_share']:.1%}" if "features_share" in row else "",
            f"{row['first_answer_ms']:.0f}" if "first_answer_ms" in row else "",
        ]
        for row in result["rows"]
    ]
    header = ["engine", "10 s of sound, ms", "speed", "of a FLAC file, all but the model", "first answer, ms"]
    return _markdown(header, rows)


def _server_start(result: Result) -> str:
    rows = []
    for row in result["rows"]:
        for name, words in (("cached", "mapped, in the machine's own form"), ("plain", "read from the bundle")):
            figures = row[name]
            rows.append(
                [
                    f"{row['precision']}, {words}",
                    f"{figures['first_answer_s']:.2f}",
                    f"{figures['resident_mb']:.0f}",
                    f"{row['second_worker_mb']:.0f}" if name == "cached" else "",
                    f"{row['idle_cpu_share']:.1%}" if name == "cached" else "",
                ]
            )
    header = ["weights", "start to first answer, s", "resident, MB", "a second worker, MB", "idle CPU"]
    return _markdown(header, rows)


def _server_load(result: Result) -> str:
    """Two tables: every server by connections, and ours at requests that do not wait for answers."""
    loads: dict[tuple[str, str, str], list[Result]] = {}
    for row in result["rows"]:
        loads.setdefault((row["precision"], row["inputs"], row["server"]), []).append(row)
    rows = [
        [
            *load,
            *(f"{row['per_second']:.0f} ({row['p50_ms']:.1f}, {row['p99_ms']:.1f})" for row in measured),
            f"{measured[-1]['memory_mb']:.0f}",
            f"{measured[0]['same']['alone']:.4f}, {measured[0]['same']['together']:.4f}",
        ]
        for load, measured in sorted(loads.items(), key=lambda item: item[0][:2])
    ]
    connections = [str(row["connections"]) for row in next(iter(loads.values()))]
    counts = [f"{connections[0]} connection", *(f"{count} connections" for count in connections[1:])]
    closed = _markdown(["precision", "inputs", "server", *counts, "MB", "cosine to ours alone, in a batch"], rows)
    paced = [
        [
            row["precision"],
            words,
            f"{figures['per_second']:.0f}",
            f"{figures['p50_ms']:.1f}, {figures['p99_ms']:.1f}",
            f"{figures['refused']} ({figures['refused_p99_ms']:.1f})" if "refused" in figures else "",
        ]
        for row in result["open"]
        for words, figures in (("80 % of the peak", row["steady"]), ("twice the peak", row["overload"]))
    ]
    header = ["precision", "requests at", "answers/s", "p50, p99, ms", "refused (p99, ms)"]
    return f"{closed}\n\n{_markdown(header, paced)}"


def _peers(result: Result) -> str:
    """Every candidate, and behind them those that could not be measured."""
    first = result["rows"][0]
    rows = [
        [
            row["candidate"],
            *(f"{ms:.2f}" for ms in row["alone_ms"].values()),
            *(f"{rate:.0f}" for rate in row["per_second"].values()),
            f"{row['cosine_worst']:.4f}" + ("" if row["same_embedding"] else ", another embedding"),
        ]
        for row in result["rows"]
    ]
    width = len(first["alone_ms"]) + len(first["per_second"])
    rows += [[lost["peer"], *[""] * width, f"not measured: {lost['reason']}"] for lost in result["missing"]]
    lengths = [f"{tokens} tokens, ms" for tokens in first["alone_ms"]]
    kinds = [f"{result['sentences']} {kind}, per second" for kind in first["per_second"]]
    return _markdown(["library", *lengths, *kinds, f"worst cosine to {result['reference']}"], rows)


TABLES: dict[str, Callable[[Result], str]] = {
    "sts": _sts,
    "variants": _variants,
    "overhead": _overhead,
    "peers": _peers,
    "footprint": _footprint,
    "server_load": _server_load,
    "server_start": _server_start,
    "task_overhead": _task_overhead,
    "quality": _quality,
    "language_quality": _language_quality,
    "vision_quality": _quality,
    "vision_quantization": _vision_quantization,
    "image_preprocessing": _image_preprocessing,
    "panoptic": _panoptic,
    "detection_quality": _detection_quality,
    "detection_quantization": _vision_quantization,
    "generation_speed": _generation_speed,
    "translation_speed": _translation_speed,
    "speech_quality": _quality,
    "speech_speed": _speech_speed,
}


def _beside_torch(row: Result, name: str, digits: int) -> tuple[str, str]:
    """A figure, and its difference to torch's, with their intervals."""
    low, high = row["interval"]
    figure = f"{row[name]:.{digits}f} ({low:.1f} to {high:.1f})"
    if row["engine"] == "torch":
        return figure, ""
    lower, upper = row["difference_interval"]
    return figure, f"{row['difference']:+.{digits}f} ({lower:+.{digits}f} to {upper:+.{digits}f})"


def _figure(row: Result, name: str) -> str:
    return f"{row[name]:.4f}" if name in row else ""


def _milliseconds(row: Result, name: str) -> str:
    return f"{row[name]:.2f}" if name in row else ""


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _stamp(result: Result) -> str:
    stamp = result["stamp"]
    return (
        f"_{result['model']}; {stamp['cpu']}, {stamp['threads']} threads; onnxruntime {stamp['onnxruntime']}; "
        f"{stamp['date']}._"
    )


if __name__ == "__main__":
    sys.exit(main())
