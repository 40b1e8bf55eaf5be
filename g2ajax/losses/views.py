"""Losses that part a person's appearance from the view: VDT (Zhang et al., CVPR 2024).

Rows with `mask` False are ignored; without rows a loss is 0.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from g2ajax.losses.cross_entropy import cross_entropy
from g2ajax.losses.triplet import normalise

AERIAL = 0
"""Code of the aerial platform; others are on the ground, negative ones are unknown."""


def view_label(platform: Int[Array, " B"]) -> Int[Array, " B"]:
    """1 for aerial images, 0 for all others (ground, wearable), -1 for an unknown platform."""
    return jnp.where(platform < 0, -1, (platform == AERIAL).astype(jnp.int32))


def view_cross_entropy(
    logits: Float[Array, "B 2"], platform: Int[Array, " B"], mask: Bool[Array, " B"] | None = None
) -> Float[Array, ""]:
    """Cross-entropy of "aerial or not", without smoothing, in fast-reid's mean (`cross_entropy`).

    Rows of an unknown platform (negative) are ignored, too.
    """
    label = view_label(platform)
    counts = label >= 0 if mask is None else (label >= 0) & mask
    # Ignored rows may hold anything: a softmax of NaN would have a NaN gradient.
    return cross_entropy(
        jnp.where(counts[:, None], logits, 0.0), label, form="fastreid", mask=counts
    )


def orthogonal(
    feature: Float[Array, "B D"],
    view: Float[Array, "B D"],
    mask: Bool[Array, " B"] | None = None,
    *,
    cap: float | None = None,
    eps: float = 1e-8,
) -> Float[Array, ""]:
    """Mean over rows of |cos(feature, view)|: VDT's orthogonal loss.

    `cap`: rows above it count as the cap and get no gradient (TAG-CLIP: min(|cos|, 0.1)). Norms are
    at least `eps`, as PyTorch's are; a row of zeros has no gradient that is not a number.
    """
    counts = jnp.ones(feature.shape[:1], bool) if mask is None else mask
    x, y = (jnp.where(counts[:, None], z.astype(jnp.float32), 0.0) for z in (feature, view))
    rows = jnp.abs(jnp.sum(normalise(x, eps) * normalise(y, eps), axis=-1))
    rows = rows if cap is None else jnp.minimum(rows, cap)
    return jnp.sum(jnp.where(counts, rows, 0.0)) / jnp.maximum(jnp.sum(counts), 1)
