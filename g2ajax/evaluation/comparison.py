"""Paired comparison of two results on one protocol: differences with intervals, query by query."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from g2ajax.evaluation.bootstrap import interval
from g2ajax.evaluation.results import QueryScores, Result, protocol_of, title
from g2ajax.evaluation.terminal import WIDTH, aligned


class Difference(NamedTuple):
    """Score of B minus that of A, in points of a percent, with its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Two results of one protocol, A and B, and how they differ."""

    a: Result
    b: Result
    mAP: Difference
    rank1: Difference
    change: Float[np.ndarray, " Q"]
    """Average precision of each query in B minus that in A, in points of a percent."""

    @property
    def queries(self) -> QueryScores:
        """The queries that are compared, with their scores in A."""
        return self.a.per_query

    def most_changed(self, count: int) -> Int[np.ndarray, " n"]:
        """The queries, at most `count`, with the largest change of average precision first, up or down; those
        without a change are left out."""
        size = np.abs(self.change)
        order = np.argsort(-size, kind="stable")[:count]
        return order[size[order] > 0]


def compare_results(a: Result, b: Result, *, samples: int = 1000, seed: int = 0) -> Comparison:
    """Compares two results by the paired bootstrap over identities.

    A draw takes people with replacement, the same for A and for B, and gives the difference of the two
    means over their queries. The difficulty that a person has for both cancels, so the interval is
    narrower than those of A and B suggest.

    Raises ValueError for results of different protocols (naming the fields that differ), of different
    queries, and without scores of each query.
    """
    check_protocols(vars(a), vars(b))
    for side, result in (("A", a), ("B", b)):
        if result.per_query is None:
            raise ValueError(
                f"{side} has no scores of single queries; score it again, or give a model that ranks "
                "(a plain detector does not)"
            )
    one, other = a.per_query, b.per_query
    for field in ("row", "name", "identity"):
        if not np.array_equal(getattr(one, field), getattr(other, field)):
            raise ValueError(
                f"A and B have scores of different queries of {a.label} ({len(one.row)} and "
                f"{len(other.row)}); score both on the same data"
            )

    def difference(score: str) -> Difference:
        values = getattr(other, score) - getattr(one, score)
        bounds = interval(values, one.identity, samples=samples, seed=seed)
        return Difference(float(values.mean()), *bounds)

    change = other.average_precision - one.average_precision
    return Comparison(a, b, difference("average_precision"), difference("rank1"), change)


def check_protocols(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Raises ValueError if the protocols of two results differ, naming each field that does.

    `a`, `b`: the fields of a result, as in `results.json`.
    """
    one, other = protocol_of(a), protocol_of(b)
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    if names:
        parts = "; ".join(f"{name}: {one.get(name)!r} and {other.get(name)!r}" for name in names)
        raise ValueError(
            f"A and B are scored by different protocols, so their difference means nothing ({parts}); "
            "score both on one dataset with --dataset=NAME"
        )


HEAD = ("", "A", "B", "B - A [95%]")


def rows_of(comparison: Comparison) -> list[tuple[str, ...]]:
    """The table of a comparison below `HEAD`."""
    a, b = comparison.a, comparison.b
    return [
        ("mAP", f"{a.mAP:.2f}", f"{b.mAP:.2f}", str(comparison.mAP)),
        ("rank-1", f"{a.rank1:.2f}", f"{b.rank1:.2f}", str(comparison.rank1)),
    ]


def details(comparison: Comparison) -> str:
    """Counts of people and of queries that rise and fall, with the protocol's fingerprint."""
    rise, fall = int((comparison.change > 0).sum()), int((comparison.change < 0).sum())
    people = len(np.unique(comparison.queries.identity))
    return (
        f"{len(comparison.change)} queries of {people} people: average precision rises for {rise}, "
        f"falls for {fall}; protocol {comparison.a.fingerprint}"
    )


def as_text(comparison: Comparison) -> str:
    """The comparison for a terminal."""
    lines = aligned([HEAD, *rows_of(comparison)], WIDTH)
    return "\n".join([title([comparison.a]), f"  {details(comparison)}", *lines])


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """The comparison for JSON: what was compared, both scores, and the differences."""
    a, b = comparison.a, comparison.b
    return {
        **protocol_of(vars(a)),
        "fingerprint": a.fingerprint,
        "ranking": [a.ranked_by, b.ranked_by],
        "checkpoint": [f"{r.checkpoint} (step {r.step})" for r in (a, b)],
        "people": len(np.unique(comparison.queries.identity)),
        **{
            score: {
                "a": getattr(a, score),
                "b": getattr(b, score),
                "difference": difference.value,
                "interval": [difference.low, difference.high],
            }
            for score, difference in (("mAP", comparison.mAP), ("rank1", comparison.rank1))
        },
    }


COLUMNS = ("protocol", "query", "name", "identity", "ap_a", "ap_b", "change")


def query_rows(comparisons: Sequence[Comparison]) -> list[tuple[Any, ...]]:
    """A row under `COLUMNS` for each query of each comparison, the largest change first."""
    rows: list[tuple[Any, ...]] = []
    for one in comparisons:
        a, b = one.a.per_query, one.b.per_query
        for i in np.argsort(-np.abs(one.change), kind="stable"):
            scores = (a.average_precision[i], b.average_precision[i], one.change[i])
            named = (one.a.protocol, int(a.row[i]), str(a.name[i]), int(a.identity[i]))
            rows.append((*named, *(round(float(x), 4) for x in scores)))
    return rows
