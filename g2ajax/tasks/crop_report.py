"""The report of a model that embeds crops, captions or tracklets: scores, curves, groups, lists."""

from collections.abc import Callable, Sequence

import numpy as np

from g2ajax.data.builders import PLATFORMS
from g2ajax.data.crop_source import KINDS, CropSplit, Dataset
from g2ajax.evaluation import curves
from g2ajax.evaluation.crops import Ranker
from g2ajax.evaluation.curves import Groups, GroupScore
from g2ajax.evaluation.results import Result
from g2ajax.report import charts
from g2ajax.report.album import Album
from g2ajax.report.charts import Bar, Point, Threshold
from g2ajax.report.records import Chart, Ranking, Report
from g2ajax.retrieval.roc import pairs
from g2ajax.tasks.ranked_lists import STRIP, Lists, altitudes, choose, list_queries, make_lists
from g2ajax.tasks.scores import score_of, title_of

Grouping = Callable[[CropSplit, CropSplit], tuple[Groups, Groups]]
"""Groups of the queries and of the gallery."""
PAIRS = 4_000_000
"""Most distances behind a distribution; of more, those of evenly spaced queries."""
CURVES, HEIGHTS, SPREADS = 5, 3, 2
"""Protocols with curves, with scores by altitude, and with a chart of distances: the first ones."""
CMC_TICKS = (1, 2, 5, 10, 20, 50)


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
    cmc, recall = {}, {}
    for lists in every:
        ranks = np.arange(1, min(50, len(lists.result.cmc)) + 1)
        cmc[lists.ranker.protocol] = [
            Point(int(k), 100.0 * float(v)) for k, v in zip(ranks, lists.result.cmc, strict=False)
        ]
        precision = curves.precision_recall(lists.result.match_ranks)
        recall[lists.ranker.protocol] = [Point(float(i), float(v)) for i, v in enumerate(precision)]
    return [
        Chart(
            "cmc",
            "Cumulative matching",
            charts.lines(
                cmc,
                x="rank",
                y="queries with a match, in percent",
                ticks=CMC_TICKS,
                logarithmic=True,
                top=100.0,
            ),
            in_words(cmc, (1, 5, 10, 20), "rank-"),
        ),
        Chart(
            "precision_recall",
            "Precision and recall",
            charts.lines(recall, x="recall in percent", y="precision in percent", top=100.0),
            in_words(recall, (10, 50, 90), "precision at recall "),
            "Mean over the queries; at each recall the largest precision at it or beyond.",
        ),
    ]


def in_words(lines: dict[str, list[Point]], places: Sequence[int], before: str) -> str:
    """The values of lines at some places, as text."""
    parts = []
    for name, points in lines.items():
        values = {point.x: point.y for point in points}
        text = ", ".join(f"{before}{x} {values[x]:.1f}" for x in places if x in values)
        parts.append(f"{name}: {text}")
    return "; ".join(parts)


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


def bar(score: GroupScore, before: str = "") -> Bar:
    """The bar of a group."""
    count = f"{score.queries} queries" if score.queries > 1 else "1 query"
    return Bar(f"{before}{score.name}", score.mAP, score.low, score.high, count)


def bar_chart(name: str, title: str, rows: Sequence[Bar], note: str) -> Chart:
    """A chart of mAP by groups."""
    alt = "; ".join(f"{r.name}: {r.value:.1f} ({r.low:.1f} to {r.high:.1f})" for r in rows)
    return Chart(name, title, charts.bars(rows, x="mAP in percent"), alt, note)


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
        number = max(1, min(len(query), PAIRS // max(1, len(gallery))))
        rows = np.linspace(0, len(query) - 1, number).astype(int)
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
        svg = charts.histogram(
            spread.edges,
            {"same person": spread.same, "different people": spread.different},
            x=f"distance ({lists.ranker.described['metric'].replace('_', ' ')})",
            thresholds=[
                Threshold(one.distance, f"{100 * one.rate:g}%") for one in spread.operating
            ],
        )
        rates = ", ".join(
            f"{100 * one.accepted:.1f}% at a false-alarm rate of {100 * one.rate:g}% (below "
            f"{one.distance:.3g})"
            for one in spread.operating
        )
        same, different = spread.pairs
        note = f"{same:,} pairs of one person, {different:,} of different people."
        if rates:
            note += f" Pairs of one person below the threshold: {rates}."
        protocol = lists.ranker.protocol
        result.append(Chart(f"distances_{protocol}", f"Distances, {protocol}", svg, note, note))
    return result
