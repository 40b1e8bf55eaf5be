"""The loss of GSAlign's channel mask: features shall be those of their class that the mask lets
through (NeurIPS 2025)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from g2ajax.losses.triplet import normalise


def masked_prototypes(
    feature: Float[Array, "B D"],
    channel_mask: Float[Array, "B D"],
    label: Int[Array, " B"],
    mask: Bool[Array, " B"] | None = None,
) -> Float[Array, "B D"]:
    """Each row's mean feature of its class in the batch, normalised, times its channel mask,
    normalised again. Rows that do not count (see `channel_mask_loss`) are zeros."""
    counts = label >= 0 if mask is None else (label >= 0) & mask
    feature = jnp.where(counts[:, None], feature.astype(jnp.float32), 0.0)
    same = (label[:, None] == label[None, :]) & counts[None, :] & counts[:, None]
    share = same / jnp.maximum(jnp.sum(same, axis=1, keepdims=True), 1)
    mean = jnp.matmul(share, feature, precision=jax.lax.Precision.HIGHEST)
    through = jnp.where(counts[:, None], channel_mask.astype(jnp.float32), 0.0)
    return normalise(normalise(mean, 1e-12) * through, 1e-12)


def channel_mask_loss(
    feature: Float[Array, "B D"],
    channel_mask: Float[Array, "B D"],
    label: Int[Array, " B"],
    mask: Bool[Array, " B"] | None = None,
    *,
    entropy_weight: float = 0.1,
    eps: float = 1e-6,
) -> Float[Array, ""]:
    """Mean over rows and channels of (x - prototype)² + w · (-m ln max(m, eps)): x the normalised
    feature, `masked_prototypes`, m the channel mask in [0, 1], w the `entropy_weight`.

    Rows with `mask` False or a negative label are ignored; without rows the loss is 0.
    """
    counts = label >= 0 if mask is None else (label >= 0) & mask
    x = normalise(jnp.where(counts[:, None], feature.astype(jnp.float32), 0.0), 1e-12)
    m = jnp.where(counts[:, None], channel_mask.astype(jnp.float32), 0.0)
    error = jnp.square(x - masked_prototypes(feature, m, label, mask))
    entropy = -m * jnp.log(jnp.maximum(m, eps))
    rows = jnp.mean(error + entropy_weight * entropy, axis=-1)
    return jnp.sum(jnp.where(counts, rows, 0.0)) / jnp.maximum(jnp.sum(counts), 1)
