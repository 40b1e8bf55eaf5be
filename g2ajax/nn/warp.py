"""Thin-plate-spline warps of maps: where every place reads from, and the reading.

Points are (x, y) in [-1, 1], corners of the map included. Bookstein, TPAMI 1989.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def regular_points(side: int) -> Float[np.ndarray, "K 2"]:
    """side x side points on [-1, 1]², the first coordinate varying slowest."""
    line = np.linspace(-1.0, 1.0, side)
    return np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)


@functools.cache
def spline_weights(
    side: int, height: int, width: int, *, eps: float = 1e-8
) -> Float[np.ndarray, "N K"]:
    """The matrix W of a spline through `regular_points(side)`: a warp that takes them to points p
    takes the places of a map, in row-major order, to W p.

    The spline is linear in p, so its (K+3)² system is solved here, once, in float64. Its kernel is
    ½ r² ln max(r², `eps`).

    Raises ValueError for a map with fewer than two rows or columns, whose places have no coordinates
    on [-1, 1].
    """
    if min(height, width) < 2:
        raise ValueError(
            f"a grid of {height}x{width} places is too small to be warped: expected two rows and two "
            "columns at least; use larger images or a smaller stride"
        )
    targets = regular_points(side)
    ys, xs = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    places = np.stack([xs, ys], axis=-1).reshape(-1, 2)

    def kernel(points: np.ndarray) -> np.ndarray:
        square = np.sum(np.square(points[:, None] - targets[None]), axis=-1)
        return 0.5 * square * np.log(np.maximum(square, eps))

    affine = np.concatenate([np.ones((len(targets), 1)), targets], axis=1)
    system = np.block([[kernel(targets), affine], [affine.T, np.zeros((3, 3))]])
    rows = np.concatenate([kernel(places), np.ones((len(places), 1)), places], axis=1)
    return (rows @ np.linalg.inv(system))[:, : len(targets)]


def rotation(angle: Float[Array, " B"]) -> Float[Array, "B 2 2"]:
    """The matrices R that turn row vectors p by p R: [[cos, sin], [-sin, cos]]."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([cos, sin], -1), jnp.stack([-sin, cos], -1)], axis=-2)


def read_bilinear(
    values: Float[Array, "B h w D"], points: Float[Array, "B N 2"]
) -> Float[Array, "B N D"]:
    """Values between the places of a map, which its border continues outside.

    As PyTorch's `grid_sample` with aligned corners and border padding: outside and on the border a
    point gets no gradient.
    """
    batch, height, width, _ = values.shape
    flat = values.reshape(batch, height * width, -1)

    def corners(coordinate: Float[Array, "B N"], size: int) -> tuple[Array, Array, Array]:
        place = (coordinate + 1.0) / 2.0 * (size - 1)
        inside = (place > 0) & (place < size - 1)
        place = jnp.where(inside, place, jax.lax.stop_gradient(jnp.clip(place, 0, size - 1)))
        low = jnp.floor(jax.lax.stop_gradient(place))
        first = low.astype(jnp.int32)
        return first, jnp.minimum(first + 1, size - 1), place - low

    left, right, along = corners(points[..., 0], width)
    top, bottom, down = corners(points[..., 1], height)

    def at(row: Array, column: Array, weight: Array) -> Array:
        taken = jnp.take_along_axis(flat, (row * width + column)[..., None], axis=1)
        return taken * weight[..., None].astype(flat.dtype)

    upper = at(top, left, (1 - down) * (1 - along)) + at(top, right, (1 - down) * along)
    return upper + at(bottom, left, down * (1 - along)) + at(bottom, right, down * along)
