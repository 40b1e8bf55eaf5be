"""Matching of candidate boxes with true boxes."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

BELOW = -1
"""The candidate is background."""
BETWEEN = -2
"""The candidate is neither positive nor background: training ignores it."""


def match(
    iou: Float[Array, "G N"],
    truth_mask: Bool[Array, " G"] | None = None,
    *,
    high: float,
    low: float,
    low_quality: bool = False,
    tie: float = 1e-6,
) -> Int[Array, " N"]:
    """Index of the best true box of each candidate, or BELOW or BETWEEN.

    The best box is the first with the largest `iou`. The result is BELOW where that overlap is <
    `low`, BETWEEN where it lies in [`low`, `high`). With `low_quality`, a candidate that has the
    largest overlap of some true box is matched with its own best true box, which may be another
    one. True boxes with `truth_mask` False are padding and match nothing.

    Overlaps within `tie` are equal: the reference tests for equality, which breaks when the order of
    the arithmetic changes. As in the reference, a true box that overlaps no candidate has a largest
    overlap of 0 and makes every candidate that does not touch it positive; mask empty true boxes.
    """
    truths, candidates = iou.shape
    if truths == 0:
        return jnp.full((candidates,), BELOW, jnp.int32)
    if truth_mask is None:
        truth_mask = jnp.ones((truths,), bool)
    # Below every overlap, so that padding wins no maximum.
    iou = jnp.where(truth_mask[:, None], iou.astype(jnp.float32), -1.0)
    best = jnp.max(iou, axis=0)
    index = jnp.argmax(iou, axis=0).astype(jnp.int32)
    matched = jnp.where(best < high, BETWEEN, index)
    matched = jnp.where(best < low, BELOW, matched)
    if low_quality:
        largest = jnp.max(iou, axis=1, keepdims=True)
        restored = jnp.any((iou >= largest - tie) & truth_mask[:, None], axis=0)
        matched = jnp.where(restored, index, matched)
    return matched.astype(jnp.int32)
