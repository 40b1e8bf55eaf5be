"""Curves and groups of scores behind a report's charts, from rankings that are made already."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from g2ajax.evaluation.bootstrap import interval
from g2ajax.retrieval import RetrievalResult

RATES = (1e-1, 1e-2, 1e-3)
"""Rates of false alarms at which distances have thresholds."""
FEWEST = 10
"""False alarms that a threshold needs; a rate of fewer would be that of a few pairs."""


class Groups(NamedTuple):
    """Groups of rows."""

    names: Sequence[str]
    codes: Int[np.ndarray, " N"]
    """Place of each row's group among the names; -1: in none."""


class GroupScore(NamedTuple):
    """The score of a group of queries, in percent."""

    name: str
    queries: int
    mAP: float
    low: float
    high: float


class Operating(NamedTuple):
    """A threshold: pairs of a smaller distance, or a larger similarity, count as one person."""

    rate: float
    """Share of the pairs of different people that it accepts, at most."""
    threshold: float
    accepted: float
    """Share of the pairs of one person that it accepts."""


class Spread(NamedTuple):
    """Distributions of distances, or similarities, over common bins."""

    edges: Float[np.ndarray, " B+1"]
    same: Float[np.ndarray, " B"]
    """Percent of the pairs of one person in each bin."""
    different: Float[np.ndarray, " B"]
    operating: tuple[Operating, ...]
    pairs: tuple[int, int]
    """Numbers of pairs of one person and of different people."""


def precision_recall(
    ranks: Sequence[Int[np.ndarray, " _M"]],
    matches: Sequence[int] | Int[np.ndarray, " Q"] | None = None,
    *,
    points: int = 101,
) -> Float[np.ndarray, " points"]:
    """Mean precision of the queries at recalls from 0 to 1, in percent.

    `ranks`: ranks (from 1) of each query's matches; equal scores share that of their last one.
    `matches`: number of each query's matches, those that have no rank included (a person whom no
    detection covers), by default those with one. Queries without matches do not count. Precision is
    interpolated: at a recall stands the largest precision at this recall or a higher one (PASCAL VOC,
    Everingham et al., IJCV 2010); it is 0 at recalls that a ranking does not reach. Raises ValueError
    if no query has a match.
    """
    numbers = [len(one) for one in ranks] if matches is None else matches
    complete = [
        (np.sort(one), number) for one, number in zip(ranks, numbers, strict=True) if number
    ]
    if not complete:
        raise ValueError("no query has a match")
    recall = np.linspace(0.0, 1.0, points)
    total = np.zeros(points)
    for one, number in complete:
        count = np.arange(1, len(one) + 1)
        precision = np.maximum.accumulate((count / one)[::-1])[::-1]
        first = np.searchsorted(count / number, recall - 1e-9)
        total += np.append(precision, 0.0)[first]
    return 100.0 * total / len(complete)


def chance(matches: Int[np.ndarray, " Q"], listed: Int[np.ndarray, " Q"]) -> tuple[float, float]:
    """Expected mAP and rank-1, in percent, of galleries in random order.

    `matches` of the `listed` entries of each ranking are right; queries without matches do not count.
    The expected average precision of R matches among N is ((R − 1) / (N − 1) (N − H_N) + H_N) / N, H_N
    the N-th harmonic number (Bestgen, "Exact expected average precision of the random baseline",
    Prague Bulletin of Mathematical Linguistics 103, 2015). Raises ValueError if no query has a match.
    """
    valid = matches > 0
    if not valid.any():
        raise ValueError("no query has a match")
    right, entries = matches[valid].astype(np.float64), listed[valid]
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, entries.max() + 1))])[entries]
    others = np.divide(right - 1, entries - 1, out=np.zeros(len(right)), where=entries > 1)
    precision = (others * (entries - harmonic) + harmonic) / entries
    return float(100.0 * precision.mean()), float(100.0 * (right / entries).mean())


def by_group(
    average_precision: Float[np.ndarray, " Q"],
    groups: Groups,
    identity: Int[np.ndarray, " Q"],
    *,
    samples: int = 1000,
    seed: int = 0,
) -> list[GroupScore]:
    """mAP with its 95% interval for each group of queries that has any.

    Queries with an average precision of NaN do not count; intervals are those of `bootstrap.interval`
    over the group's people.
    """
    scores = []
    for code, name in enumerate(groups.names):
        rows = np.flatnonzero(np.isfinite(average_precision) & (groups.codes == code))
        if len(rows):
            values = 100.0 * average_precision[rows]
            bounds = interval(values, identity[rows], samples=samples, seed=seed)
            scores.append(GroupScore(name, len(rows), float(values.mean()), *bounds))
    return scores


def by_pair(
    result: RetrievalResult, query: Groups, gallery: Groups
) -> tuple[Float[np.ndarray, "R C"], Int[np.ndarray, "R C"]]:
    """Mean precision at the matches of each pair of groups, in percent, and the number of matches.

    The precision at a match is that of the ranking down to it: a query's average precision is their
    mean. NaN where a pair has no match. `result` is one with `match_ranks` (`top` set); raises
    ValueError for one without.
    """
    if result.match_ranks is None or result.match_entries is None:
        raise ValueError("the result has no ranks of its matches; rank with top=1 or more")
    shape = len(query.names), len(gallery.names)
    total, count = np.zeros(shape), np.zeros(shape, np.int64)
    lists = zip(query.codes, result.match_ranks, result.match_entries, strict=True)
    for group, ranks, entries in lists:
        precision, other = np.arange(1, len(ranks) + 1) / ranks, gallery.codes[entries]
        if group >= 0:
            np.add.at(total[group], other[other >= 0], precision[other >= 0])
            np.add.at(count[group], other[other >= 0], 1)
    mean = np.divide(100.0 * total, count, out=np.full(shape, np.nan), where=count > 0)
    return mean, count


def spread(
    value: Shaped[np.ndarray, " N"],
    same: Bool[np.ndarray, " N"],
    *,
    similarity: bool = False,
    bins: int = 60,
    rates: Sequence[float] = RATES,
) -> Spread:
    """Distributions of the distances of pairs, and thresholds at rates of false alarms.

    `value`, `same`: as `retrieval.roc.pairs` gives them. `similarity`: the values are similarities, as
    those of `retrieval.person_search.pairs`. A threshold accepts the pairs below it, or of similarities
    those above it; a rate at which fewer than `FEWEST` pairs of different people would be accepted is
    left out. Raises ValueError if one of the two kinds of pairs is missing.
    """
    if similarity:
        mirrored = spread(-value, same, bins=bins, rates=rates)
        return Spread(
            -mirrored.edges[::-1],
            mirrored.same[::-1],
            mirrored.different[::-1],
            tuple(one._replace(threshold=-one.threshold) for one in mirrored.operating),
            mirrored.pairs,
        )
    near, far = np.sort(value[same]), np.sort(value[~same])
    if not len(near) or not len(far):
        raise ValueError("distributions need pairs of one person and of two")
    low, high = min(near[0], far[0]), max(near[-1], far[-1])
    edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
    shares = [100.0 * np.histogram(one, edges)[0] / len(one) for one in (near, far)]
    operating = []
    for rate in rates:
        # Guards against 0.1 * 30 < 3 in floating point.
        alarms = int(rate * len(far) + 1e-9)
        if alarms < FEWEST:
            continue
        threshold = far[min(alarms, len(far) - 1)]
        accepted = np.searchsorted(near, threshold, side="left") / len(near)
        operating.append(Operating(rate, float(threshold), float(accepted)))
    return Spread(edges, *shares, tuple(operating), (len(near), len(far)))
