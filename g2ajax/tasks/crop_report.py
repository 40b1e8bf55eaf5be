"""The report of a model that embeds crops, captions or tracklets: scores, curves, groups, lists."""

from collections.abc import Callable, Sequence

import numpy as np

from g2ajax.data.builders import PLATFORMS
from g2ajax.data.crop_source import KINDS, CropSplit, Dataset
from g2ajax.evaluation import curves
from g2ajax.evaluation.crops import Ranker
from g2ajax.evaluation.curves import Groups
from g2ajax.evaluation.results import Result
from g2ajax.report import charts
from g2ajax.report.album import Album
from g2ajax.report.records import Chart, Ranking, Report
from g2ajax.retrieval.roc import pairs
from g2ajax.tasks.ranked_lists import STRIP, Lists, altitudes, choose, list_queries, make_lists
from g2ajax.tasks.report_charts import (
    SPREADS,
    bar,
    bar_chart,
    cmc_chart,
    recall_chart,
    sample,
    spread_chart,
)
from g2ajax.tasks.scores import score_of, title_of

Grouping = Callable[[CropSplit, CropSplit], tuple[Groups, Groups]]
"""Groups of the queries and of the gallery."""
CURVES, HEIGHTS = 5, 3
"""Protocols with curves, and with scores by altitude: the first ones."""


def crop_report(
    rankers: Sequence[Ranker],
    dataset: Dataset,
    results: Sequence[Result],
    album: Album,
    *,
    summary: Sequence[str],
    limit: int,
    bootstrap_samples: int,
) -> Report:
    """The report of the rankings of a dataset's protocols, `rankers`.

    `album` takes the pictures. `limit`: most queries with their lists, shared by the protocols. The scores of the first screen are
    those of the `results` of the same rankings.
    """
    rankings, every = [], []
    for ranker in rankers:
        lists = make_lists(ranker, dataset, STRIP)
        rows, note = choose(lists.result.average_precision, max(1, limit // len(rankers)))
        listed = list_queries(lists, rows.tolist(), album, dataset)
        rankings.append(Ranking(ranker.protocol, listed, note))
        every.append(lists)
    ranking = rankers[0].described["ranking"]
    scored = {r.protocol: r for r in reversed(results) if r.ranking == ranking}
    return Report(
        title=title_of(results),
        summary=summary,
        scores=[
            score_of(scored[lists.ranker.protocol], lists.chance)
            for lists in every
            if lists.ranker.protocol in scored
        ],
        charts=[
            *curve_charts(every[:CURVES]),
            *group_charts(every, bootstrap_samples),
            *spread_charts(every[:SPREADS]),
        ],
        rankings=rankings,
        pictures=album.pictures,
    )


def curve_charts(every: Sequence[Lists]) -> list[Chart]:
    """CMC and precision over recall, a line for each protocol."""
    results = {lists.ranker.protocol: lists.result for lists in every}
    return [
        cmc_chart({name: 100.0 * result.cmc for name, result in results.items()}),
        recall_chart(
            "precision_recall",
            "Precision and recall",
            {name: curves.precision_recall(result.match_ranks) for name, result in results.items()},
            "Mean over the queries; at each recall the largest precision at it or beyond.",
        ),
    ]


def group_charts(every: Sequence[Lists], samples: int) -> list[Chart]:
    """Scores by altitude, by view and by pair of cameras, each where there is more than one."""
    heights, result = [], []
    for lists in every[:HEIGHTS]:
        groups = altitudes(lists.query, lists.gallery)
        scores = curves.by_group(
            lists.result.average_precision, groups, lists.query.identity, samples=samples
        )
        before = f"{lists.ranker.protocol}, " if len(every) > 1 else ""
        heights += [bar(score, before) for score in scores if len(scores) > 1]
    if heights:
        result.append(
            bar_chart(
                "altitude",
                "By altitude",
                heights,
                "mAP of the queries of each altitude with its 95% interval; the gallery is the same for "
                "all. A query from the ground counts by the altitude of its person's aerial images.",
            )
        )
    by_view = pair_chart(every, "views", "By pair of views", views)
    by_camera = pair_chart(every, "cameras", "By pair of cameras", cameras)
    if by_view:
        result.append(by_view[0])
    # One camera a view: the same chart again.
    if by_camera and not (by_view and by_camera[1] == by_view[1]):
        result.append(by_camera[0])
    return result


def views(query: CropSplit, gallery: CropSplit) -> tuple[Groups, Groups]:
    """Both sides grouped by platform."""
    names = list(PLATFORMS)
    return Groups(names, query.platform.astype(int)), Groups(names, gallery.platform.astype(int))


def cameras(query: CropSplit, gallery: CropSplit) -> tuple[Groups, Groups]:
    """Both sides grouped by camera; a camera is named with its platform."""
    code = np.concatenate([query.camera, gallery.camera])
    platform = np.concatenate([query.platform, gallery.platform])
    present, first = np.unique(code, return_index=True)
    names = {
        int(c): f"{PLATFORMS[platform[i]]} {c}" if platform[i] >= 0 else f"camera {c}"
        for c, i in zip(present, first, strict=True)
        if c >= 0
    }
    places = {c: place for place, c in enumerate(names)}
    sides = (
        Groups(list(names.values()), np.array([places.get(c, -1) for c in side.camera.tolist()]))
        for side in (query, gallery)
    )
    return next(sides), next(sides)


def pair_chart(
    every: Sequence[Lists], name: str, title: str, group: Grouping
) -> tuple[Chart, int] | None:
    """A heat map of the precision at the matches of each pair of groups, and the number of pairs; None
    if there is one pair only."""
    cells: dict[tuple[str, str], tuple[float, int]] = {}
    for lists in every:
        query, gallery = group(lists.query, lists.gallery)
        mean, count = curves.by_pair(lists.result, query, gallery)
        for r, c in np.argwhere(count > 0):
            pair = query.names[r], gallery.names[c]
            cells.setdefault(pair, (float(mean[r, c]), int(count[r, c])))
    if len(cells) < 2:
        return None
    rows = sorted({row for row, _ in cells}, key=_natural)
    columns = sorted({column for _, column in cells}, key=_natural)
    values, counts = (
        np.full((len(rows), len(columns)), np.nan),
        np.zeros((len(rows), len(columns)), int),
    )
    for (row, column), (value, count) in cells.items():
        at = rows.index(row), columns.index(column)
        values[at], counts[at] = value, count
    svg = charts.heat_map(
        rows, columns, values, counts, row_title="query", column_title="match in the gallery"
    )
    alt = "; ".join(f"{r} to {c}: {value:.1f}" for (r, c), (value, _) in cells.items())
    note = (
        "Mean precision at the true matches of each pair, in percent; a query's average precision is "
        "the mean over its matches."
    )
    if len(every) > 1:
        note += " A pair that several protocols have is that of the first."
    return Chart(name, title, svg, alt, note), len(cells)


def _natural(name: str) -> tuple[str, int]:
    word, _, number = name.rpartition(" ")
    return (word, int(number)) if number.isdigit() else (name, 0)


def spread_charts(every: Sequence[Lists]) -> list[Chart]:
    """The distances of pairs of one person and of different people, by protocol."""
    result = []
    for lists in every:
        if lists.ranker.distance is None:
            continue
        query, gallery = lists.query, lists.gallery
        rows = sample(len(query), len(gallery))
        kept = np.flatnonzero(gallery.kind != KINDS.index("junk"))
        distance = np.asarray(lists.ranker.distance(rows))[:, kept]
        identity = gallery.identity[kept].copy()
        identity[gallery.kind[kept] == KINDS.index("distractor")] = query.identity.min() - 1
        left_out = {}
        if lists.camera_key:
            left_out = {
                "query_camera": getattr(query, lists.camera_key)[rows].astype(np.int32),
                "gallery_camera": getattr(gallery, lists.camera_key)[kept].astype(np.int32),
            }
        spread = curves.spread(*pairs(distance, query.identity[rows], identity, **left_out))
        metric = lists.ranker.described["metric"]
        result.append(
            spread_chart(spread, lists.ranker.protocol, metric, others="different people")
        )
    return result
