"""Plots as inline SVG, drawn with the page's own colors, so that they follow it into the dark."""

import html
import math
from collections.abc import Sequence

from onnxpipe_bench.desk.figures import Figure, Point, Scatter, Spread, alternative

_WIDTH = 460
_SCATTER_HEIGHT = 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 16, 46
_STRIP = 44  # height of one distribution, its name included
_LETTER = 6.4  # width of a letter of a label, about
_LINE = 14
_FAR = 24  # from where on a label is tied to its point by a line

Box = tuple[float, float, float, float]  # left, top, right, bottom


def draw(figure: Figure) -> str:
    """The plot as an <svg> element with a text alternative."""
    height, body = _draw_scatter(figure) if isinstance(figure, Scatter) else _draw_spread(figure)
    label = html.escape(alternative(figure), quote=True)
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{label}">{"".join(body)}</svg>'


class Axis:
    """Values of an axis to places from `start` to `end`, with ticks at round numbers."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = min(values), max(values)
        room = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
        self._low = low - room if low - room > 0 or low < 0 else 0.0
        self._high = high + room
        self._start, self._end = start, end
        step = _round_step((self._high - self._low) / 7)
        self._digits = max(0, -math.floor(math.log10(step) + 1e-9))
        first = math.ceil(self._low / step - 1e-9)
        self.ticks = [number * step for number in range(first, math.floor(self._high / step + 1e-9) + 1)]

    def place(self, value: float) -> float:
        """Where a value is drawn."""
        share = (value - self._low) / (self._high - self._low)
        return round(self._start + share * (self._end - self._start), 1)

    def text(self, tick: float) -> str:
        """A tick as a number."""
        return f"{tick:.{self._digits}f}"


def place_labels(points: Sequence[tuple[float, float, str]], frame: Box) -> list[tuple[float, float]]:
    """Where the left end of each point's label goes: beside, above or below it, clear of the others where possible."""
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y, _ in points]
    places = []
    for own, (x, y, name) in enumerate(points):
        width = _LETTER * len(name)
        beside = [(x + 10, y + 4), (x - 10 - width, y + 4), (x - width / 2, y - 12), (x - width / 2, y + 20)]
        beside += [(x + side, y + 4 + _LINE * lines) for lines in (-1, 1, -2, 2, -3, 3) for side in (10, -10 - width)]
        spots = [(min(max(left, frame[0] + 2), frame[2] - width - 2), top) for left, top in beside]
        others = [box for number, box in enumerate(taken) if number != own]
        left, top = min(spots, key=lambda spot: (_cost(_label_box(spot, width), others, frame), spots.index(spot)))
        places.append((round(left, 1), round(top, 1)))
        taken.append(_label_box((left, top), width))
    return places


def _label_box(spot: tuple[float, float], width: float) -> Box:
    return spot[0], spot[1] - 11, spot[0] + width, spot[1] + 3


def _cost(box: Box, others: Sequence[Box], frame: Box) -> float:
    """How much of a label lies on others or outside of the frame, in square pixels."""
    outside = max(0.0, frame[0] - box[0]) + max(0.0, box[2] - frame[2])
    outside += max(0.0, frame[1] - box[1]) + max(0.0, box[3] - frame[3])
    return 100 * outside + sum(
        max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
        * max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
        for other in others
    )


def _draw_scatter(figure: Scatter) -> tuple[int, list[str]]:
    bottom = _SCATTER_HEIGHT - _BOTTOM
    frame = (_LEFT, _TOP, _WIDTH - _RIGHT, bottom)
    across = Axis([point.x for point in figure.points], frame[0], frame[2])
    upward = Axis([point.y for point in figure.points], frame[3], frame[1])
    body = _draw_axis(across, bottom, _TOP, figure.x_label)
    for tick in upward.ticks:
        y = upward.place(tick)
        body.append(f'<line class="grid" x1="{_LEFT}" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}"/>')
        body.append(_text(_LEFT - 6, y + 4, upward.text(tick), "tick end"))
    middle = (_TOP + bottom) / 2
    body.append(
        f'<text class="axis mid" transform="translate(11 {middle}) rotate(-90)">{html.escape(figure.y_label)}</text>'
    )
    places = [(across.place(point.x), upward.place(point.y)) for point in figure.points]
    body.append(_frontier(figure, places))
    labels = place_labels([(x, y, point.name) for (x, y), point in zip(places, figure.points, strict=True)], frame)
    for point, (x, y), (left, top) in zip(figure.points, places, labels, strict=True):
        if abs(top - 4 - y) > _FAR:
            body.append(f'<line class="leader" x1="{x}" y1="{y}" x2="{left - 2}" y2="{top - 4}"/>')
        body.append(_mark(point, x, y))
        body.append(_text(left, top, point.name, "name slow" if point.slow else "name"))
    return _SCATTER_HEIGHT, body


def _mark(point: Point, x: float, y: float) -> str:
    """A disc; a diamond for what is slower than fp32, so that color is not all that tells it."""
    if point.slow:
        return f'<path class="mark slow" d="M{x} {y - 7}l7 7l-7 7l-7 -7z"/>'
    return f'<circle class="mark{" best" if point.best else ""}" cx="{x}" cy="{y}" r="5.5"/>'


def _frontier(figure: Scatter, places: Sequence[tuple[float, float]]) -> str:
    best = sorted(place for place, point in zip(places, figure.points, strict=True) if point.best)
    return f'<polyline class="frontier" points="{" ".join(f"{x},{y}" for x, y in best)}"/>'


def _draw_spread(figure: Spread) -> tuple[int, list[str]]:
    bottom = _TOP + _STRIP * len(figure.strips) + 6
    left = 14
    ends = [strip.quantiles[q] for strip in figure.strips for q in (5, 99)]
    across = Axis([0.0, *ends], left, _WIDTH - _RIGHT)
    body = _draw_axis(across, bottom, _TOP, figure.x_label)
    for number, strip in enumerate(figure.strips):
        name_y = _TOP + _STRIP * number + 13
        y = name_y + 17
        p5, p25, p50, p75, p95, p99 = (across.place(strip.quantiles[q]) for q in (5, 25, 50, 75, 95, 99))
        slow = " slow" if strip.slow else ""
        body.append(_text(left, name_y, f"{strip.name}{' - slower than fp32' if strip.slow else ''}", f"name{slow}"))
        body.append(f'<line class="reach{slow}" x1="{p5}" y1="{y}" x2="{p95}" y2="{y}"/>')
        width = max(round(p75 - p25, 1), 1)
        body.append(f'<rect class="half{slow}" x="{p25}" y="{y - 7}" width="{width}" height="14" rx="2"/>')
        body.append(f'<line class="median{slow}" x1="{p50}" y1="{y - 9}" x2="{p50}" y2="{y + 9}"/>')
        body.append(f'<line class="reach{slow}" x1="{p99}" y1="{y - 5}" x2="{p99}" y2="{y + 5}"/>')
    return bottom + _BOTTOM, body


def _draw_axis(axis: Axis, bottom: float, top: float, label: str) -> list[str]:
    body = []
    for tick in axis.ticks:
        x = axis.place(tick)
        body.append(f'<line class="grid" x1="{x}" y1="{top}" x2="{x}" y2="{bottom}"/>')
        body.append(_text(x, bottom + 16, axis.text(tick), "tick mid"))
    body.append(_text(_WIDTH / 2, bottom + 36, label, "axis mid"))
    return body


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{html.escape(text)}</text>'


def _round_step(step: float) -> float:
    """The next of 1, 2, 5, 10, ... times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return float(next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step * (1 - 1e-9)))
