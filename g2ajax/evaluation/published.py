"""Published scores as data: what a paper printed, on which protocol, beside one's own.

`published.csv` has one row for each method, dataset and protocol. Nothing in it was measured here. Scores of one
name may be of two protocols (CARGO's "A<->G" is `AG-pooled` or `A2G`): the protocols are g2ajax's, told apart by
the number of valid queries, of which every rank-1 is a multiple.
"""

import csv
import dataclasses
import functools
import pathlib
from collections.abc import Sequence

from g2ajax.config import nearest
from g2ajax.evaluation.results import Result
from g2ajax.evaluation.terminal import aligned

FILE = pathlib.Path(__file__).with_suffix(".csv")


@dataclasses.dataclass(frozen=True)
class Published:
    """The scores of one method on one protocol, in percent, as printed."""

    method: str
    """Name of the recipe, with its network in brackets where there are several."""
    dataset: str
    protocol: str
    valid_queries: int | None
    """None: not known."""
    rank1: float
    mAP: float
    source: str


@functools.cache
def published() -> tuple[Published, ...]:
    """All rows of the table."""
    with FILE.open(newline="", encoding="utf-8") as file:
        return tuple(
            Published(
                row["method"],
                row["dataset"],
                row["protocol"],
                int(row["valid_queries"]) if row["valid_queries"] else None,
                float(row["rank1"]),
                float(row["mAP"]),
                row["source"],
            )
            for row in csv.DictReader(file)
        )


def same_method(name: str) -> list[Published]:
    """The rows of the recipe called `name` in results: "VDT (ViT-B/16)".

    A row without a network in brackets is of the recipe on its usual network.
    """
    recipe = name.partition(" (")[0]
    rows = published()
    exact = [row for row in rows if row.method == name]
    return exact or [row for row in rows if row.method == recipe]


def same_protocol(result: Result) -> Published | None:
    """The published scores of a result's method on its protocol; None for none, and for a ranking
    other than the method's own."""
    if result.ranking != "reid":
        return None
    return next((row for row in _rows(result) if _same(row, result)), None)


def _rows(result: Result) -> list[Published]:
    """The rows of a result's method on its dataset, of any protocol."""
    dataset = result.dataset.partition("/")[0]
    return [row for row in same_method(result.name) if row.dataset == dataset]


def _same(row: Published, result: Result) -> bool:
    return row.protocol == result.protocol and row.valid_queries in (None, result.valid_queries)


def beside(result: Result) -> str:
    """A line for a result: the published scores of its method on its protocol, or that there are some
    on another protocol of its dataset; "" for none.

    A row with another number of valid queries is of another protocol, whatever its name.
    """
    rows, row = _rows(result), same_protocol(result)
    if row:
        note = "" if row.valid_queries else "; number of valid queries not stated"
        return f"published: rank-1 {row.rank1:.2f}, mAP {row.mAP:.2f} ({row.source}{note})"
    if rows and not any(_same(row, result) for row in rows):
        others = ", ".join(
            f"{row.protocol} {row.rank1:.2f} / {row.mAP:.2f}" for row in dict.fromkeys(rows)
        )
        return f"published under another protocol: {others} (rank-1 / mAP)"
    return ""


def table(dataset: str) -> str:
    """The published scores on a dataset as text: a row for each method, a column for each protocol.

    Raises ValueError for a dataset without published scores, naming those that have some.
    """
    rows = [row for row in published() if row.dataset == dataset]
    if not rows:
        datasets = sorted({row.dataset for row in published()})
        raise ValueError(f"no published scores on {dataset!r}; {nearest(dataset, datasets)}")
    columns = list(dict.fromkeys((row.protocol, row.valid_queries) for row in rows))
    heads = [name if count is None else f"{name} (n={count})" for name, count in columns]
    methods = list(dict.fromkeys(row.method for row in rows))
    scores = {(row.method, row.protocol, row.valid_queries): row for row in rows}
    lines = [("rank-1 / mAP", *heads)]
    for method in methods:
        cells = (scores.get((method, *column)) for column in columns)
        lines.append(
            (method, *("-" if c is None else f"{c.rank1:.2f} / {c.mAP:.2f}" for c in cells))
        )
    sources: dict[str, list[str]] = {}
    for row in rows:
        names = sources.setdefault(row.source, [])
        if row.method not in names:
            names.append(row.method)
    notes = [f"{', '.join(names)}: {source}" for source, names in sources.items()]
    return "\n".join([*aligned(lines), "", *notes])


def lines(results: Sequence[Result]) -> list[str]:
    """A line of published scores for each protocol of results that has some."""
    texts = {}
    for result in results:
        text = beside(result)
        if text:
            texts.setdefault(f"{result.label}: {text}", None)
    return list(texts)
