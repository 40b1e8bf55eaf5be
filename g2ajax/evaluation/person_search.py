"""Scoring person search in whole frames on the protocols of a dataset."""

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from g2ajax.config import nearest
from g2ajax.data.builders import PLATFORMS
from g2ajax.data.frame_source import FrameDataset, FrameSplit
from g2ajax.evaluation.bootstrap import interval
from g2ajax.evaluation.results import QueryScores, Result, data_of
from g2ajax.retrieval.person_detection import DetectionResult, evaluate_detection
from g2ajax.retrieval.person_search import (
    ContextMatching,
    FrameDetections,
    SearchQuery,
    SearchResult,
    search,
)

RANKINGS = ("reid", "cbgm", "true_boxes")
"""Rankings: by similarity; re-ranked by the people around the query; by similarity among the true
boxes of the gallery, which bounds the gain of a better detector."""
CONTEXT = ContextMatching()
LISTED = "listed frames"
"""The filter of protocols with a gallery of a given size for each query."""


@dataclasses.dataclass(frozen=True)
class Found:
    """A method's detections and embeddings in a dataset's test frames, in their stored pixels."""

    gallery: Sequence[FrameDetections]
    """Detections in each row of the split `gallery`, shared by every protocol and ranking."""
    query: Float[np.ndarray, "Q D"] | None
    """The embedding of each row of the split `query`; None for a plain detector."""
    context: Sequence[Float[np.ndarray, "_K D"]] | None = None
    """For `cbgm`: unit embeddings of each query frame's people, the query first."""
    true_boxes: Sequence[FrameDetections] | None = None
    """For `true_boxes`: the annotated people of each gallery frame, with scores of 1."""


def check_rankings(names: Sequence[str], where: str) -> None:
    """Raises ValueError for a ranking that whole frames do not have."""
    for name in names:
        if name not in RANKINGS:
            raise ValueError(f"{where}: no ranking {name!r} of frames; {nearest(name, RANKINGS)}")


def evaluate_frames(
    found: Found,
    dataset: FrameDataset,
    *,
    protocols: Sequence[str] = (),
    rankings: Sequence[str] = ("reid",),
    context_matching: ContextMatching = CONTEXT,
    metric: str,
    feature_name: str,
    name: str = "",
    checkpoint: str = "last",
    step: int = 0,
    seed: int = 0,
    bootstrap_samples: int = 1000,
) -> list[Result]:
    """One result for each protocol (all of the dataset's if none is named) by each of the rankings.

    Besides the scores of search a result has, in percent: `detection AP` and `recall` over the
    gallery frames of the protocol's platform; `missed` and `confused`, the parts of 100 − mAP due
    to the detector and to the embedding.

    Raises ValueError for an unknown protocol or ranking, one without queries, and what `search`
    refuses.
    """
    check_rankings(rankings, "rankings")
    results = []
    for protocol in protocols or [row["name"] for row in dataset.protocols]:
        rows, described = dataset.protocol(protocol)
        if not len(rows):
            raise ValueError(f"{dataset.name}: no query takes part in {protocol}")
        queries = search_queries(found, dataset, protocol)
        people = dataset.splits["query"].identity[rows]
        detection = _detection(found.gallery, dataset, described["gallery_platform"])
        for ranking in rankings:
            true = ranking == "true_boxes"
            scores = search(
                found.true_boxes if true else found.gallery,
                queries,
                context_matching=context_matching if ranking == "cbgm" else None,
                keep=0,
            )
            if ranking == rankings[0] and not scores.present.all():
                warnings.warn(
                    f"{dataset.name} {protocol}: the person of {np.sum(scores.present == 0)} of "
                    f"{len(rows)} queries is in no gallery frame; they count as 0",
                    stacklevel=2,
                )
            bounds = {
                f"interval_{score}": interval(
                    100.0 * values, people, samples=bootstrap_samples, seed=seed
                )
                for score, values in _scores(scores).items()
            }
            missed, confused = scores.error_split()
            split = {"missed": 100.0 * missed, "confused": 100.0 * confused}
            matching = f"k1={context_matching.k1}, k2={context_matching.k2}"
            results.append(
                Result(
                    **_described(dataset, protocol, queries),
                    **_scored(scores),
                    **bounds,
                    interval_mINP=None,
                    name=name,
                    given="true boxes of the gallery given" if true else "",
                    ranking=ranking,
                    parameters=matching if ranking == "cbgm" else "",
                    feature=feature_name if true else f"{feature_name} x score",
                    metric=metric,
                    seed=seed,
                    checkpoint=checkpoint,
                    step=step,
                    measures=tuple(({} if true else detection | split).items()),
                    per_query=_per_query(scores, dataset, rows),
                )
            )
    return results


def _described(
    dataset: FrameDataset, protocol: str, queries: Sequence[SearchQuery]
) -> dict[str, Any]:
    """The fields of a result that describe its protocol."""
    _, described = dataset.protocol(protocol)
    return {
        **data_of(dataset),
        "protocol": protocol,
        "direction": f"{described['query_platform']} -> {described['gallery_platform']}",
        "queries": len(queries),
        "gallery": max(len(np.unique(query.frames)) for query in queries),
        "valid_queries": len(queries),
        "filter": _left_out(described),
        "cmc_rule": "standard",
    }


def _scored(scored: SearchResult) -> dict[str, float | None]:
    """The scores of a result, in percent; a person may be missed, so there is no last match."""
    ranks = {f"rank{rank}": 100.0 * scored.top[rank] for rank in (1, 5, 10)}
    return {"mAP": 100.0 * scored.mAP, "mINP": None, **ranks}


def gallery_sizes(results: Sequence[Result]) -> dict[str, list[Result]]:
    """One checkpoint's results on galleries of different sizes, by direction and ranking. Groups
    scored at one size only are left out."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        if result.filter == LISTED:
            groups.setdefault(f"{result.direction}, {result.ranking}", []).append(result)
    return {
        name: sorted(group, key=lambda result: result.gallery)
        for name, group in groups.items()
        if len({result.gallery for result in group}) > 1
    }


def evaluate_detector(
    gallery: Sequence[FrameDetections],
    dataset: FrameDataset,
    *,
    protocols: Sequence[str] = (),
    name: str = "",
    checkpoint: str = "last",
    step: int = 0,
    seed: int = 0,
) -> list[Result]:
    """Scores the detections of a method that does not tell people apart.

    Gives one result for each platform whose frames the protocols search (all protocols of the
    dataset if none is named).

    The scores are the measures `detection AP` and `recall`, in percent; nothing is ranked.
    """
    names = protocols or [row["name"] for row in dataset.protocols]
    described = [dataset.protocol(protocol)[1] for protocol in names]
    frames = dataset.splits["gallery"]
    nothing = dict.fromkeys(("mAP", "mINP", "rank1", "rank5", "rank10"))
    return [
        Result(
            name=name,
            **data_of(dataset),
            protocol=f"people, {platform}",
            direction=f"frames of platform: {platform}",
            queries=0,
            gallery=len(_frames_of(frames, platform)),
            valid_queries=0,
            filter="people without identity count",
            cmc_rule="standard",
            ranking="detection",
            feature="score",
            metric="IoU of 0.5",
            seed=seed,
            checkpoint=checkpoint,
            step=step,
            **nothing,
            **{f"interval_{score}": None for score in ("mAP", "rank1", "rank5", "mINP")},
            measures=tuple(_detection(gallery, dataset, platform).items()),
        )
        for platform in dict.fromkeys(row["gallery_platform"] for row in described)
    ]


def scoring_fault(dataset: FrameDataset, protocol: str) -> str:
    """The reason why no query of a protocol has a score: none takes part, or their people are in none of their
    gallery frames; "" if one has. Raises ValueError for a query without gallery frames."""
    rows, _ = dataset.protocol(protocol)
    if not len(rows):
        return "no query takes part"
    met = False
    for row in map(int, rows):
        frames = dataset.gallery(row, protocol)
        met = met or not np.isnan(dataset.targets(row, frames)).all()
    return (
        "" if met else f"the people of its {len(rows)} queries are in none of their gallery frames"
    )


def search_queries(found: Found, dataset: FrameDataset, protocol: str) -> list[SearchQuery]:
    """A protocol's queries with their gallery frames and the person's true boxes in them."""
    rows, _ = dataset.protocol(protocol)
    queries = []
    for row in map(int, rows):
        frames = dataset.gallery(row, protocol)
        context = None if found.context is None else found.context[row]
        queries.append(SearchQuery(found.query[row], frames, dataset.targets(row, frames), context))
    return queries


def _scores(scored: SearchResult) -> dict[str, Float[np.ndarray, " Q"]]:
    """The score of each query whose means have intervals."""
    first, fifth = scored.hits[:, 0], scored.hits[:, 1]
    return {
        "mAP": scored.average_precision,
        "rank1": first.astype(np.float64),
        "rank5": fifth.astype(np.float64),
    }


def _per_query(
    scored: SearchResult, dataset: FrameDataset, rows: Int[np.ndarray, " Q"]
) -> QueryScores:
    """The scores of each query, in percent; a query is named by its frame."""
    query, scores = dataset.splits["query"], _scores(scored)
    return QueryScores(
        row=np.arange(len(rows)),
        name=query.image_id[rows],
        identity=query.identity[rows],
        average_precision=100.0 * scores["mAP"],
        rank1=100.0 * scores["rank1"],
    )


def _frames_of(gallery: FrameSplit, platform: str) -> Int[np.ndarray, " N"]:
    """Rows of the gallery frames of a platform, or of any."""
    if platform == "any":
        return np.arange(len(gallery))
    return np.flatnonzero(gallery.platform == PLATFORMS.index(platform))


def detection_result(
    found: Sequence[FrameDetections], dataset: FrameDataset, platform: str
) -> DetectionResult:
    """The score of the detections of people in the gallery frames of a platform, or of "any"."""
    gallery = dataset.splits["gallery"]
    rows = _frames_of(gallery, platform)
    return evaluate_detection(
        [gallery.boxes[gallery.people(int(row))] for row in rows],
        [found[row].boxes for row in rows],
        [found[row].scores for row in rows],
    )


def _detection(
    found: Sequence[FrameDetections], dataset: FrameDataset, platform: str
) -> dict[str, float]:
    result = detection_result(found, dataset, platform)
    return {
        "detection AP": 100.0 * result.average_precision,
        "recall": 100.0 * result.recall,
    }


def _left_out(described: dict) -> str:
    if described["gallery"]:
        return LISTED
    if described["drop_same_camera"]:
        return "frames of the query's camera left out"
    return "the query's frame left out"
