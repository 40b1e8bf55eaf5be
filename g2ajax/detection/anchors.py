"""Anchor boxes of a feature map (Ren et al., NeurIPS 2015), in torchvision's order."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

SIZES = (32, 64, 128, 256, 512)
ASPECT_RATIOS = (0.5, 1.0, 2.0)


def cell_anchors(
    sizes: Sequence[int | float] = SIZES, aspect_ratios: Sequence[int | float] = ASPECT_RATIOS
) -> Float[np.ndarray, "A 4"]:
    """Anchors of one cell, centred on (0, 0); index = ratio · len(sizes) + size.

    An aspect ratio is height / width at equal area. Half sides are rounded half to even in float32,
    as in torchvision.
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
    """Anchors of an h × w map, N = h w A in the order (row, column, anchor).

    They are centred on (stride · column, stride · row), the upper left corner of a cell, not its
    centre, and cover the whole padded canvas.
    """
    (rows, columns), (step_y, step_x) = feature_hw, stride
    y = jnp.arange(rows, dtype=jnp.float32) * step_y
    x = jnp.arange(columns, dtype=jnp.float32) * step_x
    y, x = jnp.meshgrid(y, x, indexing="ij")
    shift = jnp.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
    return (shift + jnp.asarray(cell, jnp.float32)[None]).reshape(-1, 4)
