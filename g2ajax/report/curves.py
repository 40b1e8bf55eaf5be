"""Plots of a score over a size, as PNG."""

import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLOURS = ("#1b5e9e", "#b8560a", "#148042", "#7a3fa0", "#5f5f5f")
STYLES = ("-", "--", ":", "-.")


class Point(NamedTuple):
    """A score at a size, with the bounds of its interval."""

    size: float
    score: float
    low: float
    high: float


def curves(lines: Mapping[str, Sequence[Point]], *, size: str, score: str) -> bytes:
    """Plots one line per name over a logarithmic axis `size`, with shaded intervals; returns a PNG.

    The axis `score` starts at 0. Raises ValueError without lines, and for a line without points or
    with sizes below 1.
    """
    if not lines or not all(lines.values()):
        raise ValueError("a plot needs lines, and each line points")
    figure = Figure(figsize=(7, 4), dpi=150)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, (name, points) in enumerate(lines.items()):
        sizes, scores, low, high = zip(*sorted(points), strict=True)
        if sizes[0] < 1:
            raise ValueError(f"line {name!r} has size {sizes[0]}; sizes are 1 or more")
        colour = COLOURS[number % len(COLOURS)]
        # Lines differ in style too, not only in colour.
        style = STYLES[number // len(COLOURS) % len(STYLES)]
        axes.plot(sizes, scores, style, marker="o", color=colour, label=name)
        axes.fill_between(sizes, low, high, color=colour, alpha=0.12, linewidth=0)
    ticks = sorted({point.size for points in lines.values() for point in points})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel(size)
    axes.set_ylabel(score)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.tight_layout()
    data = io.BytesIO()
    canvas.print_png(data)
    return data.getvalue()
