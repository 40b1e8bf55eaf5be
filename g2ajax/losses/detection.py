"""Losses of two-stage detectors (Ren et al., NeurIPS 2015) over sampled rows.

Each loss divides by the number of valid rows in the whole batch, not by slots or images: pass the
rows of all images at once, [B, S] flattened. Without valid rows a loss is 0.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def smooth_l1(
    predicted: Float[Array, "*N"], expected: Float[Array, "*N"], beta: float = 1.0
) -> Float[Array, "*N"]:
    """0.5 d² / beta where |d| < beta, |d| − beta / 2 elsewhere, for every entry; |d| for beta 0."""
    distance = jnp.abs(predicted.astype(jnp.float32) - expected.astype(jnp.float32))
    if not beta:
        return distance
    return jnp.where(distance < beta, 0.5 * distance**2 / beta, distance - 0.5 * beta)


def binary_cross_entropy(
    logits: Float[Array, " N"], positive: Bool[Array, " N"], valid: Bool[Array, " N"]
) -> Float[Array, ""]:
    """Mean of −log sigmoid(±logit) over the valid rows.

    Used for the sampled anchors of the proposal network, and for norm-aware logits ("is a person").
    """
    # Masked before the arithmetic, here and below: unused rows may hold anything.
    logits = jnp.where(valid, logits.astype(jnp.float32), 0.0)
    rows = jax.nn.softplus(jnp.where(positive, -logits, logits))
    return _mean(rows, valid)


def class_cross_entropy(
    logits: Float[Array, "N C"], label: Int[Array, " N"], valid: Bool[Array, " N"]
) -> Float[Array, ""]:
    """Mean softmax cross-entropy over the valid rows; `label` is in 0..C−1, 0 for background."""
    logits = jnp.where(valid[:, None], logits.astype(jnp.float32), 0.0)
    log_probability = jax.nn.log_softmax(logits, axis=-1)
    column = jnp.where(valid, label, 0)[:, None]
    return _mean(-jnp.take_along_axis(log_probability, column, axis=-1, mode="clip")[:, 0], valid)


def box_regression(
    codes: Float[Array, "N 4"],
    expected: Float[Array, "N 4"],
    positive: Bool[Array, " N"],
    valid: Bool[Array, " N"],
    *,
    beta: float = 1.0,
) -> Float[Array, ""]:
    """Σ smooth L1 over the positive rows, divided by the number of ALL valid rows.

    `beta` is 1/9 in the proposal network and 1 in the heads; 0 gives torchvision 0.4's plain L1.
    From a head with several classes pass the `codes` of the person class.
    """
    counts = (positive & valid)[:, None]
    expected = jnp.where(counts, expected, 0.0)
    codes = jnp.where(counts, codes, 0.0)
    total = jnp.sum(smooth_l1(codes, expected, beta))
    return total / jnp.maximum(jnp.sum(valid), 1)


def _mean(rows: Float[Array, " N"], valid: Bool[Array, " N"]) -> Float[Array, ""]:
    return jnp.sum(jnp.where(valid, rows, 0.0)) / jnp.maximum(jnp.sum(valid), 1)
