"""A survey as tables for a terminal."""

from collections.abc import Sequence
from typing import Any

Result = dict[str, Any]

_RED, _BOLD, _PLAIN = "\x1b[31m", "\x1b[1m", "\x1b[0m"


def render(result: Result, *, color: bool) -> str:
    """Every figure; rows that are slower than fp32 in red, or marked where there is no color."""
    tables = [
        ("Latency of one request, ms", _latency(result)),
        ("Requests a second by batch", _throughput(result)),
        ("Size, memory, energy, quality", _costs(result)),
    ]
    slow = {row["name"] for row in result["rows"] if is_slower(row)}
    parts = [f"{', '.join(dict.fromkeys(row['model'] for row in result['rows']))} - {result['task']}"]
    for title, rows in tables:
        parts.append(f"\n{_BOLD}{title}{_PLAIN}" if color else f"\n{title}")
        parts += _lines(rows, slow, color=color)
    return "\n".join([*parts, "", *notes(result)])


def is_slower(row: Result) -> bool:
    """Whether a candidate is slower than fp32 at one length at least, for sure."""
    return any("speed" in figures and figures["speed"]["high"] < 1 for figures in row["latency"])


def notes(result: Result) -> list[str]:
    """What must be known for reading the figures."""
    told, stamp = result["quality"], result["stamp"]
    where = f"{told.get('rows')} rows of {told['data']}" if told["data"] else f"{told.get('rows')} inputs made here"
    timing = (
        f"Calls in turns for {result['seconds']:g} s each; speed is the median of the ratios to fp32, run in the same "
        "way, within each turn, with its 95 % interval."
    )
    machine = (
        f"{stamp['cpu']}, {stamp['threads']} threads; onnxruntime {stamp.get('onnxruntime', '?')}, onnxpipe "
        f"{stamp['onnxpipe']}; {stamp['date']}."
    )
    lines = [
        timing,
        f"Quality: {told['metric']} on {where}; drop is the share that is lost to fp32."
        if "metric" in told
        else "Quality: not compared, for there is no fp32 to compare with.",
        f"Energy: {result['energy']}.",
        machine,
    ]
    if slow := [row["name"] for row in result["rows"] if is_slower(row)]:
        lines.insert(0, f"SLOWER than fp32 here: {'; '.join(slow)}.")
    if alone := [row["name"] for row in result["rows"] if not row["batch_invariant"]]:
        lines.append(f"Rows run alone, for their answers would depend on the batch: {'; '.join(alone)}.")
    return lines


def _latency(result: Result) -> list[list[str]]:
    table = [["", result["unit"], "p50", "p95", "p99", "calls", "to fp32"]]
    for row in result["rows"]:
        for figures in row["latency"]:
            times = [f"{figures[name]:.2f}" for name in ("p50", "p95", "p99")]
            table.append([row["name"], str(figures["size"]), *times, str(figures["calls"]), speed_text(figures)])
    return table


def speed_text(figures: Result) -> str:
    """How many times faster than fp32, with the interval; empty where that is not known."""
    if "speed" not in figures:
        return ""
    return f"{figures['speed']['value']:.2f}x ({figures['speed']['low']:.2f} to {figures['speed']['high']:.2f})"


def _throughput(result: Result) -> list[list[str]]:
    table = [["", *map(str, result["batches"]), *(["first token, ms", "tokens/s"] if _writes(result) else [])]]
    for row in result["rows"]:
        cells = [f"{figures['rows_per_s']:.1f}" for figures in row["throughput"]]
        if writing := row.get("writing"):
            cells += [f"{writing['first_ms']:.1f}", f"{writing['tokens_per_s']:.1f}"]
        table.append([row["name"], *cells])
    return table


def _costs(result: Result) -> list[list[str]]:
    table = [["", "file, MB", "first answer, s", "idle, MB", "peak, MB", "J/request", "quality", "drop"]]
    for row in result["rows"]:
        process, energy = row.get("process") or {}, row.get("energy") or {}
        table.append(
            [
                row["name"],
                f"{row['size_mb']:.1f}",
                _number(process.get("first_answer_s"), 2),
                _number(process.get("idle_mb"), 0),
                _number(process.get("peak_mb"), 0),
                _number(energy.get("joules"), 4),
                quality_text(row),
                drop_text(row),
            ]
        )
    return table


def quality_text(row: Result) -> str:
    """The figure with its interval."""
    quality = row.get("quality")
    return f"{quality['value']:.4f} ({quality['low']:.4f} to {quality['high']:.4f})" if quality else ""


def drop_text(row: Result) -> str:
    """What is lost to fp32, in percent."""
    drop = (row.get("quality") or {}).get("drop")
    return f"{drop['value']:.2%} ({drop['low']:.2%} to {drop['high']:.2%})" if drop and not row["baseline"] else ""


def _writes(result: Result) -> bool:
    return any("writing" in row for row in result["rows"])


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _lines(table: Sequence[Sequence[str]], slow: set[str], *, color: bool) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for cells in table:
        first = cells[0].ljust(widths[0])
        line = "  ".join([first, *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))])
        if cells[0] in slow:
            line = f"{_RED}{line}{_PLAIN}" if color else f"{line}  <- slower than fp32"
        lines.append(line.rstrip())
    return lines
