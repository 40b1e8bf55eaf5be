"""Predicted attributes beside annotated ones, group by group."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from g2ajax.evaluation.bootstrap import interval
from g2ajax.evaluation.reasons import UNKNOWN, Groups, known_codes


class Accuracy(NamedTuple):
    """Accuracy of the predicted classes of a group, in percent."""

    group: str
    images: int
    """Images whose class is annotated."""
    value: float
    low: float
    high: float
    frequent: str
    """The most frequent class of these images."""
    chance: float
    """Its share: the accuracy of always naming it."""


def predicted_codes(logits: Float[np.ndarray, "N M"], groups: Groups) -> Int[np.ndarray, "N G"]:
    """The class of each group with the largest logit; "unknown" is never predicted.

    -1 for a group without known classes. Raises ValueError for another number of columns.
    """
    sizes = [len(names) for _, names in groups]
    if logits.shape[1] != sum(sizes):
        raise ValueError(f"{logits.shape[1]} columns of logits for {sum(sizes)} classes")
    codes = np.full((len(logits), len(groups)), -1, np.int64)
    starts = np.cumsum([0, *sizes])
    for group, (start, (_, names)) in enumerate(zip(starts, groups, strict=False)):
        known = np.array([code for code, name in enumerate(names) if name != UNKNOWN], int)
        if len(known):
            codes[:, group] = known[logits[:, start + known].argmax(1)]
    return codes


def accuracies(
    predicted: Int[np.ndarray, "N G"],
    annotated: Int[np.ndarray, "N G"],
    identity: Int[np.ndarray, " N"],
    groups: Groups,
    *,
    samples: int = 1000,
) -> list[Accuracy]:
    """The accuracy of each group in which the images are annotated with two known classes or more.

    Images whose class is unknown do not count. The interval (95%) is that of `bootstrap.interval` over
    the group's people.
    """
    codes, result = known_codes(annotated, groups), []
    for place, (group, names) in enumerate(groups):
        rows = np.flatnonzero(codes[:, place] >= 0)
        count = np.bincount(codes[rows, place], minlength=len(names))
        if np.count_nonzero(count) < 2:
            continue
        right = 100.0 * (predicted[rows, place] == codes[rows, place])
        low, high = interval(right, identity[rows], samples=samples)
        share = 100.0 * count.max() / len(rows)
        values = float(right.mean()), low, high
        result.append(Accuracy(group, len(rows), *values, names[count.argmax()], float(share)))
    return result
