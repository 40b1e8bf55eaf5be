"""Greedy non-maximum suppression by tiles, with static shapes and torchvision's order and ties."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from g2ajax.detection.boxes import pairwise_iou


class Kept(NamedTuple):
    """Indices of the surviving boxes in score order; unused slots (index 0) come last."""

    index: Int[Array, " M"]
    valid: Bool[Array, " M"]


def nms(
    boxes: Float[Array, "N 4"],
    scores: Float[Array, " N"],
    mask: Bool[Array, " N"] | None = None,
    *,
    threshold: float,
    max_output: int | None = None,
    tile: int = 256,
) -> Kept:
    """Keeps boxes by descending score, except those that overlap a kept box with IoU > `threshold`.

    Equal scores are ordered by index. Boxes with `mask` False are ignored. At most `max_output`
    boxes (default N) are returned; the search stops there.

    The result is exact without an N × N table: boxes are processed in tiles of `tile`. Each tile is
    compared with the boxes kept so far (max_output × tile overlaps), then with itself: repeating
    keep ← alive ∧ ¬∃ better kept box that overlaps, until nothing changes, gives the greedy result.
    `jax.vmap` batches it over images.
    """
    count = boxes.shape[0]
    slots = count if max_output is None else min(max_output, count)
    if not slots:
        return Kept(jnp.zeros((0,), jnp.int32), jnp.zeros((0,), bool))
    tile = min(tile, count)
    tiles = -(-count // tile)
    limit = _not_above(threshold)
    alive = jnp.ones((count,), bool) if mask is None else mask
    scores = jax.lax.stop_gradient(scores.astype(jnp.float32))
    scores = jnp.where(alive, scores, -jnp.inf)
    # Masked boxes come last, also after a valid box of score -inf.
    order = jnp.lexsort((~alive, -scores))
    padding = tiles * tile - count
    boxes = jax.lax.stop_gradient(boxes.astype(jnp.float32))
    sorted_boxes = jnp.pad(boxes[order], ((0, padding), (0, 0))).reshape(tiles, tile, 4)
    sorted_alive = jnp.pad(alive[order], (0, padding)).reshape(tiles, tile)
    total = jnp.sum(alive)
    before = jnp.tri(tile, k=-1, dtype=bool).T

    def unfinished(carry):
        at, kept, _, _ = carry
        return (at * tile < total) & (kept < slots)

    def step(carry):
        at, kept, kept_boxes, kept_ranks = carry
        block = jax.lax.dynamic_index_in_dim(sorted_boxes, at, keepdims=False)
        free = jax.lax.dynamic_index_in_dim(sorted_alive, at, keepdims=False)
        # Unused slots of the buffer are empty boxes, which overlap nothing.
        free &= ~jnp.any(pairwise_iou(kept_boxes, block) > limit, axis=0)
        keep = _resolve(free, (pairwise_iou(block, block) > limit) & before)
        slot = jnp.where(keep, kept + jnp.cumsum(keep) - 1, slots)
        kept_boxes = kept_boxes.at[slot].set(block, mode="drop")
        kept_ranks = kept_ranks.at[slot].set(at * tile + jnp.arange(tile), mode="drop")
        return at + 1, jnp.minimum(kept + jnp.sum(keep), slots), kept_boxes, kept_ranks

    start = (
        jnp.zeros((), jnp.int32),
        jnp.zeros((), jnp.int32),
        jnp.zeros((slots, 4), jnp.float32),
        jnp.zeros((slots,), jnp.int32),
    )
    _, kept, _, ranks = jax.lax.while_loop(unfinished, step, start)
    valid = jnp.arange(slots) < kept
    return Kept(jnp.where(valid, order[ranks], 0).astype(jnp.int32), valid)


def batched_nms(
    boxes: Float[Array, "N 4"],
    scores: Float[Array, " N"],
    group: Int[Array, " N"],
    mask: Bool[Array, " N"] | None = None,
    *,
    threshold: float,
    max_output: int | None = None,
    tile: int = 256,
) -> Kept:
    """`nms` within each group (class or level ≥ 0), by moving groups apart, as in torchvision.

    Every box moves by group · (largest coordinate + 1), which rounds its coordinates.
    """
    boxes = boxes.astype(jnp.float32)
    if boxes.shape[0]:
        valid = jnp.ones(group.shape, bool) if mask is None else mask
        largest = jnp.max(jnp.where(valid[:, None], boxes, 0.0))
        boxes = boxes + (group.astype(jnp.float32) * (largest + 1.0))[:, None]
    return nms(boxes, scores, mask, threshold=threshold, max_output=max_output, tile=tile)


def _resolve(free: Bool[Array, " T"], suppresses: Bool[Array, "T T"]) -> Bool[Array, " T"]:
    """Greedy selection inside a tile; `suppresses[j, i]` is True where the better j overlaps i."""

    def sweep(keep: Bool[Array, " T"]) -> Bool[Array, " T"]:
        return free & ~jnp.any(suppresses & keep[:, None], axis=0)

    def step(carry):
        _, keep = carry
        # Two sweeps an iteration: a loop's condition costs a device more than a sweep.
        middle = sweep(keep)
        last = sweep(middle)
        return jnp.any(last != middle), last

    return jax.lax.while_loop(lambda carry: carry[0], step, (jnp.any(free), free))[1]


def _not_above(threshold: float) -> np.float32:
    """The largest float32 ≤ `threshold`: torchvision compares float32 overlaps with a double."""
    nearest = np.float32(threshold)
    return nearest if float(nearest) <= threshold else np.nextafter(nearest, np.float32(-np.inf))
