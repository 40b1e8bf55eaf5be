"""Losses over all pairs of a batch: circle loss (Sun et al., CVPR 2020) and pairwise CosFace.

For your own method, or to compare with fast-reid: no method here trains with them. The classifiers of
the same names are `nn.heads.margin_logits`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from g2ajax.losses.blocks import over_rows
from g2ajax.losses.triplet import HIGHEST, normalise, pairs

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

    def exponents(cosine: Float[Array, "N B"]) -> tuple[Array, Array]:
        frozen = jax.lax.stop_gradient(cosine)
        positive = -gamma * jnp.maximum(1.0 + margin - frozen, 0.0) * (cosine - (1.0 - margin))
        return positive, gamma * jnp.maximum(frozen + margin, 0.0) * (cosine - margin)

    return _pair_loss(exponents, feature, label, mask)


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

    def exponents(cosine: Float[Array, "N B"]) -> tuple[Array, Array]:
        return -gamma * cosine, gamma * (cosine + margin)

    return _pair_loss(exponents, feature, label, mask)


def _pair_loss(
    exponents: Callable[[Float[Array, "N B"]], tuple[Array, Array]],
    feature: Float[Array, "B D"],
    label: Int[Array, " B"],
    mask: Bool[Array, " B"] | None,
) -> Float[Array, ""]:
    """Mean over anchors of the loss of two sums of exponentials, computed in blocks of rows.

    `exponents` maps cosines of some rows with all to the exponents of positives and of negatives.
    """
    counts = label >= 0 if mask is None else (label >= 0) & mask
    unit, number = normalise(feature, 1e-12), jnp.arange(len(label))

    def rows(
        x: Float[Array, "N D"],
        identity: Int[Array, " N"],
        counted: Bool[Array, " N"],
        own: Int[Array, " N"],
    ) -> Float[Array, " N"]:
        positive, negative = exponents(jnp.matmul(x, unit.T, precision=HIGHEST))
        same, other = pairs(identity, counted, label, counts)
        same &= own[:, None] != number[None]

        def total(
            exponent: Float[Array, "N B"], pair_mask: Bool[Array, "N B"]
        ) -> Float[Array, " N"]:
            return jax.nn.logsumexp(jnp.where(pair_mask, exponent, NEVER), axis=1)

        return jax.nn.softplus(total(positive, same) + total(negative, other))

    values = over_rows(rows, unit, label, counts, number)
    return jnp.sum(jnp.where(counts, values, 0.0)) / jnp.maximum(jnp.sum(counts), 1)
