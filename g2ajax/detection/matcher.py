"""Which true box, if any, each candidate box stands for."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

BELOW = -1
"""The candidate is background."""
BETWEEN = -2
"""The candidate is neither: it takes no part in training."""


def match(
    iou: Float[Array, "G N"],
    truth_mask: Bool[Array, " G"] | None = None,
    *,
    high: float,
    low: float,
    low_quality: bool = False,
    tie: float = 1e-6,
) -> Int[Array, " N"]:
    """The index of each candidate's best true box, or BELOW or BETWEEN.

    The best is the first of the largest `iou`; BELOW where that is < `low`, BETWEEN where it is in
    [`low`, `high`). With `low_quality` every candidate whose overlap with SOME true box is the
    largest that box has gets back its own best true box, maybe another one. `truth_mask` False
    marks padding, which matches nothing.

    Overlaps count as equal within `tie`: the reference compares for equality, which survives no
    other order of the arithmetic. A true box that overlaps no candidate has a largest overlap of
    0, as in the reference, and makes every candidate that does not touch it positive; mask empty
    true boxes out.
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
