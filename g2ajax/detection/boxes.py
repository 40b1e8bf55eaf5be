"""Boxes (x0, y0, x1, y1) in pixels: areas, overlaps and codes of one box relative to another.

All results are float32. A side is x1 − x0, without the +1 of older codes.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

RPN_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
"""Weights of the box codes of the region proposal network."""
ROI_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Weights of the box codes of every second-stage head."""
MAX_LOG_RATIO = math.log(1000.0 / 16.0)
"""Upper bound of coded dw and dh: a decoded side is at most 62.5 times the reference's."""

Weights = tuple[float, float, float, float]


def areas(boxes: Float[Array, "*N 4"]) -> Float[Array, "*N"]:
    """Area (x1 − x0) (y1 − y0); negative where one side is inverted."""
    boxes = boxes.astype(jnp.float32)
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def pairwise_iou(a: Float[Array, "N 4"], b: Float[Array, "M 4"]) -> Float[Array, "N M"]:
    """Intersection over union of every box of `a` with every box of `b`.

    0 where the union is not positive: for two empty boxes (0/0 in torchvision) and inverted ones.
    """
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    width = jnp.minimum(a[:, None, 2], b[None, :, 2]) - jnp.maximum(a[:, None, 0], b[None, :, 0])
    height = jnp.minimum(a[:, None, 3], b[None, :, 3]) - jnp.maximum(a[:, None, 1], b[None, :, 1])
    inside = jnp.maximum(width, 0.0) * jnp.maximum(height, 0.0)
    union = areas(a)[:, None] + areas(b)[None, :] - inside
    return jnp.where(union > 0.0, inside / jnp.where(union > 0.0, union, 1.0), 0.0)


def clip_boxes(
    boxes: Float[Array, "*N 4"], size: Float[Array, "2"] | Int[Array, "2"]
) -> Float[Array, "*N 4"]:
    """Clips boxes to an image of `size` (height, width); a coordinate may equal the side."""
    height, width = size[0].astype(jnp.float32), size[1].astype(jnp.float32)
    high = jnp.stack([width, height, width, height])
    high = high.reshape((1,) * (boxes.ndim - 1) + (4,))
    return jnp.clip(boxes.astype(jnp.float32), 0.0, high)


def large_enough(boxes: Float[Array, "*N 4"], min_size: float) -> Bool[Array, "*N"]:
    """True for boxes with both sides ≥ `min_size`."""
    sides = boxes[..., 2:] - boxes[..., :2]
    return jnp.all(sides >= min_size, axis=-1)


def encode_boxes(
    boxes: Float[Array, "*#N 4"],
    references: Float[Array, "*#N 4"],
    weights: Weights = RPN_WEIGHTS,
) -> Float[Array, "*N 4"]:
    """Encodes `boxes` as (dx, dy, dw, dh) relative to `references` (Ren et al., NeurIPS 2015).

    dx = wx (x − x') / w' for centres x and widths w, dw = ww ln(w / w'); likewise for y and h. A row
    is 0 where either box has a side that is not positive: its codes would not be finite.
    """
    boxes, references = boxes.astype(jnp.float32), references.astype(jnp.float32)
    sides = boxes[..., 2:] - boxes[..., :2]
    old_sides = references[..., 2:] - references[..., :2]
    good = jnp.all((sides > 0.0) & (old_sides > 0.0), axis=-1, keepdims=True)
    # Masked before the arithmetic: a gradient through a masked infinity is NaN.
    sides, old_sides = jnp.where(good, sides, 1.0), jnp.where(good, old_sides, 1.0)
    centre = boxes[..., :2] + 0.5 * sides
    old_centre = references[..., :2] + 0.5 * old_sides
    wx, wy, ww, wh = weights
    moved = (centre - old_centre) / old_sides * _row(wx, wy, centre.ndim)
    scaled = jnp.log(sides / old_sides) * _row(ww, wh, centre.ndim)
    return jnp.where(good, jnp.concatenate([moved, scaled], axis=-1), 0.0)


def decode_boxes(
    codes: Float[Array, "*#N 4"],
    references: Float[Array, "*#N 4"],
    weights: Weights = RPN_WEIGHTS,
    max_log_ratio: float = MAX_LOG_RATIO,
) -> Float[Array, "*N 4"]:
    """Decodes (dx, dy, dw, dh) relative to `references`; dw and dh are capped at `max_log_ratio`.

    For several classes pass codes [N, C, 4] and references [N, 1, 4].
    """
    codes, references = codes.astype(jnp.float32), references.astype(jnp.float32)
    wx, wy, ww, wh = weights
    old_sides = references[..., 2:] - references[..., :2]
    old_centre = references[..., :2] + 0.5 * old_sides
    centre = codes[..., :2] / _row(wx, wy, codes.ndim) * old_sides + old_centre
    log_ratio = jnp.minimum(codes[..., 2:] / _row(ww, wh, codes.ndim), max_log_ratio)
    half = 0.5 * (jnp.exp(log_ratio) * old_sides)
    return jnp.concatenate([centre - half, centre + half], axis=-1)


def _row(first: float, second: float, ndim: int) -> Float[Array, "*one 2"]:
    return jnp.asarray([first, second], jnp.float32).reshape((1,) * (ndim - 1) + (2,))
