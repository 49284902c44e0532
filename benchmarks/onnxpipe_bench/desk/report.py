"""A survey as one HTML page: no script, nothing from a network, plots inside with their text alternatives."""

import html
from collections.abc import Sequence
from typing import Any

from onnxpipe_bench.desk.figures import Figure, make_figures
from onnxpipe_bench.desk.svg import draw
from onnxpipe_bench.desk.terminal import drop_text, is_slower, notes, quality_text, speed_text

Result = dict[str, Any]
Cell = str | tuple[str, str]  # a text, or a text with a class

_STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfb; --panel: #ffffff; --ink: #1c2127; --muted: #5b6570; --rule: #dde1e6;
  --accent: #0b62c4; --good: #17703c; --bad: #b3261e; --bad-paper: #fdecea; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --panel: #1b1f24; --ink: #e8eaed; --muted: #a3adb8;
  --rule: #343b44; --accent: #6cb2ff; --good: #6fd393; --bad: #ff8a80; --bad-paper: #3b1f1d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 68rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 0 0 .4rem; }
p { margin: .4rem 0; max-width: 46rem; }
.muted, caption, figcaption { color: var(--muted); }
.warning { background: var(--bad-paper); border-left: 4px solid var(--bad); padding: .6rem .8rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .8rem; }
.card { background: var(--panel); border: 1px solid var(--rule); border-radius: .5rem; padding: .8rem .9rem; }
.card.slow { border-color: var(--bad); }
.card strong { font-size: 1.05rem; overflow-wrap: anywhere; }
.card dl { display: grid; grid-template-columns: 1fr auto; gap: .1rem .6rem; margin: .5rem 0 0; font-size: .92rem; }
.card dt { color: var(--muted); } .card dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; background: var(--panel); border: 1px solid var(--rule); border-radius: .5rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; } thead th { color: var(--muted); font-weight: 600; }
tbody tr:last-child > * { border-bottom: 0; } tbody th { font-weight: 600; }
tr.slow > *, .slow-text { color: var(--bad); }
.fast-text { color: var(--good); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
figure { margin: 0; background: var(--panel); border: 1px solid var(--rule); border-radius: .5rem; padding: .9rem;
  min-width: 0; }
figcaption { font-size: .9rem; margin-top: .3rem; }
details { margin-top: .4rem; font-size: .9rem; } summary { cursor: pointer; color: var(--accent); }
details .scroll { margin-top: .4rem; }
svg { display: block; width: 100%; height: auto; max-width: 36rem; margin: 0 auto; }
svg text { fill: var(--ink); font-size: 12px; paint-order: stroke; stroke: var(--panel); stroke-width: 3px; }
svg .tick, svg .axis { fill: var(--muted); }
svg .mid { text-anchor: middle; } svg .end { text-anchor: end; } svg text.slow { fill: var(--bad); }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .frontier { fill: none; stroke: var(--muted); stroke-dasharray: 4 4; }
svg .leader { stroke: var(--muted); stroke-width: .8; }
svg .mark { fill: var(--panel); stroke: var(--accent); stroke-width: 2; } svg .mark.best { fill: var(--accent); }
svg .mark.slow { fill: var(--bad); stroke: var(--bad); }
svg .half { fill: var(--accent); fill-opacity: .3; } svg .median { stroke: var(--accent); stroke-width: 3; }
svg .reach { stroke: var(--accent); stroke-width: 1.5; }
svg rect.slow { fill: var(--bad); } svg line.slow { stroke: var(--bad); }
@media print { details:not([open]) > * { display: none; } body { max-width: none; } }
"""


def render_report(result: Result) -> str:
    """The page."""
    models = ", ".join(dict.fromkeys(row["model"] for row in result["rows"]))
    told = notes(result)
    warnings = [note for note in told if note.startswith("SLOWER")]
    body = [
        f"<h1>{html.escape(models)}</h1>",
        f'<p class="muted">{html.escape(result["task"])} on {html.escape(_machine(result))}</p>',
        *(f'<p class="warning" role="alert">{html.escape(note)}</p>' for note in warnings),
        "<h2>At a glance</h2>",
        f'<div class="cards">{"".join(_card(row, result) for row in result["rows"])}</div>',
        "<h2>Plots</h2>",
        f'<div class="figures">{"".join(map(_figure, make_figures(result)))}</div>',
        "<h2>Latency of one request</h2>",
        _table(["", result["unit"], "p50, ms", "p95, ms", "p99, ms", "calls", "beside fp32"], _latency_rows(result)),
        "<h2>Throughput</h2>",
        _table(["requests a second", *(f"{batch} at once" for batch in result["batches"])], _throughput_rows(result)),
        *_writing(result),
        "<h2>Size, memory, energy, quality</h2>",
        _table(
            ["", "file, MB", "first answer, s", "idle, MB", "peak, MB", "J/request", "quality (95 %)", "drop (95 %)"],
            _cost_rows(result),
        ),
        "<h2>How it was measured</h2>",
        *(f"<p>{html.escape(note)}</p>" for note in told if note not in warnings),
        f'<p class="muted">{html.escape(_versions(result))}</p>',
    ]
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(models)} - onnxpipe bench</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{chr(10).join(body)}\n</main>\n</body>\n</html>\n"
    )


def _machine(result: Result) -> str:
    stamp = result["stamp"]
    return f"{stamp['cpu']}, {stamp['date']}"


def _versions(result: Result) -> str:
    return ", ".join(
        f"{name} {', '.join(value) if isinstance(value, list) else value}" for name, value in result["stamp"].items()
    )


def _card(row: Result, result: Result) -> str:
    middle = next(figures for figures in row["latency"] if figures["length"] == result["middle"])
    facts = [(f"median at {result['middle']} {result['unit']}", f"{middle['p50']:.2f} ms")]
    if "speed" in middle:
        facts.append(("speed beside fp32", f"{middle['speed']['value']:.2f}x"))
    facts.append(("size of the files", f"{row['size_mb']:.1f} MB"))
    if quality := row.get("quality"):
        facts.append((quality["metric"], f"{quality['value']:.4f}"))
    if drop := drop_text(row):
        facts.append(("drop from fp32", drop.split(" (")[0]))
    slow = is_slower(row)
    listed = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in facts)
    told = '<div class="slow-text">slower than fp32</div>' if slow else ""
    return (
        f'<div class="card{" slow" if slow else ""}"><strong>{html.escape(row["name"])}</strong>{told}'
        f"<dl>{listed}</dl></div>"
    )


def _figure(figure: Figure) -> str:
    table = _table(figure.header, [(False, row) for row in figure.table])
    return (
        f'<figure id="{html.escape(figure.key)}"><h3>{html.escape(figure.title)}</h3>{draw(figure)}'
        f"<figcaption>{html.escape(figure.caption)}</figcaption>"
        f"<details><summary>The same as a table</summary>{table}</details></figure>"
    )


def _latency_rows(result: Result) -> list[tuple[bool, list[Cell]]]:
    rows: list[tuple[bool, list[Cell]]] = []
    for row in result["rows"]:
        for figures in row["latency"]:
            slow = "speed" in figures and figures["speed"]["high"] < 1
            fast = "speed" in figures and figures["speed"]["low"] > 1
            told = speed_text(figures) + (" slower" if slow else "")
            times: list[Cell] = [f"{figures[name]:.2f}" for name in ("p50", "p95", "p99")]
            speed: Cell = (told, "fast-text") if fast else told
            rows.append((slow, [row["name"], str(figures["size"]), *times, str(figures["calls"]), speed]))
    return rows


def _throughput_rows(result: Result) -> list[tuple[bool, list[Cell]]]:
    return [
        (is_slower(row), [row["name"], *(f"{figures['rows_per_s']:.1f}" for figures in row["throughput"])])
        for row in result["rows"]
    ]


def _writing(result: Result) -> list[str]:
    rows: list[tuple[bool, list[Cell]]] = [
        (
            is_slower(row),
            [row["name"], f"{row['writing']['first_ms']:.1f}", f"{row['writing']['tokens_per_s']:.1f}"],
        )
        for row in result["rows"]
        if "writing" in row
    ]
    return ["<h2>Writing</h2>", _table(["", "first token, ms", "tokens a second"], rows)] if rows else []


def _cost_rows(result: Result) -> list[tuple[bool, list[Cell]]]:
    rows: list[tuple[bool, list[Cell]]] = []
    for row in result["rows"]:
        process, energy = row.get("process") or {}, row.get("energy") or {}
        told = [process.get("first_answer_s"), process.get("idle_mb"), process.get("peak_mb"), energy.get("joules")]
        cells = ["not told" if value is None else f"{value:g}" for value in told]
        rows.append((is_slower(row), [row["name"], f"{row['size_mb']:.1f}", *cells, quality_text(row), drop_text(row)]))
    return rows


def _table(header: Sequence[str], rows: Sequence[tuple[bool, Sequence[Cell]]]) -> str:
    """A table whose first cells are headers of their rows; rows that are slower than fp32 in red."""
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in header)
    lines = []
    for slow, cells in rows:
        first, *others = [_cell(cell) for cell in cells]
        body = "".join(f"<td{kind}>{text}</td>" for text, kind in others)
        lines.append(f'<tr{" class=slow" if slow else ""}><th scope="row">{first[0]}</th>{body}</tr>')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="table"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(cell: Cell) -> tuple[str, str]:
    text, kind = cell if isinstance(cell, tuple) else (cell, "")
    return html.escape(text), f' class="{kind}"' if kind else ""
