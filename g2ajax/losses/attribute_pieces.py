"""Attribute prediction from pieces of people, so that attribute maps mark where an attribute shows.

A network that sees a whole person may store an attribute in any cell of its map. Here every training
image shows two people, one of them inside a rectangle (as in CutMix; Yun et al., ICCV 2019), and the
cells that show a person must predict that person's attributes alone. An attribute stored far from its
evidence then lands on the other person and is penalised.

Ours: neither AG-ReID nor AMD has it. The weights of the cross-entropy are those of AMD's predictor.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num, PRNGKeyArray, Shaped

from g2ajax.losses.image_text import NEVER

RASTER = (8, 4)
"""Rows and columns of the raster to which rectangles are aligned."""
HEIGHTS, WIDTHS = (2, 6), (2, 4)
"""Minimum and maximum size of a rectangle, in cells of the raster."""
SHARPNESS = 5.0
"""r of the log-mean-exp: 0 is the mean over the cells, infinity their maximum."""


def draw_pieces(key: PRNGKeyArray, images: int) -> Bool[Array, "B 8 4"]:
    """Draws a rectangle for each image, True inside, on `RASTER`; sizes and position are uniform."""
    keys = jax.random.split(key, 4)

    def span(
        sizes: tuple[int, int], length: int, size_key: PRNGKeyArray, start_key: PRNGKeyArray
    ) -> Array:
        size = jax.random.randint(size_key, (images, 1), sizes[0], sizes[1] + 1)
        start = jax.random.randint(start_key, (images, 1), 0, length - size + 1)
        at = jnp.arange(length)[None]
        return (at >= start) & (at < start + size)

    rows = span(HEIGHTS, RASTER[0], keys[0], keys[1])
    columns = span(WIDTHS, RASTER[1], keys[2], keys[3])
    return rows[:, :, None] & columns[:, None, :]


def at_size(pieces: Bool[Array, "B r c"], size: tuple[int, int]) -> Bool[Array, "B h w"]:
    """Resamples pieces to another raster, such as an image's pixels or a map's cells (nearest)."""
    for axis, length in ((1, size[0]), (2, size[1])):
        pieces = jnp.take(pieces, (jnp.arange(length) * pieces.shape[axis]) // length, axis)
    return pieces


def mix(
    images: Shaped[Array, "B H W 3"], pieces: Bool[Array, "B r c"]
) -> tuple[Shaped[Array, "B H W 3"], Num[Array, " B"]]:
    """Mixes each image (inside its piece) with another one (outside); also returns the other's row.

    The other image is half a batch away, because neighbours in a batch often show one person.
    """
    rows = images.shape[0]
    other = (jnp.arange(rows) + rows // 2) % rows
    inside = at_size(pieces, images.shape[1:3])[..., None]
    return jnp.where(inside, images, images[other]), other


def piece_logits(
    logits: Float[Array, "B h w M"], inside: Bool[Array, "B h w"], sharpness: float = SHARPNESS
) -> Float[Array, "B M"]:
    """log-mean-exp of the logits of the cells inside a piece; 0 for a piece without cells.

    z = ln(mean e^(r logit)) / r (Pinheiro & Collobert, CVPR 2015) lies between mean and maximum: a
    few cells are enough to predict a shoe, and every cell gets a gradient.
    """
    inside = inside[..., None]
    count = jnp.sum(inside, (1, 2))
    logits = jnp.where(inside, sharpness * logits.astype(jnp.float32), NEVER)
    mean_exp = jax.nn.logsumexp(logits, (1, 2)) - jnp.log(jnp.maximum(count, 1))
    return jnp.where(count > 0, mean_exp / sharpness, 0.0)


def log_odds(rates: Float[Array, " M"]) -> Float[Array, " M"]:
    """ln(r / (1 − r)), with r clipped to 0.001..0.999: the logit of a prediction from rates alone."""
    rates = jnp.clip(rates.astype(jnp.float32), 1e-3, 1.0 - 1e-3)
    return jnp.log(rates) - jnp.log1p(-rates)


def attribute_cross_entropy(
    logits: Float[Array, "B M"],
    attributes: Num[Array, "B M"],
    rates: Float[Array, " M"],
    weight: Float[Array, " B"],
) -> Float[Array, ""]:
    """Weighted binary cross-entropy, averaged over annotated entries; 0 if there are none.

    `attributes` are +1 (present), −1 (absent) and 0 (not annotated). An entry has weight e^(1−r) if
    the attribute is present and e^r if absent, for the share r of training identities that have it
    (`rates`; AMD's attribute predictor). Rows with a `weight` of 0 are ignored.
    """
    has, rates = attributes > 0, rates.astype(jnp.float32)[None]
    counted = (attributes != 0) & (weight[:, None] > 0)
    logits = jnp.where(counted, logits.astype(jnp.float32), 0.0)
    entropy = jax.nn.softplus(jnp.where(has, -logits, logits))
    entropy = jnp.exp(jnp.where(has, 1.0 - rates, rates)) * entropy
    weight = jnp.where(counted, weight[:, None].astype(jnp.float32), 0.0)
    return jnp.sum(weight * entropy) / jnp.maximum(jnp.sum(weight), 1e-6)
