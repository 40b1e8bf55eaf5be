"""Scores of person search in whole frames: detection, search and re-ranking by context.

Protocols of CUHK-SYSU (Xiao et al., CVPR 2017) and PRW (Zheng et al., CVPR 2017); context bipartite
graph matching of Li and Miao, AAAI 2021. NumPy on the host, since frames hold few people.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment

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


def average_precision(positive: Bool[np.ndarray, " N"], score: Float[np.ndarray, " N"]) -> float:
    """Σ (R_n − R_{n−1}) P_n over distinct scores in descending order, as in scikit-learn.

    Equal scores are one step. Without positives the result is 0.
    """
    positive, score = np.asarray(positive, bool), np.asarray(score)
    if not positive.any():
        return 0.0
    order = np.argsort(-score, kind="stable")
    score, positive = score[order], positive[order]
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True))
    true = np.cumsum(positive)[last]
    steps = np.diff(np.concatenate([[0], true]))
    return float(np.sum(steps / true[-1] * (true / (last + 1))))


def iou(a: Float[np.ndarray, "N 4"], b: Float[np.ndarray, "M 4"]) -> Float[np.ndarray, "N M"]:
    """Intersection over union of all pairs, float64; 0 where the union is not positive."""
    a, b = np.asarray(a, np.float64)[:, None], np.asarray(b, np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    inside = np.prod(np.maximum(sides, 0.0), axis=-1)
    union = np.prod(a[..., 2:] - a[..., :2], -1) + np.prod(b[..., 2:] - b[..., :2], -1) - inside
    return np.divide(inside, union, out=np.zeros(inside.shape), where=union > 0)


class DetectionResult(NamedTuple):
    """Scores in 0..1; NaN if no frame shows a person."""

    recall: float
    average_precision: float
    """Average precision times recall, as in the reference."""


def evaluate_detection(
    truth: Sequence[Float[np.ndarray, "_G 4"]],
    boxes: Sequence[Float[np.ndarray, "_N 4"]],
    scores: Sequence[Float[np.ndarray, "_N"]],
    *,
    score_threshold: float = 0.01,
    iou_threshold: float = 0.5,
) -> DetectionResult:
    """Scores the detection of people, with or without identity.

    A detection is true if its IoU with a true box is at least `iou_threshold` and each of the two is
    the other's best match (the first if several are). Detectors of person search drop boxes below
    their own threshold, so this is not an average precision over all scores.

    Raises ValueError if the sequences differ in length.
    """
    if not len(truth) == len(boxes) == len(scores):
        raise ValueError(
            f"true boxes of {len(truth)} frames, detections of {len(boxes)}, scores of {len(scores)}"
        )
    positive, kept_scores, people = [], [], 0
    for true, detected, score in zip(truth, boxes, scores, strict=True):
        kept = np.asarray(score, np.float32) >= np.float32(score_threshold)
        overlap = iou(true, detected[kept])
        people += len(true)
        match = np.zeros(overlap.shape[1], bool)
        if overlap.size:
            column = np.arange(overlap.shape[1])
            best = overlap.argmax(axis=0)
            mutual = overlap.argmax(axis=1)[best] == column
            match = mutual & (overlap[best, column] >= iou_threshold)
        positive.append(match)
        kept_scores.append(np.asarray(score)[kept])
    if not people:
        return DetectionResult(float("nan"), float("nan"))
    positive = np.concatenate(positive)
    recall = float(positive.sum() / people)
    precision = average_precision(positive, np.concatenate(kept_scores))
    return DetectionResult(recall, recall * precision)


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
    if not len(queries):
        raise ValueError("there are no queries")
    for number, query in enumerate(queries):
        _check(query, number, len(detections), context_matching)
    gallery = _Gallery([frame.at_least(score_threshold) for frame in detections])
    scores = []
    for start in range(0, len(queries), BLOCK):
        block = queries[start : start + BLOCK]
        # One product for many queries; each query then takes the rows of its own gallery.
        similarity = np.stack([query.feature for query in block]) @ gallery.features.T
        scores += [
            _score(gallery, query, row, context_matching, keep)
            for query, row in zip(block, similarity, strict=True)
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
        best=[row.best for row in scores],
    )


class _QueryScore(NamedTuple):
    average_precision: float
    first: int
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


def _score(gallery, query, similarity, context_matching, keep) -> _QueryScore:
    shows_person = ~np.isnan(query.boxes).any(axis=1)
    present = int(shows_person.sum())
    _, first = np.unique(query.frames, return_index=True)
    first = np.sort(first)
    frames = query.frames[first]
    rows, start = gallery.rows(frames)
    if not len(rows):
        return _QueryScore(0.0, 0, present, 0, [])
    values = similarity[rows]
    stop = np.append(start[1:], len(rows))
    if context_matching is not None:
        _rerank(values, gallery.features, rows, start, stop, query.context, context_matching)
    correct, detected = np.zeros(len(rows), bool), 0
    for place in np.flatnonzero(shows_person[first]):
        here = slice(start[place], stop[place])
        order = np.argsort(-values[here], kind="stable")
        covers = _covers(gallery.boxes[rows[here]][order], query.boxes[first[place]])
        if covers.any():
            correct[start[place] + order[covers.argmax()]] = True
            detected += 1
    order = np.argsort(-values, kind="stable")
    owner = np.repeat(np.arange(len(frames)), stop - start)
    best = [
        RankedDetection(
            int(frames[owner[i]]), int(i - start[owner[i]]), float(values[i]), bool(correct[i])
        )
        for i in order[:keep]
    ]
    if not detected:
        return _QueryScore(0.0, 0, present, 0, best)
    precision = average_precision(correct, values) * detected / present
    return _QueryScore(precision, int(correct[order].argmax()) + 1, present, detected, best)


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
