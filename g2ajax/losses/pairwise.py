"""Losses over all pairs of a batch: circle loss (Sun et al., CVPR 2020) and pairwise CosFace.

For your own method, or to compare with fast-reid: no method here trains with them. The classifiers of
the same names are `nn.heads.margin_logits`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from g2ajax.losses.triplet import HIGHEST, normalise

# Exponent of pairs that are left out of a sum of exponentials.
NEVER = -1e8


def pairwise_circle(
    feature: Float[Array, "B D"],
    label: Int[Array, " B"],
    *,
    margin: float = 0.25,
    gamma: float = 128.0,
    mask: Bool[Array, " B"] | None = None,
) -> Float[Array, ""]:
    """Circle loss over pairs (equation 6 of the paper, fast-reid's defaults) on cosines s.

    softplus(log Σ_pos exp(−γ α_p (s − 1 + m)) + log Σ_neg exp(γ α_n (s − m))) per anchor, with
    α_p = max(1 + m − s, 0) and α_n = max(s + m, 0), without gradient. The mean is over all anchors;
    an anchor without a positive (other than itself) or without a negative adds 0. Rows with `mask`
    False or a negative label are ignored; without rows the loss is 0.
    """
    cosine = _cosines(feature)
    frozen = jax.lax.stop_gradient(cosine)
    positive = -gamma * jnp.maximum(1.0 + margin - frozen, 0.0) * (cosine - (1.0 - margin))
    negative = gamma * jnp.maximum(frozen + margin, 0.0) * (cosine - margin)
    return _pair_loss(positive, negative, label, mask)


def pairwise_cosface(
    feature: Float[Array, "B D"],
    label: Int[Array, " B"],
    *,
    margin: float = 0.25,
    gamma: float = 128.0,
    mask: Bool[Array, " B"] | None = None,
) -> Float[Array, ""]:
    """Pairwise form of CosFace (Wang et al., CVPR 2018; fast-reid).

    As `pairwise_circle`, with exponents −γ s for positives and γ (s + m) for negatives.
    """
    cosine = _cosines(feature)
    return _pair_loss(-gamma * cosine, gamma * (cosine + margin), label, mask)


def _cosines(feature: Float[Array, "B D"]) -> Float[Array, "B B"]:
    unit = normalise(feature, 1e-12)
    return jnp.matmul(unit, unit.T, precision=HIGHEST)


def _pair_loss(
    positive: Float[Array, "B B"],
    negative: Float[Array, "B B"],
    label: Int[Array, " B"],
    mask: Bool[Array, " B"] | None,
) -> Float[Array, ""]:
    counts = label >= 0 if mask is None else (label >= 0) & mask
    both = counts[:, None] & counts[None, :]
    same = label[:, None] == label[None, :]
    positives = same & both & ~jnp.eye(len(label), dtype=jnp.bool_)

    def total(exponent: Float[Array, "B B"], pairs: Bool[Array, "B B"]) -> Float[Array, " B"]:
        return jax.nn.logsumexp(jnp.where(pairs, exponent, NEVER), axis=1)

    rows = jax.nn.softplus(total(positive, positives) + total(negative, ~same & both))
    return jnp.sum(jnp.where(counts, rows, 0.0)) / jnp.maximum(jnp.sum(counts), 1)
