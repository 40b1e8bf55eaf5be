"""A distance decomposed over attributes: shares, and rankings that use them.

Chen et al., "Explainable Person Re-Identification with Attribute-guided Metric Distillation",
ICCV 2021. dk[..., k] is the distance under attribute k's attention, at least 0. Attributes are
+1 / −1, and 0 where nobody annotated them.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num


def shares(dk: Float[Array, "*pairs M"]) -> Float[Array, "*pairs M"]:
    """Each attribute's part of the distance, dk / Σ_k dk; uniform where all are 0.

    Sums to 1. Value and gradient are finite for an image paired with itself.
    """
    dk = dk.astype(jnp.float32)
    total = jnp.sum(dk, -1, keepdims=True)
    some = total > 0
    return jnp.where(some, dk / jnp.where(some, total, 1.0), 1.0 / dk.shape[-1])


def exclusive(
    query_attributes: Num[Array, "Q M"], gallery_attributes: Num[Array, "G M"]
) -> Bool[Array, "Q G M"]:
    """Which attributes set a pair apart: one has it, the other has not. Unannotated: False."""
    return query_attributes[:, None, :] * gallery_attributes[None, :, :] < 0


def reweighted(
    distance: Float[Array, "Q G"],
    evidence: Float[Array, "Q G"],
    weight: float | int | Float[Array, ""],
) -> Float[Array, "Q G"]:
    """distance · (1 + weight · evidence): pairs with evidence of a difference move apart.

    The paper's code chooses `weight` by the rank-1 on the test set; never do that. Weight 0 ranks
    by the distance itself.
    """
    return distance.astype(jnp.float32) * (1.0 + weight * evidence.astype(jnp.float32))


def largest_share(dk: Float[Array, "Q G M"]) -> Float[Array, "Q G"]:
    """Evidence that needs no annotation: the largest share, in 1/M..1."""
    return jnp.max(shares(dk), -1)


def exclusive_share(
    dk: Float[Array, "Q G M"],
    query_attributes: Num[Array, "Q M"],
    gallery_prediction: Num[Array, "G M"],
) -> Float[Array, "Q G"]:
    """Evidence Σ_k s_k u_k in 0..1, with u = (1 − query attribute · prediction) / 2.

    The query's attributes are annotated (+1 / −1), the gallery's predicted (1 yes, 0 no). As in
    the paper's code a predicted "no" gives u = 1/2 whatever the query has, as does an unannotated
    attribute; so u is 0, 1/2 or 1.
    """
    query = query_attributes.astype(jnp.float32)[:, None, :]
    gallery = gallery_prediction.astype(jnp.float32)[None, :, :]
    return jnp.sum(shares(dk) * (1.0 - query * gallery), -1) / 2.0
