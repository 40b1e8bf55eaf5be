"""Attributes learned from pieces of people, so that a map of attributes marks where each one shows.

A network that has seen a whole person may write what it knows into any cell of its map. Here every
training image shows two people, one of them in a rectangle (as in CutMix; Yun et al., ICCV 2019), and
the cells that show a person must tell that person's attributes on their own. What is written into a
cell far from its evidence is then often said of somebody else.

Ours: neither AG-ReID nor AMD has it. AMD's attribute predictor gave the weights of the cross-entropy.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num, PRNGKeyArray, Shaped

from g2ajax.losses.image_text import NEVER

RASTER = (8, 4)
"""Rectangles begin and end on the lines of a raster of so many rows and columns."""
HEIGHTS, WIDTHS = (2, 6), (2, 4)
"""Least and greatest size of a rectangle, in steps of the raster."""
SHARPNESS = 5.0
"""r of the log-mean-exp: 0 is the mean over the cells, infinity their maximum."""


def draw_pieces(key: PRNGKeyArray, images: int) -> Bool[Array, "B 8 4"]:
    """A rectangle for each image, True inside, on `RASTER`: uniform in its sizes and its place."""
    keys = jax.random.split(key, 4)

    def span(sizes: tuple[int, int], length: int, own: PRNGKeyArray, other: PRNGKeyArray) -> Array:
        size = jax.random.randint(own, (images, 1), sizes[0], sizes[1] + 1)
        start = jax.random.randint(other, (images, 1), 0, length - size + 1)
        at = jnp.arange(length)[None]
        return (at >= start) & (at < start + size)

    rows = span(HEIGHTS, RASTER[0], keys[0], keys[1])
    columns = span(WIDTHS, RASTER[1], keys[2], keys[3])
    return rows[:, :, None] & columns[:, None, :]


def at_size(pieces: Bool[Array, "B r c"], size: tuple[int, int]) -> Bool[Array, "B h w"]:
    """The pieces on another raster, such as the pixels of an image or the cells of a map."""
    for axis, length in ((1, size[0]), (2, size[1])):
        pieces = jnp.take(pieces, (jnp.arange(length) * pieces.shape[axis]) // length, axis)
    return pieces


def mix(
    images: Shaped[Array, "B H W 3"], pieces: Bool[Array, "B r c"]
) -> tuple[Shaped[Array, "B H W 3"], Num[Array, " B"]]:
    """Images that show their own pixels in their piece, another image's elsewhere; and whose.

    The other is half a batch away, since neighbours in a batch tend to be one person.
    """
    rows = images.shape[0]
    other = (jnp.arange(rows) + rows // 2) % rows
    inside = at_size(pieces, images.shape[1:3])[..., None]
    return jnp.where(inside, images, images[other]), other


def piece_logits(
    logits: Float[Array, "B h w M"], inside: Bool[Array, "B h w"], sharpness: float = SHARPNESS
) -> Float[Array, "B M"]:
    """log-mean-exp of the logits of the cells inside a piece, 0 for a piece without any cell.

    z = ln(mean e^(r logit)) / r (Pinheiro & Collobert, CVPR 2015): between mean and maximum, so that
    a few cells may tell of a shoe and no cell is without a gradient.
    """
    inside = inside[..., None]
    count = jnp.sum(inside, (1, 2))
    logits = jnp.where(inside, sharpness * logits.astype(jnp.float32), NEVER)
    found = jax.nn.logsumexp(logits, (1, 2)) - jnp.log(jnp.maximum(count, 1))
    return jnp.where(count > 0, found / sharpness, 0.0)


def log_odds(rates: Float[Array, " M"]) -> Float[Array, " M"]:
    """ln(r / (1 − r)), with r within 0.001 and 0.999: the logit of who knows nothing but the shares."""
    rates = jnp.clip(rates.astype(jnp.float32), 1e-3, 1.0 - 1e-3)
    return jnp.log(rates) - jnp.log1p(-rates)


def attribute_cross_entropy(
    logits: Float[Array, "B M"],
    attributes: Num[Array, "B M"],
    rates: Float[Array, " M"],
    weight: Float[Array, " B"],
) -> Float[Array, ""]:
    """Weighted binary cross-entropy, the mean over annotated entries; 0 if there are none.

    `attributes` are +1 (has it), −1 (has it not) and 0 (not annotated). An entry weighs e^(1−r) if the
    image has the attribute and e^r if not, r being the share of training identities that have it
    (`rates`; AMD's attribute predictor). `weight` of 0 takes a row out, whatever it holds.
    """
    has, rates = attributes > 0, rates.astype(jnp.float32)[None]
    counted = (attributes != 0) & (weight[:, None] > 0)
    logits = jnp.where(counted, logits.astype(jnp.float32), 0.0)
    entropy = jax.nn.softplus(jnp.where(has, -logits, logits))
    entropy = jnp.exp(jnp.where(has, 1.0 - rates, rates)) * entropy
    weight = jnp.where(counted, weight[:, None].astype(jnp.float32), 0.0)
    return jnp.sum(weight * entropy) / jnp.maximum(jnp.sum(weight), 1e-6)
