"""AugMix on the device, image by image: a mixture of an image and of short chains of operations."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, UInt8

from g2ajax.data import pixel_ops
from g2ajax.data.pixel_ops import WARPS, op_index

WIDTH = 3
"""Chains of operations."""
DEPTH = 3
"""Most operations of a chain."""
OPS = (
    "autocontrast",
    "equalize",
    "posterize",
    "solarize",
    "rotate",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
"""The operations without those of the corruptions that robustness is measured on."""


def augmix(key: PRNGKeyArray, image: UInt8[Array, "H W 3"]) -> UInt8[Array, "H W 3"]:
    """Mixes an image with three chains of one to three operations each, of severity 1.

    Hendrycks et al., "AugMix", ICLR 2020, algorithm 1, without its consistency loss: the weights of the
    chains are drawn from Dirichlet(1, 1, 1), the share of their mixture from Beta(1, 1). Levels are
    drawn from 0.1 to 1 (of 10), so that a turn is of 3 degrees at most; warps have a random sign,
    bilinear taps and black from outside, and translations are of whole pixels.
    """
    chain_key, weight_key, share_key = jax.random.split(key, 3)
    chains = jax.vmap(lambda k: _chain(k, image))(jax.random.split(chain_key, WIDTH))
    weights = jax.random.dirichlet(weight_key, jnp.ones(WIDTH))
    share = jax.random.uniform(share_key)
    mixture = jnp.tensordot(weights, chains.astype(jnp.float32), 1)
    mixed = (1.0 - share) * image.astype(jnp.float32) + share * mixture
    # Rounded: the chains of a white pixel may add up to 254.9999.
    return jnp.clip(jnp.round(mixed), 0, 255).astype(jnp.uint8)


def _chain(key: PRNGKeyArray, image: UInt8[Array, "H W 3"]) -> UInt8[Array, "H W 3"]:
    length_key, op_key, level_key, sign_key = jax.random.split(key, 4)
    length = jax.random.randint(length_key, (), 1, DEPTH + 1)
    codes = jnp.array([op_index(name) for name in OPS])
    op = codes[jax.random.randint(op_key, (DEPTH,), 0, len(OPS))]
    level = jax.random.uniform(level_key, (DEPTH,), minval=0.1, maxval=1.0) / 10.0
    sign = jnp.where(jax.random.bernoulli(sign_key, 0.5, (DEPTH,)), 1.0, -1.0)
    height, width, _ = image.shape

    def one(i: jax.Array, image: jax.Array) -> jax.Array:
        done = jnp.where(i < length, op[i], op_index("identity"))
        value = _value(done, level[i], height, width)
        if_colour = pixel_ops.recolour(image, done, value)
        matrix = pixel_ops.affine(done, sign[i] * value, height, width)
        if_warp = pixel_ops.warp(image, matrix, jnp.asarray(False), fill=0)
        is_warp = (done >= op_index(WARPS[0])) & (done <= op_index(WARPS[-1]))
        return jnp.where(is_warp, if_warp, if_colour)

    return jax.lax.fori_loop(0, DEPTH, one, image)


def _value(op: jax.Array, level: jax.Array, height: int, width: int) -> jax.Array:
    """The strength of an operation at a level of 0..1."""
    values = {
        "posterize": 4.0 - jnp.floor(4.0 * level),
        "solarize": 256.0 - jnp.floor(256.0 * level),
        "shear_x": 0.3 * level,
        "shear_y": 0.3 * level,
        "translate_x": jnp.floor(level * width / 3.0),
        "translate_y": jnp.floor(level * height / 3.0),
        "rotate": jnp.floor(30.0 * level),
    }
    return jnp.select([op == op_index(name) for name in values], list(values.values()), 0.0)
