"""Losses that explain a distance by attributes (AMD, Chen et al., ICCV 2021; used by AG-ReID).

d_ij is the distance of two images, d^k_ij the distance of their features under the attention of
attribute k. Metric distillation L_d makes the mean of the d^k equal d. The prior losses make
attributes in which two people differ ("exclusive") explain more of the distance than those they
share ("common"), as a group (L_p1) and one by one (L_p2). All n² ordered pairs of a batch count,
(i, i) included; every mean divides by n².

Where the papers' equations and AMD's code disagree, we follow the code; each function says so.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

HIGHEST = jax.lax.Precision.HIGHEST
MIN_SQUARED = 1e-12


class Terms(NamedTuple):
    """The total loss and its terms, with each half of a prior loss apart."""

    total: Float[Array, ""]
    distillation: Float[Array, ""]
    """L_d."""
    group: Float[Array, ""]
    """L_p1, the sum of its two halves."""
    single: Float[Array, ""]
    """L_p2, the sum of its two halves."""
    group_exclusive: Float[Array, ""]
    group_common: Float[Array, ""]
    single_exclusive: Float[Array, ""]
    single_common: Float[Array, ""]


class Thresholds(NamedTuple):
    """Bounds of the prior losses for a pair with M_E exclusive attributes of M."""

    log_ratio: Float[Array, "..."]
    """λ, which moves both bounds to their geometric mean."""
    group_share: Float[Array, "..."]
    """p, the minimum share of all exclusive attributes together."""
    low: Float[Array, "..."]
    """Minimum share of each exclusive attribute."""
    high: Float[Array, "..."]
    """Maximum share of each common attribute."""


def attribute_distances(feature: Float[Array, "B M D"]) -> Float[Array, "B B M"]:
    """Euclidean distance of every pair of images under every attribute, at least 1e-6.

    The gradient is 0 where that bound is active. The Gram products are float32 at full precision:
    small distances are differences of large numbers.
    """
    feature = feature.astype(jnp.float32)
    # Centring leaves distances unchanged and loses fewer digits in the subtraction below.
    feature = feature - jax.lax.stop_gradient(jnp.mean(feature, 0, keepdims=True))
    gram = jnp.einsum("imc,jmc->ijm", feature, feature, precision=HIGHEST)
    square = jnp.sum(feature * feature, -1)
    squared = square[:, None] + square[None, :] - 2.0 * gram
    # Not maximum(): its gradient at a tie is half of each side.
    return jnp.sqrt(jnp.where(squared >= MIN_SQUARED, squared, MIN_SQUARED))


def exclusive_mask(attributes: Num[Array, "B M"]) -> Float[Array, "B B M"]:
    """1 where two images differ in an attribute, else 0 (eq. 5), from values +1 and −1.

    A value of 0 means "not annotated" and counts as common (the reference has no such value).
    """
    return (attributes[:, None] * attributes[None] < 0).astype(jnp.float32)


def thresholds(
    count: Num[Array, "..."], attributes: int, v: int | float = 0.5, guard: bool = True
) -> Thresholds:
    """Computes λ and the bounds for `count` = M_E exclusive attributes of M.

    p = (M_E/M)^v; λ = ½ ln[(M − M_E) p / (M_E (1 − p))]; low = e^−λ p/M_E; high = e^λ (1−p)/(M−M_E).
    Equations (7) and (8) as printed put p inside the exponent and drop the division by M_E: ten
    exclusive attributes of 88 would each need 65% of the distance.

    `guard` applies the reference's guards: for λ, M_E is at most M − 0.1, and 0.004 and 0.001 are
    added to numerator and denominator, so that λ is ln 2 at M_E = 0; divisors are at least 1e-6.
    """
    count = jnp.asarray(count, jnp.float32)
    # M − M_E before the guard: near M the difference of the bounded count would have few digits.
    common = jnp.clip(attributes - count, 0.1, attributes) if guard else attributes - count
    bounded = attributes - common
    share, rest = _shares(common, attributes, v)
    above, below = common * share, bounded * rest
    if guard:
        above, below = above + 4e-3, below + 1e-3
    log_ratio = 0.5 * (jnp.log(above) - jnp.log(below))
    group_share, group_rest = _shares(attributes - count, attributes, v)
    low = jnp.exp(-log_ratio) * group_share / jnp.maximum(count, 1e-6)
    high = jnp.exp(log_ratio) * group_rest / jnp.maximum(attributes - count, 1e-6)
    return Thresholds(log_ratio, group_share, low, high)


def contributions(
    attribute_distance: Float[Array, "B B M"], constant: Bool[Array, "B B"]
) -> Float[Array, "B B M"]:
    """Share of every attribute, d^k / Σ_k d^k; 1/M, without gradient, where `constant`.

    The gradient flows through numerator and denominator.
    """
    total = jnp.sum(attribute_distance, -1, keepdims=True)
    constant = constant[..., None] | (total <= 0)
    share = attribute_distance / jnp.where(constant, 1.0, total)
    return jnp.where(constant, 1.0 / attribute_distance.shape[-1], share)


def attribute_distillation(
    distance: Float[Array, "B B"],
    attribute_distance: Float[Array, "B B M"],
    attributes: Num[Array, "B M"],
    mask: Bool[Array, " B"] | None = None,
    image: Int[Array, " B"] | None = None,
    *,
    alpha: int | float = 10.0,
    beta: int | float = 100.0,
    v: int | float = 0.5,
    reduction: Literal["mean", "sum"] = "mean",
    guard: bool = True,
) -> Terms:
    """L_d + α L_p1 + β L_p2 of a batch. `distance` is the target and gets no gradient.

    `attributes` are +1 (present), −1 (absent) and 0 (not annotated). Rows with `mask` False are
    padding; their pairs are ignored. `image` numbers the images: two rows of one image are treated
    like the diagonal, as constants without gradient that still count in the mean.

    L_d = mean |d − mean_k d^k|. Equation (4) prints a sum over k where the reference takes the
    mean; `reduction="sum"` follows the equation. L_p1 keeps both halves, although shares sum to one
    and the second half only doubles the first: the published weights assume it. Memory grows with
    the square of the batch and with the attributes: [B, B, M].
    """
    distance = jax.lax.stop_gradient(distance.astype(jnp.float32))
    attribute_distance = attribute_distance.astype(jnp.float32)
    rows, width = attribute_distance.shape[0], attribute_distance.shape[-1]
    constant = jnp.eye(rows, dtype=bool)
    if image is not None:
        constant |= image[:, None] == image[None, :]
    valid = jnp.ones((rows,), bool) if mask is None else mask
    counted = (valid[:, None] & valid[None, :]).astype(jnp.float32)
    pairs = jnp.maximum(jnp.sum(counted), 1.0)
    # Padding may hold anything, NaN included: it is replaced before it is used.
    ignored = (counted == 0)[..., None]
    attribute_distance = jnp.where(ignored, 1.0, attribute_distance)
    distance = jnp.where(counted == 0, 1.0, distance)

    def mean(values: Float[Array, "B B"]) -> Float[Array, ""]:
        return jnp.sum(values * counted) / pairs

    exclusive = exclusive_mask(attributes)
    common = 1.0 - exclusive
    bound = thresholds(jnp.sum(exclusive, -1), width, v, guard)
    share = contributions(attribute_distance, constant)
    reduce = jnp.mean if reduction == "mean" else jnp.sum
    gap = jnp.abs(distance - reduce(attribute_distance, -1))
    distillation = mean(jnp.where(constant, 1e-9, gap))
    relu = jax.nn.relu  # its gradient at 0 is 0
    group_exclusive = mean(relu(bound.group_share - jnp.sum(share * exclusive, -1)))
    group_common = mean(relu(jnp.sum(share * common, -1) - (1.0 - bound.group_share)))
    single_exclusive = mean(jnp.sum(exclusive * relu(bound.low[..., None] - share), -1))
    single_common = mean(jnp.sum(common * relu(share - bound.high[..., None]), -1))
    group, single = group_exclusive + group_common, single_exclusive + single_common
    return Terms(
        distillation + alpha * group + beta * single,
        distillation,
        group,
        single,
        group_exclusive,
        group_common,
        single_exclusive,
        single_common,
    )


def _shares(
    common: Float[Array, "..."], attributes: int, v: int | float
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """((M − c)/M)^v and one minus it for c common attributes of M.

    By log1p and expm1, which lose no digits where c is small beside M; finite with finite gradients
    at c = M, too.
    """
    some = common < attributes
    power = v * jnp.log1p(-jnp.where(some, common, 0.0) / attributes)
    return jnp.where(some, jnp.exp(power), 0.0), jnp.where(some, -jnp.expm1(power), 1.0)
