"""Images resized inside a program as `data.images.resize` does it outside, from any size."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import PIL
from jaxtyping import Array, Float, UInt8

# From version 13 on PIL resizes columns first where the height shrinks more than the width.
VERTICAL_FIRST = int(PIL.__version__.split(".")[0]) >= 13
Interpolation = Literal["bicubic", "bilinear"]


def resized(
    images: UInt8[Array, "B h w 3"], size: tuple[int, int], interpolation: Interpolation
) -> UInt8[Array, "B H W 3"]:
    """The images at `size` (height, width), antialiased where they shrink, as the PIL here does it.

    As PIL's, weights are multiples of 2^-22, and their sums exact. Its weights are rounded from
    float64, these from float32, so that a few differ by 2^-22: a sum that is close to a half can
    become the next whole value.
    """
    heights, widths = (
        _weights(length, target, interpolation)
        for length, target in zip(images.shape[1:3], size, strict=True)
    )
    x = jnp.moveaxis(images.astype(jnp.float32), 3, 1)
    result = _along_rows(_turned(_along_rows(x, widths)), heights)
    if VERTICAL_FIRST:
        other = _turned(_along_rows(_turned(_along_rows(_turned(x), heights)), widths))
        # Both, and one of them thrown away: a format may know no branches.
        height, width = (_number(length) for length in images.shape[1:3])
        shrinks_more = (height > size[0]) & (height * size[1] > width * size[0])
        result = jnp.where(shrinks_more, other, result)
    return jnp.moveaxis(_turned(result), 1, 3).astype(jnp.uint8)


def _turned(x: Float[Array, "B C h w"]) -> Float[Array, "B C w h"]:
    return jnp.swapaxes(x, 2, 3)


def _along_rows(
    x: Float[Array, "B C h w"], weights: Float[Array, "size w"]
) -> Float[Array, "B C h size"]:
    """Resizes and rounds to whole values, as PIL does after each of the two directions."""
    # Sums of products of whole numbers below 2^24 are exact in float32.
    exact = jax.lax.Precision.HIGHEST
    high = jnp.floor(weights / 256.0)
    y = jnp.matmul(x, high.T, precision=exact)
    y = y + jnp.floor(jnp.matmul(x, (weights - 256.0 * high).T, precision=exact) / 256.0)
    return jnp.clip(jnp.floor((y + 2.0**13) / 2.0**14), 0.0, 255.0)


def _number(length: Any) -> Float[Array, ""]:
    """A length, an `int` or a symbol of jax.export, as a number."""
    return jnp.asarray(length).astype(jnp.float32)


def _weights(length: Any, size: int, interpolation: Interpolation) -> Float[Array, "size length"]:
    """Each result's weights of the values along an axis, in units of 2^-22."""
    one = jax.lax.broadcasted_iota(jnp.float32, (size, length), 0)
    other = jax.lax.broadcasted_iota(jnp.float32, (size, length), 1)
    # The distance of their centres in units of the filter, which widens as an axis shrinks, is a
    # quotient of whole numbers: exact up to the division.
    distance = (2.0 * other + 1.0) * size - (2.0 * one + 1.0) * _number(length)
    t = jnp.abs(distance) / (2.0 * jnp.maximum(_number(length), size))
    weights = jnp.maximum(1.0 - t, 0.0) if interpolation == "bilinear" else _cubic(t)
    return jnp.floor(weights / jnp.sum(weights, 1, keepdims=True) * 2.0**22 + 0.5)


def _cubic(t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Keys' cubic filter with a = -1/2."""
    near = (1.5 * t - 2.5) * t * t + 1.0
    far = ((-0.5 * t + 2.5) * t - 4.0) * t + 2.0
    return jnp.where(t < 1.0, near, jnp.where(t < 2.0, far, 0.0))
