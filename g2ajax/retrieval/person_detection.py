"""Scores of detected people in whole frames, with or without identity.

As in the protocols of CUHK-SYSU (Xiao et al., CVPR 2017) and PRW (Zheng et al., CVPR 2017).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


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


def match_ranks(
    positive: Bool[np.ndarray, " N"], score: Float[np.ndarray, " N"]
) -> Int[np.ndarray, " M"]:
    """Ranks (from 1) of the positives by descending score, in ascending order.

    Equal scores share the rank of their last one: as for `average_precision` they are one step.
    """
    ordered = np.sort(-np.asarray(score))
    return np.sort(np.searchsorted(ordered, -np.asarray(score)[positive], side="right"))


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
    match_ranks: Int[np.ndarray, " M"]
    """Ranks of the true detections by score, as `match_ranks` counts them."""
    people: int
    """Number of true boxes."""


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
        return DetectionResult(float("nan"), float("nan"), np.zeros(0, np.int64), 0)
    positive, score = np.concatenate(positive), np.concatenate(kept_scores)
    recall = float(positive.sum() / people)
    precision = average_precision(positive, score)
    return DetectionResult(recall, recall * precision, match_ranks(positive, score), people)
