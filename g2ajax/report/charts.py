"""Charts as SVG: for a page, where text takes the page's colour, and as files for a paper.

Every chart is one `<svg>` element that needs nothing else; its text is black where nothing says
otherwise. Lines differ in dashes too, not only in colour.
"""

import html
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

COLOURS = ("#2f7ed8", "#d9762b", "#1a9d5a", "#a855c7", "#7a7a7a")
DASHES = ("", "6 3", "2 3", "8 3 2 3")
WIDTH, HEIGHT = 480, 270
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 10, 38
_LETTER = 6.6
"""Mean width of a letter at the charts' size of text, in units."""


Number = int | float


class Point(NamedTuple):
    """A value at a place of the horizontal axis, with the bounds of its interval where it has one."""

    x: Number
    y: Number
    low: Number | None = None
    high: Number | None = None


class Bar(NamedTuple):
    """A named value with its interval, and a word on its base ("120 queries")."""

    name: str
    value: Number
    low: Number
    high: Number
    note: str = ""
    mark: Number | None = None
    """Value to compare with, such as that of chance: a line across the bar."""


class Threshold(NamedTuple):
    """A marked distance of a histogram."""

    distance: Number
    label: str


def lines(
    series: Mapping[str, Sequence[Point]],
    *,
    x: str,
    y: str,
    ticks: Sequence[Number] = (),
    logarithmic: bool = False,
    top: Number | None = None,
) -> str:
    """One line for each name, with shaded intervals where the points have any.

    `x`, `y`: titles of the axes; `ticks`: marked places of the horizontal axis, by default round
    numbers; `top`: upper end of the vertical axis, by default that of the values. Raises ValueError
    without lines, for a line without points, for values that are not finite, and for places that a
    logarithmic axis lacks.
    """
    if not series or not all(series.values()):
        raise ValueError("a chart needs lines, and each line points")
    series = {name: sorted(points) for name, points in series.items()}
    points = [point for line in series.values() for point in line]
    if not all(math.isfinite(value) for p in points for value in (p.x, p.y)):
        raise ValueError("a chart has values that are not finite")
    if logarithmic and min(p.x for p in points) <= 0:
        raise ValueError("a logarithmic axis has no place for 0 and less")
    highest = top or 1.05 * max(max(p.y, p.high or p.y) for p in points) or 1.0
    rows = _legend_rows(list(series))
    plot = _Plot(
        (min(p.x for p in points), max(p.x for p in points)),
        (min(0.0, *(p.y for p in points)), highest),
        logarithmic=logarithmic,
    )
    parts = [plot.axes(x, y, ticks)]
    for number, (name, line) in enumerate(series.items()):
        colour, dash = _style(number)
        if all(p.low is not None for p in line) and len(line) > 1:
            edge = [(p.x, p.high) for p in line] + [(p.x, p.low) for p in reversed(line)]
            path = " ".join(f"{plot.x(a):.1f},{plot.y(b):.1f}" for a, b in edge)
            parts.append(f'<polygon points="{path}" fill="{colour}" fill-opacity="0.15"/>')
        path = " ".join(f"{plot.x(p.x):.1f},{plot.y(p.y):.1f}" for p in line)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
        )
        if len(line) <= 12:
            parts += [
                f'<circle cx="{plot.x(p.x):.1f}" cy="{plot.y(p.y):.1f}" r="3" fill="{colour}">'
                f"<title>{text_of(name)}: {p.y:.4g} at {p.x:g}</title></circle>"
                for p in line
            ]
    parts.append(_legend(list(series), HEIGHT + 4))
    return _svg(WIDTH, HEIGHT + 18 * rows, parts)


def bars(rows: Sequence[Bar], *, x: str, top: Number = 100.0) -> str:
    """Horizontal bars with their intervals and marks. Raises ValueError without bars."""
    if not rows:
        raise ValueError("a chart of bars needs bars")
    left = min(200, 16 + int(1.1 * _LETTER * max(len(row.name) for row in rows)))
    note = 8 + int(_LETTER * max(len(row.note) for row in rows))
    width, step = WIDTH - left - note - 64, 26
    height = TOP + step * len(rows)
    parts = []
    for place, row in enumerate(rows):
        y = TOP + step * place
        end, low, high = (left + width * min(v, top) / top for v in (row.value, row.low, row.high))
        parts += [
            label(left - 8, y + 16, row.name, "end"),
            f'<rect x="{left}" y="{y + 4}" width="{max(end - left, 0.5):.1f}" height="16" rx="2" '
            f'fill="{COLOURS[0]}" fill-opacity="0.75"/>',
            f'<path d="M{low:.1f} {y + 12}H{high:.1f}M{low:.1f} {y + 8}v8M{high:.1f} {y + 8}v8" '
            'fill="none" stroke="currentColor" stroke-width="1.4"/>',
            label(left + width + 58, y + 16, f"{row.value:.1f}", "end"),
            label(WIDTH - 2, y + 16, row.note, "end", faint=True),
        ]
        if row.mark is not None:
            at = left + width * min(row.mark, top) / top
            parts.append(f'<path d="M{at:.1f} {y + 1}v22" stroke="{COLOURS[1]}" stroke-width="3"/>')
    for tick in np.linspace(0, top, 5):
        at = left + width * tick / top
        parts.append(f'<path d="M{at:.1f} {TOP}V{height}" {_GRID}/>')
        parts.append(label(at, height + 14, f"{tick:g}", "middle", faint=True))
    parts.append(label(left + width / 2, height + 31, x, "middle"))
    return _svg(WIDTH, height + 38, parts)


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Float[np.ndarray, "R C"],
    counts: Int[np.ndarray, "R C"],
    *,
    row_title: str,
    column_title: str,
    top: Number = 100.0,
) -> str:
    """A table of values, darker where they are larger; NaN is an empty cell.

    Raises ValueError for values of another shape.
    """
    if values.shape != (len(rows), len(columns)):
        raise ValueError(f"{values.shape} values for {len(rows)} rows and {len(columns)} columns")
    left = 30 + int(_LETTER * max(len(name) for name in rows))
    wide = min(64.0, max(30.0, (WIDTH - left - RIGHT) / len(columns)))
    high = 30.0
    head, width = 40, left + wide * len(columns) + RIGHT
    parts = [
        label(left + wide * len(columns) / 2, 14, column_title, "middle"),
        f'<text transform="translate(12 {head + high * len(rows) / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{text_of(row_title)}</text>',
    ]
    parts += [
        label(left + wide * (c + 0.5), head - 8, name, "middle", faint=True)
        for c, name in enumerate(columns)
    ]
    for r, name in enumerate(rows):
        y = head + high * r
        parts.append(label(left - 6, y + 20, name, "end", faint=True))
        for c, value in enumerate(values[r]):
            x = left + wide * c
            if math.isnan(value):
                continue
            text = f"{value:.0f}" if wide < 40 else f"{value:.1f}"
            parts.append(
                f"<g><title>{text_of(name)}, {text_of(columns[c])}: {value:.1f}, {counts[r, c]} matches"
                f'</title><rect x="{x + 1:.1f}" y="{y + 1:.1f}" width="{wide - 2:.1f}" '
                f'height="{high - 2:.1f}" rx="3" fill="{COLOURS[0]}" '
                f'fill-opacity="{0.08 + 0.72 * min(max(value / top, 0), 1):.2f}"/>'
                f"{label(x + wide / 2, y + 20, text, 'middle')}</g>"
            )
    return _svg(max(width, 240), head + high * len(rows) + 8, parts)


def histogram(
    edges: Float[np.ndarray, " N"],
    shares: Mapping[str, Float[np.ndarray, " M"]],
    *,
    x: str,
    thresholds: Sequence[Threshold] = (),
) -> str:
    """Distributions over one axis: the share (in percent) of each kind in each bin.

    Raises ValueError unless each kind has a share for every bin.
    """
    for name, values in shares.items():
        if len(values) != len(edges) - 1:
            raise ValueError(f"{name}: {len(values)} shares for {len(edges) - 1} bins")
    highest = max(float(values.max()) for values in shares.values()) or 1.0
    rows = _legend_rows(list(shares))
    plot = _Plot(
        (float(edges[0]), float(edges[-1])),
        (0.0, 1.12 * highest),
        above=TOP + 13 * len(thresholds),
    )
    parts = [plot.axes(x, "share of the pairs in percent", ())]
    for number, values in enumerate(shares.values()):
        colour, dash = _style(number)
        places = edges.tolist()
        corners = [(places[0], 0.0)]
        for low, high, value in zip(places[:-1], places[1:], values.tolist(), strict=True):
            corners += [(low, value), (high, value)]
        corners.append((places[-1], 0.0))
        path = " ".join(f"{plot.x(a):.1f},{plot.y(b):.1f}" for a, b in corners)
        parts.append(
            f'<polygon points="{path}" fill="{colour}" fill-opacity="0.3" stroke="{colour}" '
            f'stroke-width="1.5"{dash}/>'
        )
    for place, threshold in enumerate(thresholds):
        at = plot.x(min(max(threshold.distance, float(edges[0])), float(edges[-1])))
        top = TOP + 13 * place
        parts.append(
            f'<path d="M{at:.1f} {top + 4}V{plot.bottom}" stroke="currentColor" '
            'stroke-dasharray="4 3"/>'
        )
        parts.append(label(at + 5, top + 10, threshold.label, "start", faint=True))
    parts.append(_legend(list(shares), HEIGHT + 4))
    return _svg(WIDTH, HEIGHT + 18 * rows, parts)


_GRID = 'stroke="currentColor" stroke-opacity="0.15" fill="none"'


class _Plot:
    """The area of a chart with two axes."""

    def __init__(
        self,
        across: tuple[Number, Number],
        upward: tuple[Number, Number],
        *,
        logarithmic: bool = False,
        above: int = TOP,
    ) -> None:
        self.logarithmic, self.above = logarithmic, above
        self.bottom = HEIGHT - BOTTOM
        self.start, self.end = (self._scaled(value) for value in across)
        self.low, self.high = upward
        if self.end == self.start:
            self.start, self.end = self.start - 0.5, self.end + 0.5
        self.across = across

    def _scaled(self, value: Number) -> Number:
        return math.log10(value) if self.logarithmic else value

    def x(self, value: Number) -> Number:
        share = (self._scaled(value) - self.start) / (self.end - self.start)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: Number) -> Number:
        share = (value - self.low) / (self.high - self.low)
        return self.bottom - min(max(share, 0.0), 1.0) * (self.bottom - self.above)

    def axes(self, x: str, y: str, ticks: Sequence[Number]) -> str:
        parts = []
        for tick in round_ticks(self.low, self.high):
            parts.append(f'<path d="M{LEFT} {self.y(tick):.1f}H{WIDTH - RIGHT}" {_GRID}/>')
            parts.append(label(LEFT - 5, self.y(tick) + 4, f"{tick:g}", "end", faint=True))
        low, high = self.across
        marks = [t for t in ticks if low <= t <= high] or round_ticks(low, high)
        for tick in marks:
            at = self.x(tick)
            parts.append(f'<path d="M{at:.1f} {self.bottom}v4" stroke="currentColor"/>')
            parts.append(label(at, self.bottom + 16, f"{tick:g}", "middle", faint=True))
        parts += [
            f'<path d="M{LEFT} {self.above}V{self.bottom}H{WIDTH - RIGHT}" fill="none" '
            'stroke="currentColor" stroke-opacity="0.6"/>',
            label((LEFT + WIDTH - RIGHT) / 2, self.bottom + 33, x, "middle"),
            f'<text transform="translate(11 {(self.above + self.bottom) / 2:.0f}) rotate(-90)" '
            f'text-anchor="middle">{text_of(y)}</text>',
        ]
        return "".join(parts)


def round_ticks(low: Number, high: Number, most: int = 6) -> list[Number]:
    """Round numbers from `low` to `high`, at most `most`: multiples of 1, 2 or 5 times a power of 10."""
    if high <= low:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(p for p in (power, 2 * power, 5 * power, 10 * power) if (high - low) / p < most)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def _style(number: int) -> tuple[str, str]:
    colour = COLOURS[number % len(COLOURS)]
    dash = DASHES[number % len(DASHES)]
    return colour, f' stroke-dasharray="{dash}"' if dash else ""


def _legend_rows(names: Sequence[str]) -> int:
    return 1 + max(row for _, _, row in _placed(names))


def _placed(names: Sequence[str]) -> list[tuple[str, Number, int]]:
    """Each name with its left edge and its row in a legend."""
    places, at, row = [], float(LEFT), 0
    for name in names:
        width = 34 + _LETTER * len(name)
        if at > LEFT and at + width > WIDTH:
            at, row = float(LEFT), row + 1
        places.append((name, at, row))
        at += width
    return places


def _legend(names: Sequence[str], top: Number) -> str:
    parts = []
    for number, (name, at, row) in enumerate(_placed(names)):
        colour, dash = _style(number)
        y = top + 18 * row
        parts.append(
            f'<path d="M{at:.0f} {y + 4:.0f}h18" stroke="{colour}" stroke-width="3"{dash}/>'
        )
        parts.append(label(at + 23, y + 8, name, "start"))
    return "".join(parts)


def label(x: Number, y: Number, text: str, anchor: str, *, faint: bool = False) -> str:
    """A line of text as an SVG element; `anchor`: "start", "middle" or "end"."""
    shade = ' fill-opacity="0.7"' if faint else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{shade}>{text_of(text)}</text>'


def text_of(value: object) -> str:
    """Text for SVG, also inside an attribute."""
    return html.escape(str(value), quote=True)


def _svg(width: Number, height: Number, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" font-family="system-ui, sans-serif" '
        f'font-size="12" fill="currentColor">{"".join(parts)}</svg>'
    )
