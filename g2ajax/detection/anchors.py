"""Anchor boxes of one feature map (Ren et al., NeurIPS 2015), as torchvision counts them."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

SIZES = (32, 64, 128, 256, 512)
ASPECT_RATIOS = (0.5, 1.0, 2.0)


def cell_anchors(
    sizes: Sequence[int | float] = SIZES, aspect_ratios: Sequence[int | float] = ASPECT_RATIOS
) -> Float[np.ndarray, "A 4"]:
    """The anchors of one cell around (0, 0), index = ratio · len(sizes) + size.

    An aspect ratio is height / width at equal area. The half sides are rounded half to even, in
    float32 as in torchvision.
    """
    height = np.sqrt(np.asarray(aspect_ratios, np.float32))
    width = np.float32(1.0) / height
    scales = np.asarray(sizes, np.float32)
    half_width = (width[:, None] * scales[None, :]).reshape(-1) / np.float32(2.0)
    half_height = (height[:, None] * scales[None, :]).reshape(-1) / np.float32(2.0)
    return np.round(np.stack([-half_width, -half_height, half_width, half_height], axis=1))


def grid_anchors(
    cell: Float[np.ndarray, "A 4"], feature_hw: tuple[int, int], stride: tuple[int, int] = (16, 16)
) -> Float[Array, "N 4"]:
    """The anchors of an h × w map, N = h w A in the order (row, column, anchor).

    They are centred on (stride · column, stride · row), the cell's upper left corner, not on its
    centre; and they cover the whole padded canvas.
    """
    (rows, columns), (step_y, step_x) = feature_hw, stride
    y = jnp.arange(rows, dtype=jnp.float32) * step_y
    x = jnp.arange(columns, dtype=jnp.float32) * step_x
    y, x = jnp.meshgrid(y, x, indexing="ij")
    shift = jnp.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
    return (shift + jnp.asarray(cell, jnp.float32)[None]).reshape(-1, 4)
