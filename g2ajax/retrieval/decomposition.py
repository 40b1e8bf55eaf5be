"""Decomposition of a distance over attributes: shares, and distances reweighted by them.

Chen et al., "Explainable Person Re-Identification with Attribute-guided Metric Distillation",
ICCV 2021. dk[..., k] ≥ 0 is the distance under the attention of attribute k. Attributes are +1
(present), −1 (absent) or 0 (not annotated).
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num


def shares(dk: Float[Array, "*pairs M"]) -> Float[Array, "*pairs M"]:
    """Share of each attribute in the distance, dk / Σ_k dk; uniform where all are 0.

    Shares sum to 1. Values and gradients are finite for an image paired with itself.
    """
    dk = dk.astype(jnp.float32)
    total = jnp.sum(dk, -1, keepdims=True)
    positive = total > 0
    return jnp.where(positive, dk / jnp.where(positive, total, 1.0), 1.0 / dk.shape[-1])


def exclusive(
    query_attributes: Num[Array, "Q M"], gallery_attributes: Num[Array, "G M"]
) -> Bool[Array, "Q G M"]:
    """True for attributes that one image of a pair has and the other lacks; False if not annotated."""
    return query_attributes[:, None, :] * gallery_attributes[None, :, :] < 0


def reweighted(
    distance: Float[Array, "Q G"],
    evidence: Float[Array, "Q G"],
    weight: float | int | Float[Array, ""],
) -> Float[Array, "Q G"]:
    """distance · (1 + weight · evidence): moves pairs with evidence of a difference apart.

    Weight 0 leaves the distance unchanged. The paper's code tunes `weight` by rank-1 on the test
    set; do not do that.
    """
    return distance.astype(jnp.float32) * (1.0 + weight * evidence.astype(jnp.float32))


def largest_share(dk: Float[Array, "Q G M"]) -> Float[Array, "Q G"]:
    """Evidence without annotations: the largest share, in 1/M..1."""
    return jnp.max(shares(dk), -1)


def exclusive_share(
    dk: Float[Array, "Q G M"],
    query_attributes: Num[Array, "Q M"],
    gallery_prediction: Num[Array, "G M"],
) -> Float[Array, "Q G"]:
    """Evidence Σ_k s_k u_k in 0..1, with u = (1 − query attribute · prediction) / 2.

    Attributes of the query are annotated (+1 / −1), those of the gallery predicted (1 yes, 0 no). As
    in the paper's code, a predicted "no" and an unannotated attribute give u = 1/2 whatever the
    query has, so u is 0, 1/2 or 1.
    """
    query = query_attributes.astype(jnp.float32)[:, None, :]
    gallery = gallery_prediction.astype(jnp.float32)[None, :, :]
    return jnp.sum(shares(dk) * (1.0 - query * gallery), -1) / 2.0
