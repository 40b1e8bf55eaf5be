"""Batch-hard and weighted triplet losses (Hermans et al., 2017; Ye et al., TPAMI 2021)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

HIGHEST = jax.lax.Precision.HIGHEST
# Added to positives when the nearest negative is sought (fast-reid's constant).
FAR = 1e9


class Mined(NamedTuple):
    """Each anchor's distances to its positive and its negative, and which anchors have both."""

    positive: Float[Array, " B"]
    negative: Float[Array, " B"]
    valid: Bool[Array, " B"]


def squared_distances(x: Float[Array, "N D"], y: Float[Array, "M D"]) -> Float[Array, "N M"]:
    """|x|² + |y|² − 2 x·y in float32; rounding may make it slightly negative."""
    x, y = x.astype(jnp.float32), y.astype(jnp.float32)
    product = jnp.matmul(x, y.T, precision=HIGHEST)
    return jnp.sum(x * x, -1)[:, None] + jnp.sum(y * y, -1)[None, :] - 2.0 * product


def euclidean(feature: Float[Array, "B D"]) -> Float[Array, "B B"]:
    """Distances inside a batch, at least 1e-6: the root's gradient at 0 is not a number."""
    return jnp.sqrt(jnp.maximum(squared_distances(feature, feature), 1e-12))


def unit_chord(feature: Float[Array, "B D"]) -> Float[Array, "B B"]:
    """fast-reid's distance of normalised features: 2 − 2 cos, the SQUARED chord (no root)."""
    unit = normalise(feature, 1e-12)
    return 2.0 - 2.0 * jnp.matmul(unit, unit.T, precision=HIGHEST)


def normalise(feature: Float[Array, "B D"], eps: float) -> Float[Array, "B D"]:
    """Rows divided by max(norm, eps), with a finite gradient at 0."""
    feature = feature.astype(jnp.float32)
    square = jnp.sum(feature * feature, -1, keepdims=True)
    return feature / jnp.sqrt(jnp.maximum(square, eps * eps))


def mine_hardest(
    distance: Float[Array, "B B"], label: Int[Array, " B"], mask: Bool[Array, " B"] | None = None
) -> Mined:
    """The farthest positive and the nearest negative of every anchor.

    As in the references an anchor is its own positive, so that one exists always. An anchor is
    valid if it is not padding and has a negative.
    """
    positive, negative = _pairs(label, mask)
    hardest_positive = jnp.max(jnp.where(positive, distance, -jnp.inf), axis=1)
    hardest_negative = jnp.min(jnp.where(negative, distance, jnp.inf), axis=1)
    valid = positive.any(1) & negative.any(1)
    return Mined(
        jnp.where(valid, hardest_positive, 0.0), jnp.where(valid, hardest_negative, 0.0), valid
    )


def mine_weighted(
    distance: Float[Array, "B B"], label: Int[Array, " B"], mask: Bool[Array, " B"] | None = None
) -> Mined:
    """AGW's mining: positives weighted by softmax of their distance, negatives by softmin.

    The weights are exp(d − max)/(Σ + 1e-6) with the maximum over the row of d·mask, zeros of
    other columns included, as in the code; hence for negatives the maximum is 0.
    """
    positive, negative = _pairs(label, mask)

    def weighted(score: Float[Array, "B B"], chosen: Bool[Array, "B B"]) -> Float[Array, " B"]:
        top = jnp.max(jnp.where(chosen, score, 0.0), axis=1, keepdims=True)
        weight = jnp.where(chosen, jnp.exp(jnp.where(chosen, score, 0.0) - top), 0.0)
        weight = weight / (jnp.sum(weight, axis=1, keepdims=True) + 1e-6)
        return jnp.sum(jnp.where(chosen, distance, 0.0) * weight, axis=1)

    valid = positive.any(1) & negative.any(1)
    return Mined(weighted(distance, positive), weighted(-distance, negative), valid)


def triplet(
    feature: Float[Array, "B D"],
    label: Int[Array, " B"],
    *,
    margin: float | None = None,
    hard_mining: bool = True,
    normalise_feature: bool = False,
    mask: Bool[Array, " B"] | None = None,
) -> Float[Array, ""]:
    """fast-reid's triplet loss: margin > 0: mean relu(ap − an + margin); None or 0: soft margin,
    mean log(1 + exp(ap − an)).

    With `normalise_feature` the distance is the squared chord of normalised features. A negative
    label or `mask` False takes a row out; no valid anchor: 0. The reference falls back to margin
    0.3 where its soft margin overflows; softplus does not overflow.
    """
    distance = unit_chord(feature) if normalise_feature else euclidean(feature)
    mined = (mine_hardest if hard_mining else mine_weighted)(distance, label, mask)
    return ranking(mined, margin)


def ranking(mined: Mined, margin: float | None) -> Float[Array, ""]:
    """The mean hinge (margin) or softplus (None or 0) of positive − negative over valid anchors."""
    gap = mined.positive - mined.negative
    rows = jax.nn.relu(gap + margin) if margin else jax.nn.softplus(gap)
    return jnp.sum(jnp.where(mined.valid, rows, 0.0)) / jnp.maximum(jnp.sum(mined.valid), 1)


def triplet_transreid(
    feature: Float[Array, "B D"],
    label: Int[Array, " B"],
    *,
    margin: float | None = None,
    hard_factor: float = 0.0,
    normalise_feature: bool = False,
    mask: Bool[Array, " B"] | None = None,
) -> tuple[Float[Array, ""], Mined]:
    """The batch-hard triplet of reid-strong-baseline and TransReID, and what it mined.

    `normalise_feature` divides by (norm + 1e-12) and keeps the root of the distance; `hard_factor`
    h moves ap to (1+h) ap and an to (1−h) an.
    """
    if normalise_feature:
        feature = normalise(feature, 1e-12)
    hardest = mine_hardest(euclidean(feature), label, mask)
    mined = Mined(
        hardest.positive * (1.0 + hard_factor),
        hardest.negative * (1.0 - hard_factor),
        hardest.valid,
    )
    return ranking(mined, margin), mined


def _pairs(
    label: Int[Array, " B"], mask: Bool[Array, " B"] | None
) -> tuple[Bool[Array, "B B"], Bool[Array, "B B"]]:
    """Which pairs are of one identity (self included), and which of two."""
    counts = label >= 0 if mask is None else (label >= 0) & mask
    both = counts[:, None] & counts[None, :]
    same = label[:, None] == label[None, :]
    return same & both, ~same & both
