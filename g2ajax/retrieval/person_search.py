"""Scores of person search in whole frames: search and re-ranking by context.

Protocols of CUHK-SYSU (Xiao et al., CVPR 2017) and PRW (Zheng et al., CVPR 2017); context bipartite
graph matching of Li and Miao, AAAI 2021. NumPy on the host, since frames hold few people.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Annotated, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment

from g2ajax.retrieval.person_detection import average_precision, iou, match_ranks

BLOCK = 64
"""Number of queries whose similarities to the whole gallery are computed at once."""
# Smallest and largest value, as `config.ranges` reads them; this floor imports nothing of ours.
Count = Annotated[int, (1, None)]


@dataclasses.dataclass(frozen=True)
class FrameDetections:
    """Detections in one frame; boxes (x0, y0, x1, y1) are in original pixels."""

    boxes: Float[np.ndarray, "N 4"]
    scores: Float[np.ndarray, " N"]
    features: Float[np.ndarray, "N D"]
    """Embeddings, multiplied by the scores if the detector does so."""

    def at_least(self, score: float) -> "FrameDetections":
        """Detections with a score of at least `score`."""
        kept = np.asarray(self.scores, np.float32) >= np.float32(score)
        return FrameDetections(self.boxes[kept], self.scores[kept], self.features[kept])


@dataclasses.dataclass(frozen=True)
class SearchQuery:
    """A person to find, and the frames to search."""

    feature: Float[np.ndarray, " D"]
    frames: Int[np.ndarray, " G"]
    """Indices of the gallery frames; for a frame listed twice see `search`."""
    boxes: Float[np.ndarray, "_G 4"]
    """True box of the person in each of these frames; NaN where absent."""
    context: Float[np.ndarray, "K D"] | None = None
    """For re-ranking: unit embeddings of the people in the query frame, the query first."""


@dataclasses.dataclass(frozen=True)
class ContextMatching:
    """Options of re-ranking by the people around the query: k1 10, k2 3 for CUHK-SYSU; 30, 4 for PRW."""

    k1: Count = 10
    """Only the frames of the k1 most similar detections are re-ranked."""
    k2: Count = 3
    """Number of people of the query frame to match, the query included."""


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """Scores in 0..1, means over all queries."""

    mAP: float
    top: dict[int, float]
    """k → share of queries with a correct detection among the k most similar ones."""
    average_precision: Float[np.ndarray, " Q"]
    hits: Bool[np.ndarray, "Q R"]
    """True if a correct detection is among the k best, for each of `ranks`."""
    present: Int[np.ndarray, " Q"]
    """Number of gallery frames that show the person."""
    detected: Int[np.ndarray, " Q"]
    """Number of these in which a detection covers the person."""
    first_match: Int[np.ndarray, " Q"]
    """Rank (from 1) of the first correct detection; 0 if there is none."""
    match_ranks: list[Int[np.ndarray, " _M"]]
    """Ranks of each query's correct detections, as `match_ranks` counts them."""
    best: list[list["RankedDetection"]]
    """The most similar detections of each query, at most `keep`."""

    def error_split(self) -> tuple[float, float]:
        """Splits the error 1 − mAP into (missed, confused).

        The average precision of a query is that of its ranking times the share r of frames in which
        the person was detected: detection loses 1 − r, ranking r − average precision. A query whose
        person is in no frame counts as missed.
        """
        recall = self.detected / np.maximum(self.present, 1)
        missed, confused = 1.0 - recall, recall - self.average_precision
        return float(missed.mean()), float(confused.mean())


class RankedDetection(NamedTuple):
    """A gallery detection in the ranking of a query."""

    frame: int
    detection: int
    """Row among the frame's detections with at least the threshold's score."""
    similarity: float
    correct: bool


def search(
    detections: Sequence[FrameDetections],
    queries: Sequence[SearchQuery],
    *,
    score_threshold: float = 0.5,
    ranks: Sequence[int] = (1, 5, 10),
    context_matching: ContextMatching | None = None,
    keep: int = 10,
) -> SearchResult:
    """Ranks the detections of each query's gallery frames by similarity and scores the rankings.

    Detections with a score below `score_threshold` are ignored. In each frame that shows the person,
    the correct detection is the most similar one whose IoU with the true w × h box is at least
    min(0.5, w h / ((w + 10) (h + 10))). The average precision over all detections of a query is
    multiplied by the share of frames that show the person in which it was detected; it is 0 without
    a correct detection.

    A frame listed twice (some protocol files do so) is scored once, by its first box, but counts twice
    as a frame that shows the person. Equal similarities rank in gallery order; the reference's order
    is arbitrary.

    Args:
      detections: one entry a gallery frame.
      ranks: ranks k of `SearchResult.top`.
      context_matching: re-rank by the people around the query; None: not.
      keep: number of most similar detections to keep in `SearchResult.best`.

    Raises ValueError without queries, for features that are not finite, for frames that do not exist,
    and for re-ranking without context.
    """
    gallery = _opened(detections, queries, score_threshold, context_matching)
    scores = [
        _score(gallery, query, similarity, context_matching, keep)
        for query, similarity in _similarities(gallery, queries)
    ]
    precision = np.array([row.average_precision for row in scores])
    first = np.array([row.first for row in scores])
    hits = (first[:, None] > 0) & (first[:, None] <= np.asarray(ranks)[None])
    return SearchResult(
        mAP=float(precision.mean()),
        top={rank: float(hits[:, i].mean()) for i, rank in enumerate(ranks)},
        average_precision=precision,
        hits=hits,
        present=np.array([row.present for row in scores]),
        detected=np.array([row.detected for row in scores]),
        first_match=first,
        match_ranks=[row.ranks for row in scores],
        best=[row.best for row in scores],
    )


def pairs(
    detections: Sequence[FrameDetections],
    queries: Sequence[SearchQuery],
    *,
    score_threshold: float = 0.5,
) -> tuple[Float[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Similarities of each query to the detections of its gallery frames, and whether each shows the
    query's person.

    The detections, and those that show the person, are those of `search`; a frame's further detections
    that cover the person are left out. Raises ValueError for what `search` refuses.
    """
    gallery = _opened(detections, queries, score_threshold, None)
    parts, same = [], []
    for query, similarity in _similarities(gallery, queries):
        places = _places(gallery, query)
        values = similarity[places.rows]
        correct, covering = _correct(gallery, places, values)
        kept = correct | ~covering
        parts.append(values[kept])
        same.append(correct[kept])
    return np.concatenate(parts), np.concatenate(same)


class _QueryScore(NamedTuple):
    average_precision: float
    first: int
    ranks: Int[np.ndarray, " _M"]
    present: int
    detected: int
    best: list[RankedDetection]


class _Gallery:
    """The detections of all frames, concatenated."""

    def __init__(self, detections: Sequence[FrameDetections]):
        for number, frame in enumerate(detections):
            if not np.isfinite(frame.features).all():
                raise ValueError(f"embeddings of gallery frame {number} are not finite")
        sizes = np.array([len(frame.boxes) for frame in detections], np.int64)
        self.stop = np.cumsum(sizes)
        self.start = self.stop - sizes
        self.boxes = np.concatenate([frame.boxes for frame in detections])
        self.features = np.concatenate([frame.features for frame in detections])

    def rows(self, frames: Int[np.ndarray, " F"]) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the detections of `frames`, in that order, and the position where each frame starts."""
        sizes = self.stop[frames] - self.start[frames]
        before = np.cumsum(sizes) - sizes
        return np.repeat(self.start[frames] - before, sizes) + np.arange(sizes.sum()), before


def _opened(
    detections: Sequence[FrameDetections],
    queries: Sequence[SearchQuery],
    score_threshold: float,
    context_matching: ContextMatching | None,
) -> _Gallery:
    """The gallery of the queries, which are checked."""
    if not len(queries):
        raise ValueError("there are no queries")
    for number, query in enumerate(queries):
        _check(query, number, len(detections), context_matching)
    return _Gallery([frame.at_least(score_threshold) for frame in detections])


def _similarities(
    gallery: _Gallery, queries: Sequence[SearchQuery]
) -> Iterator[tuple[SearchQuery, Float[np.ndarray, " N"]]]:
    """Each query with its similarities to all detections of the gallery."""
    for start in range(0, len(queries), BLOCK):
        block = queries[start : start + BLOCK]
        # One product for many queries; each query then takes the rows of its own gallery.
        similarity = np.stack([query.feature for query in block]) @ gallery.features.T
        yield from zip(block, similarity, strict=True)


class _Places(NamedTuple):
    """The detections of a query's gallery, frame by frame."""

    frames: Int[np.ndarray, " F"]
    """Indices of the gallery frames, each once."""
    true: Float[np.ndarray, "F 4"]
    """True box of the person in each frame; NaN where absent."""
    rows: Int[np.ndarray, " N"]
    """Rows of the detections in the whole gallery."""
    start: Int[np.ndarray, " F"]
    stop: Int[np.ndarray, " F"]


def _places(gallery: _Gallery, query: SearchQuery) -> _Places:
    _, first = np.unique(query.frames, return_index=True)
    first = np.sort(first)
    frames = query.frames[first]
    rows, start = gallery.rows(frames)
    return _Places(frames, query.boxes[first], rows, start, np.append(start[1:], len(rows)))


def _correct(
    gallery: _Gallery, places: _Places, values: Float[np.ndarray, " N"]
) -> tuple[Bool[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """The correct detections, the most similar that covers the person in each frame, and all that
    cover them."""
    correct, covering = np.zeros(len(values), bool), np.zeros(len(values), bool)
    for place in np.flatnonzero(~np.isnan(places.true).any(axis=1)):
        here = slice(places.start[place], places.stop[place])
        order = here.start + np.argsort(-values[here], kind="stable")
        covers = _covers(gallery.boxes[places.rows[order]], places.true[place])
        covering[order[covers]] = True
        correct[order[covers][:1]] = True
    return correct, covering


def _score(gallery, query, similarity, context_matching, keep) -> _QueryScore:
    present = int((~np.isnan(query.boxes).any(axis=1)).sum())
    places = _places(gallery, query)
    frames, _, rows, start, stop = places
    values = similarity[rows]
    if context_matching is not None and len(rows):
        _rerank(values, gallery.features, rows, start, stop, query.context, context_matching)
    correct, _ = _correct(gallery, places, values)
    detected = int(correct.sum())
    order = np.argsort(-values, kind="stable")
    owner = np.repeat(np.arange(len(frames)), stop - start)
    best = [
        RankedDetection(
            int(frames[owner[i]]), int(i - start[owner[i]]), float(values[i]), bool(correct[i])
        )
        for i in order[:keep]
    ]
    ranks = match_ranks(correct, values)
    if not detected:
        return _QueryScore(0.0, 0, ranks, present, 0, best)
    precision = average_precision(correct, values) * detected / present
    return _QueryScore(precision, int(correct[order].argmax()) + 1, ranks, present, detected, best)


def _check(query, number, frames, context_matching) -> None:
    if len(query.frames) != len(query.boxes):
        raise ValueError(
            f"query {number} has {len(query.frames)} gallery frames but {len(query.boxes)} boxes"
        )
    if not np.isfinite(query.feature).all():
        raise ValueError(f"the embedding of query {number} is not finite")
    outside = (query.frames < 0) | (query.frames >= frames)
    if outside.any():
        raise ValueError(
            f"query {number} asks for gallery frame {query.frames[outside][0]}, but there are {frames}"
        )
    if context_matching is not None and (query.context is None or not len(query.context)):
        raise ValueError(
            f"query {number} has no context to re-rank with: give the embeddings of its frame's "
            "people, the query first"
        )


def _covers(boxes: Float[np.ndarray, "N 4"], true: Float[np.ndarray, "4"]) -> np.ndarray:
    """True for boxes that overlap the true one enough; small persons need less overlap."""
    width, height = float(true[2] - true[0]), float(true[3] - true[1])
    area = width * height
    threshold = min(0.5, area / ((width + 10.0) * (height + 10.0)))
    return iou(boxes, true[None])[:, 0] >= threshold


def match_people(
    weights: Float[np.ndarray, "K N"],
) -> tuple[Int[np.ndarray, "M 2"], float]:
    """Maximum-weight matching of a complete bipartite graph.

    Returns its (row, column) pairs by row, M = min(K, N), and the largest single weight among them.
    """
    rows, columns = linear_sum_assignment(weights, maximize=True)
    return np.stack([rows, columns], axis=1), float(weights[rows, columns].max())


def _rerank(values, features, rows, start, stop, context, options) -> None:
    """Re-ranks `values` in place, for frames at [start, stop).

    As in the published code, the detection matched with the query gets the largest weight of the
    whole matching, which may belong to another pair.
    """
    nearest = np.argsort(-values, kind="stable")[: options.k1]
    for place in np.unique(np.searchsorted(stop, nearest, side="right")):
        # If the context outnumbers the detections, the query may stay without a match.
        weights = context[: options.k2] @ features[rows[start[place] : stop[place]]].T
        pairs, largest = match_people(weights)
        for row, column in pairs:
            if row == 0:
                values[start[place] + column] = largest
