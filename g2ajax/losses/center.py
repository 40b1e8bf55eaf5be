"""Center loss (Wen et al., ECCV 2016) as reid-strong-baseline uses it.

For your own method, or to compare with reid-strong-baseline: no method here trains with it.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def center(
    feature: Float[Array, "B D"],
    centers: Float[Array, "C D"],
    label: Int[Array, " B"],
    mask: Bool[Array, " B"] | None = None,
) -> Float[Array, ""]:
    """Mean over rows of clamp(|x − c_y|², 1e-12, 1e12); there is no 1/2, unlike in the paper.

    Rows with `mask` False or a negative label are ignored. The reference also adds C − 1 constants of
    1e-12 a row, from clamping the zeros of a [B, C] matrix; they are left out.
    """
    feature, centers = feature.astype(jnp.float32), centers.astype(jnp.float32)
    counts = label >= 0 if mask is None else (label >= 0) & mask
    difference = feature - centers[jnp.where(counts, label, 0)]
    rows = jnp.clip(jnp.sum(difference * difference, axis=-1), 1e-12, 1e12)
    return jnp.sum(jnp.where(counts, rows, 0.0)) / jnp.maximum(jnp.sum(counts), 1)
