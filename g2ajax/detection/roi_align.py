"""RoIAlign (He et al., ICCV 2017) as two matrix products, differentiable in the features."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def sampling_matrix(
    low: Float[Array, " R"],
    high: Float[Array, " R"],
    *,
    length: int,
    bins: int,
    valid: Int[Array, ""] | None = None,
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> Float[Array, "R bins length"]:
    """Weights of the cells of one axis in each bin of each interval [low, high] (in cells).

    A bin averages `sampling_ratio` evenly spaced points. A point < −1 or > `length` is 0; a point in
    [−1, 0) takes the first cell, one beyond the last index the last cell; any other interpolates its
    two neighbours. `aligned` moves the interval by −1/2; without it, as in the detectors of person
    search, an interval is at least one cell long. The axis ends after `valid` of the `length` cells
    (default: all), where the image ends.
    """
    end = length if valid is None else valid.astype(jnp.float32)
    shift = 0.5 if aligned else 0.0
    start = low.astype(jnp.float32) - shift
    extent = high.astype(jnp.float32) - shift - start
    if not aligned:
        extent = jnp.maximum(extent, 1.0)
    step = extent / bins
    inner = (jnp.arange(sampling_ratio, dtype=jnp.float32) + 0.5) / sampling_ratio
    at = jnp.arange(bins, dtype=jnp.float32)[:, None] + inner[None, :]
    point = start[:, None, None] + at[None] * step[:, None, None]
    inside = (point >= -1.0) & (point <= end)
    point = jnp.clip(point, 0.0, jnp.maximum(end - 1.0, 0.0))
    cell = jnp.arange(length, dtype=jnp.float32)
    hat = jnp.maximum(1.0 - jnp.abs(point[..., None] - cell[None, None, None]), 0.0)
    return jnp.mean(jnp.where(inside[..., None], hat, 0.0), axis=2)


def roi_align(
    features: Float[Array, "h w C"],
    boxes: Float[Array, "R 4"],
    mask: Bool[Array, " R"] | None = None,
    *,
    output_size: int = 14,
    sampling_ratio: int = 2,
    spatial_scale: float = 1.0 / 16.0,
    aligned: bool = False,
    chunk: int | None = None,
    extent: Int[Array, "2"] | None = None,
) -> Float[Array, "R s s C"]:
    """Pools the features under each box to an `output_size`² grid, in the dtype of `features`.

    A bin is the mean of sampling_ratio² bilinear samples. This is separable, pooled = Wy F Wxᵀ with
    the `sampling_matrix` of each axis, so forward and backward are matrix products without scatter.
    float32 features use full precision; with bfloat16 the weights are rounded as well, and sums are
    float32. Boxes are in image pixels and get no gradient; rows with `mask` False are 0. `extent`:
    rows and columns of the map that belong to the image, so that a larger canvas changes nothing.

    On a CPU this was 1.3 to 13 times as fast as 16 gathers and a scatter, for whole and small
    frames, forward and backward.

    `chunk`: boxes processed at a time, which bounds the memory to chunk · output_size · w · C
    intermediate numbers (as many again in the backward pass); None: all at once.
    """
    height, width, channels = features.shape
    count = boxes.shape[0]
    boxes = jax.lax.stop_gradient(boxes.astype(jnp.float32)) * spatial_scale

    def axis(low: int, length: int) -> Float[Array, "R s length"]:
        # Boxes are (x, y, x, y), the extent (rows, columns).
        weights = sampling_matrix(
            boxes[:, low],
            boxes[:, low + 2],
            length=length,
            bins=output_size,
            sampling_ratio=sampling_ratio,
            aligned=aligned,
            valid=None if extent is None else extent[1 - low],
        )
        return weights.astype(features.dtype)

    rows, columns = axis(1, height), axis(0, width)
    if mask is not None:
        rows = jnp.where(mask[:, None, None], rows, 0)
    if chunk is None or chunk >= count:
        return _pool(features, rows, columns)
    chunks = -(-count // chunk)
    padding = ((0, chunks * chunk - count), (0, 0), (0, 0))
    rows = jnp.pad(rows, padding).reshape(chunks, chunk, output_size, height)
    columns = jnp.pad(columns, padding).reshape(chunks, chunk, output_size, width)
    pooled = jax.lax.map(lambda pair: _pool(features, *pair), (rows, columns))
    pooled = pooled.reshape(chunks * chunk, output_size, output_size, channels)
    return pooled[:count]


def _pool(
    features: Float[Array, "h w C"], rows: Float[Array, "R s h"], columns: Float[Array, "R s w"]
) -> Float[Array, "R s s C"]:
    # Results have the type of the map: a product adds up in float32 anyway, and these are the largest
    # arrays of a detector, which XLA would write in float32 before it rounded them.
    precision = jax.lax.Precision.HIGHEST if features.dtype == jnp.float32 else None
    by_row = jnp.einsum("ryh,hwc->rywc", rows, features, precision=precision)
    # A product for each RoI and bin row keeps the channels last without a transposition.
    columns = jnp.broadcast_to(columns[:, None], (*rows.shape[:2], *columns.shape[1:]))
    return jnp.einsum("ryxw,rywc->ryxc", columns, by_row, precision=precision)
