"""The report of person search in whole frames: scores, curves, groups, and lists of found people."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8

from g2ajax.data.builders import PLATFORMS
from g2ajax.data.frame_source import FrameDataset
from g2ajax.data.images import decode
from g2ajax.evaluation import curves
from g2ajax.evaluation.curves import Groups
from g2ajax.evaluation.person_search import (
    Found,
    detection_result,
    gallery_sizes,
    search_queries,
)
from g2ajax.evaluation.results import Result
from g2ajax.report import charts
from g2ajax.report.album import Album
from g2ajax.report.charts import Bar, Point
from g2ajax.report.records import Chart, Entry, Listed, Ranking, Report
from g2ajax.retrieval.person_search import (
    FrameDetections,
    SearchQuery,
    SearchResult,
    pairs,
    search,
)
from g2ajax.tasks.ranked_lists import STRIP, aerial_metres, by_metres, choose
from g2ajax.tasks.report_charts import (
    CMC_RANKS,
    SPREADS,
    bar,
    bar_chart,
    cmc_chart,
    recall_chart,
    sample,
    spread_chart,
)
from g2ajax.tasks.scores import score_of, summary_of, title_of

DEEPEST = 2000
"""Rank to which a query's first true match is looked for."""
MARGIN = 0.35
"""Surroundings of a person in a picture, as a share of the box's sides."""
OPENED = 16
"""Decoded frames that are kept for further pictures."""


def frame_report(
    found: Found,
    dataset: FrameDataset,
    results: Sequence[Result],
    *,
    noun: str,
    trained_on: str,
    limit: int,
    samples: int,
) -> Report:
    """The report of a model's detections in a dataset's frames, by similarity alone.

    A plain detector ranks nothing and has its own curve alone. Of protocols in one direction, which
    differ in the size of the gallery, the first has lists and curves. `noun`: the kind of data; `limit`: most
    queries with their lists; `samples`: resamplings of the bootstrap.
    """
    directions: dict[str, Result] = {}
    for result in results:
        if result.ranking in ("reid", "detection"):
            directions.setdefault(result.direction, result)
    first = list(directions.values())
    album, rankings, searches, asked = Album(), [], {}, {}
    ranked = first if found.query is not None else []
    for result in ranked:
        queries = asked[result.protocol] = search_queries(found, dataset, result.protocol)
        searches[result.protocol] = search(found.gallery, queries, keep=0)
        rows, note = choose(
            searches[result.protocol].average_precision, max(1, limit // len(first))
        )
        depth = min(DEEPEST, max(STRIP, int(searches[result.protocol].first_match[rows].max())))
        best = search(found.gallery, [queries[row] for row in rows], keep=depth)
        people = dataset.protocol(result.protocol)[0][rows]
        listed = _listed(best, people, found, dataset, album)
        rankings.append(Ranking(result.protocol, listed, note))
    return Report(
        title=title_of(results),
        summary=summary_of(dataset, results, noun, trained_on),
        scores=[score_of(result) for result in first],
        charts=[
            *_curves(searches),
            *_detector(found, dataset),
            *_groups(searches, dataset, samples),
            *_sizes(results),
            *_spreads(found.gallery, asked, [result.metric for result in ranked]),
        ],
        rankings=rankings,
        pictures=album.pictures,
        distance="similarity",
    )


def _listed(
    best: SearchResult,
    people: np.ndarray,
    found: Found,
    dataset: FrameDataset,
    album: Album,
) -> list[Listed]:
    """Queries with the first people found for them, as the crops of their boxes."""
    gallery, query = dataset.splits["gallery"], dataset.splits["query"]
    heights = by_metres(aerial_metres(query))
    # The rows of a ranking are those with the threshold's score.
    kept = [frame.at_least(0.5) for frame in found.gallery]
    listed = []

    @functools.lru_cache(OPENED)
    def opened(name: str, row: int) -> np.ndarray:
        split = dataset.splits[name]
        return decode(split.read(row), str(split.image_id[row]))

    def cut(name: str, row: int, box: np.ndarray, key: int = 0) -> int:
        return album.add((name, row, key), lambda: around(opened(name, row), box))

    for place, person in enumerate(people.tolist()):
        entries = []
        for rank, one in enumerate(best.best[place], start=1):
            if rank > STRIP and rank != best.first_match[place]:
                continue
            box = kept[one.frame].boxes[one.detection]
            picture = cut("gallery", one.frame, box, one.detection)
            name = str(gallery.image_id[one.frame])
            entries.append(Entry(picture, name, rank, float(one.similarity), bool(one.correct)))
        box = query.boxes[query.people(person)][0]
        camera, platform = query.camera[person], query.platform[person]
        facts = {
            "view": PLATFORMS[platform] if platform >= 0 else "",
            "altitude": heights.names[heights.codes[person]] if heights.codes[person] >= 0 else "",
            "camera": str(camera) if camera >= 0 else "",
        }
        listed.append(
            Listed(
                cut("query", person, box),
                str(query.image_id[person]),
                100.0 * float(best.average_precision[place]),
                int(best.first_match[place]),
                entries,
                facts={name: value for name, value in facts.items() if value},
            )
        )
    return listed


def around(
    image: UInt8[np.ndarray, "H W 3"], box: Float[np.ndarray, "4"]
) -> UInt8[np.ndarray, "h w 3"]:
    """The part of a frame around a box, at least a pixel, with `MARGIN` of its sides on each side."""
    height, width = image.shape[:2]
    left, top, right, bottom = map(float, box)
    across, down = MARGIN * (right - left), MARGIN * (bottom - top)
    x0, x1 = int(max(0, left - across)), int(min(width, right + across + 1))
    y0, y1 = int(max(0, top - down)), int(min(height, bottom + down + 1))
    x0, y0 = min(x0, width - 1), min(y0, height - 1)
    return np.ascontiguousarray(image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)])


def _curves(searches: dict[str, SearchResult]) -> list[Chart]:
    """Cumulative matching and precision over recall, by protocol."""
    if not searches:
        return []
    ranks = np.arange(1, CMC_RANKS + 1)[:, None]
    cmc, recall = {}, {}
    for protocol, result in searches.items():
        first = result.first_match
        cmc[protocol] = 100.0 * ((first > 0) & (first <= ranks)).mean(axis=1)
        recall[protocol] = curves.precision_recall(result.match_ranks, result.present)
    return [
        cmc_chart(cmc, "A person whom no detection covers has no match at any rank."),
        recall_chart(
            "precision_recall",
            "Precision and recall",
            recall,
            "Mean over the queries; at each recall the largest precision at it or beyond, 0 where no "
            "detection covers the person in as many frames.",
        ),
    ]


def _detector(found: Found, dataset: FrameDataset) -> list[Chart]:
    """Precision over recall of the detected people, by platform of the frames that protocols search."""
    lines = {}
    for platform in dict.fromkeys(row["gallery_platform"] for row in dataset.protocols):
        result = detection_result(found.gallery, dataset, platform)
        if result.people:
            frames = "all" if platform == "any" else platform
            name = f"{frames} frames (AP {100.0 * result.average_precision:.1f})"
            lines[name] = curves.precision_recall([result.match_ranks], [result.people])
    if not lines:
        return []
    note = (
        "People with or without identity, detected with a score of 0.01 or more and an IoU of 0.5 or "
        "more; at each recall the largest precision at it or beyond, 0 at recalls that the detector "
        "does not reach. AP is the results' detection AP."
    )
    return [recall_chart("detection", "Detection: precision and recall", lines, note)]


def _spreads(
    gallery: Sequence[FrameDetections],
    asked: Mapping[str, Sequence[SearchQuery]],
    metrics: Sequence[str],
) -> list[Chart]:
    """The similarities of each protocol's queries to the people detected in their galleries."""
    result = []
    detections = np.array([len(frame.at_least(0.5).boxes) for frame in gallery])
    for (protocol, queries), metric in list(zip(asked.items(), metrics, strict=True))[:SPREADS]:
        most = max(int(detections[query.frames].sum()) for query in queries)
        similarity, same = pairs(gallery, [queries[i] for i in sample(len(queries), most)])
        if same.any() and not same.all():
            spread = curves.spread(similarity, same, similarity=True)
            note = (
                "A pair is a query and a detection of its gallery with a score of 0.5 or more; further "
                "boxes over the person are left out."
            )
            others = "another person or nobody"
            result.append(
                spread_chart(spread, protocol, metric, others=others, similarity=True, note=note)
            )
    return result


def _groups(searches: dict[str, SearchResult], dataset: FrameDataset, samples: int) -> list[Chart]:
    """Scores by altitude and by camera of the queries, each where there is more than one."""
    query = dataset.splits["query"]
    codes = np.unique(query.camera[query.camera >= 0])
    names = [f"camera {code}" for code in codes]
    camera = np.where(query.camera >= 0, np.searchsorted(codes, query.camera), -1)
    kinds = (
        ("altitude", "By altitude of the query", by_metres(aerial_metres(query))),
        ("cameras", "By camera of the query", Groups(names, camera)),
    )
    result = []
    for name, title, groups in kinds:
        rows: list[Bar] = []
        for protocol, scores in searches.items():
            of, _ = dataset.protocol(protocol)
            part = Groups(groups.names, groups.codes[of])
            people = query.identity[of]
            scored = curves.by_group(scores.average_precision, part, people, samples=samples)
            before = f"{protocol}, " if len(searches) > 1 else ""
            rows += [bar(score, before) for score in scored]
        if len(rows) > 1:
            note = "mAP of the queries of each group with its 95% interval."
            result.append(bar_chart(name, title, rows, note))
    return result


def _sizes(results: Sequence[Result]) -> list[Chart]:
    """mAP over the size of the gallery, where it was measured."""
    sweeps = gallery_sizes([result for result in results if result.ranking == "reid"])
    sweeps |= gallery_sizes([result for result in results if result.ranking != "reid"])
    if not sweeps:
        return []
    lines = {
        name.replace("->", "→"): [Point(r.gallery, r.mAP, *r.interval_mAP) for r in group]
        for name, group in sweeps.items()
    }
    alt = "; ".join(
        f"{name}: " + ", ".join(f"{p.y:.1f} at {p.x:g} frames" for p in points)
        for name, points in lines.items()
    )
    svg = charts.lines(
        lines,
        x="frames in a query's gallery",
        y="mAP in percent",
        ticks=sorted({p.x for points in lines.values() for p in points}),
        logarithmic=True,
    )
    return [Chart("gallery_size", "By size of the gallery", svg, alt)]
