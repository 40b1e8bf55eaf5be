"""Charts that the reports of several kinds of data have in common, from their values."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from g2ajax.evaluation.curves import GroupScore, Spread
from g2ajax.report import charts
from g2ajax.report.charts import Bar, Point, Threshold
from g2ajax.report.records import Chart

CMC_RANKS = 50
"""Ranks of the curve of cumulative matching."""
CMC_TICKS = (1, 2, 5, 10, 20, 50)
PAIRS = 4_000_000
"""Most pairs behind a distribution; of more, those of evenly spaced queries."""
SPREADS = 2
"""Protocols with a distribution: the first ones."""


def cmc_chart(curves: Mapping[str, Float[np.ndarray, " _R"]], note: str = "") -> Chart:
    """Cumulative matching, a line for each protocol: the share of queries in percent from rank 1 on."""
    lines = {
        name: [Point(rank, float(y)) for rank, y in enumerate(values[:CMC_RANKS], start=1)]
        for name, values in curves.items()
    }
    svg = charts.lines(
        lines,
        x="rank",
        y="queries with a match, in percent",
        ticks=CMC_TICKS,
        logarithmic=True,
        top=100.0,
    )
    return Chart("cmc", "Cumulative matching", svg, in_words(lines, (1, 5, 10, 20), "rank-"), note)


def recall_chart(
    name: str, title: str, curves: Mapping[str, Float[np.ndarray, "101"]], note: str
) -> Chart:
    """Precision over recall, a line for each name, as `evaluation.curves.precision_recall` gives it."""
    lines = {
        of: [Point(recall, float(y)) for recall, y in enumerate(values)]
        for of, values in curves.items()
    }
    svg = charts.lines(lines, x="recall in percent", y="precision in percent", top=100.0)
    return Chart(name, title, svg, in_words(lines, (10, 50, 90), "precision at recall "), note)


def in_words(lines: Mapping[str, Sequence[Point]], places: Sequence[int], before: str) -> str:
    """The values of lines at some places, as text."""
    parts = []
    for name, points in lines.items():
        values = {point.x: point.y for point in points}
        text = ", ".join(f"{before}{x} {values[x]:.1f}" for x in places if x in values)
        parts.append(f"{name}: {text}")
    return "; ".join(parts)


def bar(score: GroupScore, before: str = "") -> Bar:
    """The bar of a group."""
    count = f"{score.queries} queries" if score.queries > 1 else "1 query"
    return Bar(f"{before}{score.name}", score.mAP, score.low, score.high, count)


def bar_chart(name: str, title: str, rows: Sequence[Bar], note: str) -> Chart:
    """A chart of mAP by groups."""
    alt = "; ".join(f"{r.name}: {r.value:.1f} ({r.low:.1f} to {r.high:.1f})" for r in rows)
    return Chart(name, title, charts.bars(rows, x="mAP in percent"), alt, note)


def sample(queries: int, gallery: int) -> Int[np.ndarray, " n"]:
    """Rows of evenly spaced queries, as many as have `PAIRS` pairs with a gallery of that size."""
    number = max(1, min(queries, PAIRS // max(1, gallery)))
    return np.linspace(0, queries - 1, number).astype(int)


def spread_chart(
    spread: Spread,
    protocol: str,
    metric: str,
    *,
    others: str,
    similarity: bool = False,
    note: str = "",
) -> Chart:
    """The distances, or similarities, of a protocol's pairs, with thresholds at false-alarm rates.

    `others`: name of the pairs that do not show one person; `note`: a sentence about the pairs.
    """
    kind, side = ("similarity", "above") if similarity else ("distance", "below")
    svg = charts.histogram(
        spread.edges,
        {"same person": spread.same, others: spread.different},
        x=f"{kind} ({metric.replace('_', ' ')})",
        thresholds=[Threshold(one.threshold, f"{100 * one.rate:g}%") for one in spread.operating],
    )
    rates = ", ".join(
        f"{100 * one.accepted:.1f}% at a false-alarm rate of {100 * one.rate:g}% ({side} "
        f"{one.threshold:.3g})"
        for one in spread.operating
    )
    same, different = spread.pairs
    text = f"{same:,} pairs of one person, {different:,} of {others}."
    if note:
        text += f" {note}"
    if rates:
        text += f" Pairs of one person {side} the threshold: {rates}."
    title = "Similarities" if similarity else "Distances"
    return Chart(f"{title.lower()}_{protocol}", f"{title}, {protocol}", svg, text, text)
