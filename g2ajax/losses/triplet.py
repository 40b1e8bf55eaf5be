"""Batch-hard and weighted triplet losses (Hermans et al., 2017; Ye et al., TPAMI 2021)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from g2ajax.losses.blocks import over_rows

HIGHEST = jax.lax.Precision.HIGHEST


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


def euclidean(x: Float[Array, "N D"], y: Float[Array, "M D"]) -> Float[Array, "N M"]:
    """Distances of rows, at least 1e-6: the root's gradient at 0 is not a number."""
    return jnp.sqrt(jnp.maximum(squared_distances(x, y), 1e-12))


def unit_chord(x: Float[Array, "N D"], y: Float[Array, "M D"]) -> Float[Array, "N M"]:
    """fast-reid's distance of normalised rows: 2 − 2 cos, the SQUARED chord (no root)."""
    return 2.0 - 2.0 * jnp.matmul(x, y.T, precision=HIGHEST)


def negative_cosine(x: Float[Array, "N D"], y: Float[Array, "M D"]) -> Float[Array, "N M"]:
    """−cos of normalised rows."""
    return -jnp.matmul(x, y.T, precision=HIGHEST)


def normalise(feature: Float[Array, "B D"], eps: float) -> Float[Array, "B D"]:
    """Rows divided by max(norm, eps), with a finite gradient at 0."""
    feature = feature.astype(jnp.float32)
    square = jnp.sum(feature * feature, -1, keepdims=True)
    return feature / jnp.sqrt(jnp.maximum(square, eps * eps))


def mine_hardest(
    distance: Float[Array, "N B"], positive: Bool[Array, "N B"], negative: Bool[Array, "N B"]
) -> Mined:
    """The farthest positive and the nearest negative of every anchor (a row).

    As in the references an anchor is its own positive, so that one exists always. An anchor is
    valid if it is not padding and has a negative.
    """
    hardest_positive = jnp.max(jnp.where(positive, distance, -jnp.inf), axis=1)
    hardest_negative = jnp.min(jnp.where(negative, distance, jnp.inf), axis=1)
    valid = positive.any(1) & negative.any(1)
    return Mined(
        jnp.where(valid, hardest_positive, 0.0), jnp.where(valid, hardest_negative, 0.0), valid
    )


def mine_weighted(
    distance: Float[Array, "N B"], positive: Bool[Array, "N B"], negative: Bool[Array, "N B"]
) -> Mined:
    """AGW's mining: positives weighted by softmax of their distance, negatives by softmin.

    The weights are exp(d − max)/(Σ + 1e-6) with the maximum over the row of d·mask, zeros of
    other columns included, as in the code; hence for negatives the maximum is 0.
    """

    def weighted(score: Float[Array, "N B"], pair_mask: Bool[Array, "N B"]) -> Float[Array, " N"]:
        top = jnp.max(jnp.where(pair_mask, score, 0.0), axis=1, keepdims=True)
        weight = jnp.where(pair_mask, jnp.exp(jnp.where(pair_mask, score, 0.0) - top), 0.0)
        weight = weight / (jnp.sum(weight, axis=1, keepdims=True) + 1e-6)
        return jnp.sum(jnp.where(pair_mask, distance, 0.0) * weight, axis=1)

    valid = positive.any(1) & negative.any(1)
    return Mined(weighted(distance, positive), weighted(-distance, negative), valid)


def mine(
    feature: Float[Array, "B D"],
    label: Int[Array, " B"],
    mask: Bool[Array, " B"] | None = None,
    *,
    distance: Callable[..., Float[Array, "N B"]] = euclidean,
    choose: Callable[..., Mined] = mine_hardest,
) -> Mined:
    """The values that `choose` takes from the `distance` of every row of a batch to all rows,
    computed in blocks of rows: memory does not grow with the square of the batch."""
    counts = label >= 0 if mask is None else (label >= 0) & mask

    def rows(
        x: Float[Array, "N D"], identity: Int[Array, " N"], counted: Bool[Array, " N"]
    ) -> Mined:
        return choose(distance(x, feature), *pairs(identity, counted, label, counts))

    return over_rows(rows, feature, label, counts)


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
    if normalise_feature:
        feature = normalise(feature, 1e-12)
    distance = unit_chord if normalise_feature else euclidean
    choose = mine_hardest if hard_mining else mine_weighted
    return ranking(mine(feature, label, mask, distance=distance, choose=choose), margin)


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
    """The batch-hard triplet of reid-strong-baseline and TransReID, with the distances that it mined.

    `normalise_feature` divides by (norm + 1e-12) and keeps the root of the distance; `hard_factor`
    h moves ap to (1+h) ap and an to (1−h) an.
    """
    if normalise_feature:
        feature = normalise(feature, 1e-12)
    hardest = mine(feature, label, mask)
    mined = Mined(
        hardest.positive * (1.0 + hard_factor),
        hardest.negative * (1.0 - hard_factor),
        hardest.valid,
    )
    return ranking(mined, margin), mined


def triplet_cosine(
    feature: Float[Array, "B D"],
    label: Int[Array, " B"],
    *,
    margin: float | None = 0.3,
    mask: Bool[Array, " B"] | None = None,
) -> Float[Array, ""]:
    """Batch-hard triplet on −cos (VSLA-CLIP, Zhang et al., ECCV 2024): mean relu(ap − an + margin)."""
    feature = normalise(feature, 1e-12)
    return ranking(mine(feature, label, mask, distance=negative_cosine), margin)


def pairs(
    label: Int[Array, " N"],
    counts: Bool[Array, " N"],
    labels: Int[Array, " B"],
    all_count: Bool[Array, " B"],
) -> tuple[Bool[Array, "N B"], Bool[Array, "N B"]]:
    """Masks of the pairs (row, column) of one identity, self included, and of two identities; only pairs
    that count on both sides."""
    both = counts[:, None] & all_count[None, :]
    same = label[:, None] == labels[None, :]
    return same & both, ~same & both
