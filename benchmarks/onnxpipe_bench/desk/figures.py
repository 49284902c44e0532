"""The plots of a survey as data: what they show, and the same in words and as a table."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from onnxpipe_bench.desk.terminal import is_slower

Result = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Point:
    """A candidate at a place; `slow` says that it is slower than fp32, `best` that none is better in both ways."""

    name: str
    x: float
    y: float
    slow: bool
    best: bool = False


@dataclasses.dataclass(frozen=True)
class Scatter:
    """Candidates by two figures, less being better on both axes unless `higher_y`."""

    key: str
    title: str
    x_label: str
    y_label: str
    y_digits: int
    higher_y: bool
    points: Sequence[Point]

    @property
    def caption(self) -> str:
        """What is to be seen."""
        best = [point.name for point in self.points if point.best]
        place = "top" if self.higher_y else "bottom"
        told = f"Best towards the {place} left. Nothing measured is better in both ways than: {', '.join(best)}."
        slow = [point.name for point in self.points if point.slow]
        return f"{told} Slower than fp32: {', '.join(slow)}." if slow else told

    @property
    def header(self) -> list[str]:
        """Of the table."""
        return ["", self.x_label, self.y_label]

    @property
    def table(self) -> list[list[str]]:
        """Every point."""
        return [[point.name, f"{point.x:.2f}", f"{point.y:.{self.y_digits}f}"] for point in self.points]


@dataclasses.dataclass(frozen=True)
class Strip:
    """The distribution of a candidate's times, by percentile."""

    name: str
    quantiles: Mapping[int, float]
    slow: bool


@dataclasses.dataclass(frozen=True)
class Spread:
    """Distributions one below the other."""

    key: str
    title: str
    x_label: str
    strips: Sequence[Strip]

    @property
    def caption(self) -> str:
        """What is to be seen."""
        fastest = min(self.strips, key=lambda strip: strip.quantiles[50])
        told = (
            f"Boxes hold the middle half of the calls, lines reach from 5 to 95 %, ticks mark the median and p99. "
            f"Fastest: {fastest.name} with a median of {fastest.quantiles[50]:.2f} ms."
        )
        slow = [strip.name for strip in self.strips if strip.slow]
        return f"{told} Slower than fp32: {', '.join(slow)}." if slow else told

    @property
    def header(self) -> list[str]:
        """Of the table."""
        return ["ms", "p5", "p25", "p50", "p75", "p95", "p99"]

    @property
    def table(self) -> list[list[str]]:
        """Every distribution."""
        return [[strip.name, *(f"{strip.quantiles[q]:.2f}" for q in (5, 25, 50, 75, 95, 99))] for strip in self.strips]


Figure = Scatter | Spread


def alternative(figure: Figure) -> str:
    """A plot in words, for those who do not see it."""
    rows = "; ".join(
        f"{row[0]}: " + ", ".join(f"{name} {cell}" for name, cell in zip(figure.header[1:], row[1:], strict=True))
        for row in figure.table
    )
    return f"{figure.title}. {figure.caption} {rows}."


def make_figures(result: Result) -> list[Figure]:
    """The plots: quality and size against latency, then how latencies are spread at every length."""
    unit, middle = result["unit"], result["middle"]
    x_label = f"median latency at {middle} {unit}, ms"
    figures: list[Figure] = []
    told = result["quality"]
    if "metric" in told and all(row.get("quality") for row in result["rows"]):
        points = [(row, row["quality"]["value"]) for row in result["rows"]]
        higher = not told.get("lower", False)
        found = _points(points, middle, higher_y=higher)
        figures.append(_scatter("quality", x_label, (told["metric"], 4), found, higher_y=higher))
    sizes = _points([(row, row["size_mb"]) for row in result["rows"]], middle, higher_y=False)
    figures.append(_scatter("size", x_label, ("size of the files, MB", 1), sizes, higher_y=False))
    figures += [_spread(result, length, unit) for length in result["lengths"]]
    return figures


def _scatter(what: str, x_label: str, y: tuple[str, int], points: Sequence[Point], *, higher_y: bool) -> Scatter:
    y_label, digits = y
    title = f"{what.capitalize()} against latency"
    return Scatter(f"{what}-latency", title, x_label, y_label, digits, higher_y, points)


def _points(rows: Sequence[tuple[Result, float]], length: int, *, higher_y: bool) -> list[Point]:
    sign = -1 if higher_y else 1
    places = [(_at(row, length)["p50"], sign * value) for row, value in rows]
    return [
        Point(row["name"], x, value, is_slower(row), not any(_beats(other, (x, sign * value)) for other in places))
        for (row, value), (x, _) in zip(rows, places, strict=True)
    ]


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] <= other[0] and one[1] <= other[1]


def _spread(result: Result, length: int, unit: str) -> Spread:
    strips = []
    for row in result["rows"]:
        figures = _at(row, length)
        slow = "speed" in figures and figures["speed"]["high"] < 1
        strips.append(Strip(row["name"], {int(q): value for q, value in figures["quantiles"].items()}, slow))
    return Spread(f"latency-{length}", f"Latency at {length} {unit}", "ms", strips)


def _at(row: Result, length: int) -> Result:
    found: Result = next(figures for figures in row["latency"] if figures["length"] == length)
    return found
