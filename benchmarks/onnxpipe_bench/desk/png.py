"""Plots as PNG files, for papers: the same figures, drawn by matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onnxpipe_bench.desk.figures import Figure, Scatter, Spread, make_figures

_GOOD, _BAD, _INK = "#1f6feb", "#c62828", "#444444"
_DPI = 200


def draw_all(result: dict[str, Any], folder: Path) -> list[Path]:
    """Write every plot of a survey into a folder; their files."""
    # here, not above: an extra
    from matplotlib.figure import Figure as Canvas

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for figure in make_figures(result):
        tall = 3.4 if isinstance(figure, Scatter) else 1.1 + 0.45 * len(figure.strips)
        canvas = Canvas(figsize=(5.2, tall), layout="constrained")
        axes = canvas.subplots()
        _draw(axes, figure)
        axes.set_title(figure.title, fontsize=10)
        axes.set_xlabel(figure.x_label, fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
        files.append(folder / f"{figure.key}.png")
        canvas.savefig(files[-1], dpi=_DPI)
    return files


def _draw(axes: Any, figure: Figure) -> None:  # matplotlib is untyped here
    if isinstance(figure, Scatter):
        _draw_scatter(axes, figure)
    else:
        _draw_spread(axes, figure)


def _draw_scatter(axes: Any, figure: Scatter) -> None:
    best = sorted((point.x, point.y) for point in figure.points if point.best)
    axes.plot(*zip(*best, strict=True), "--", color=_INK, linewidth=0.8)
    for point in figure.points:
        color = _BAD if point.slow else _GOOD
        axes.plot(point.x, point.y, "D" if point.slow else "o", color=color, markersize=6)
        axes.annotate(
            point.name, (point.x, point.y), xytext=(6, 4), textcoords="offset points", fontsize=8, color=color
        )
    axes.margins(0.2)
    axes.set_ylabel(figure.y_label, fontsize=8)


def _draw_spread(axes: Any, figure: Spread) -> None:
    rows = range(len(figure.strips))
    for row, strip in zip(rows, figure.strips, strict=True):
        color, quantiles = _BAD if strip.slow else _GOOD, strip.quantiles
        axes.plot((quantiles[5], quantiles[95]), (row, row), color=color, linewidth=1)
        axes.barh(row, quantiles[75] - quantiles[25], left=quantiles[25], height=0.5, color=color, alpha=0.35)
        axes.plot(quantiles[50], row, "|", color=color, markersize=16, markeredgewidth=2)
        axes.plot(quantiles[99], row, "|", color=color, markersize=8)
    axes.set_yticks(rows, _names(figure.strips))
    axes.invert_yaxis()
    axes.set_xlim(left=0)


def _names(strips: Sequence[Any]) -> list[str]:
    return [strip.name for strip in strips]
