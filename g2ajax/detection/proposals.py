"""Proposals from the outputs of a region proposal network, and detections from a head's."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from g2ajax.detection.boxes import (
    MAX_LOG_RATIO,
    RPN_WEIGHTS,
    Weights,
    clip_boxes,
    decode_boxes,
    large_enough,
)
from g2ajax.detection.nms import batched_nms, nms


class Proposals(NamedTuple):
    """Boxes by descending score. Unused slots come last: box 0, score −inf, valid False."""

    boxes: Float[Array, "P 4"]
    scores: Float[Array, " P"]
    valid: Bool[Array, " P"]


def filter_proposals(
    logits: Float[Array, " N"],
    codes: Float[Array, "N 4"],
    anchors: Float[Array, "N 4"],
    size: Float[Array, "2"] | Int[Array, "2"],
    *,
    pre_nms: int,
    post_nms: int,
    nms_threshold: float = 0.7,
    min_size: float = 1e-3,
    weights: Weights = RPN_WEIGHTS,
    max_log_ratio: float = MAX_LOG_RATIO,
    levels: Sequence[int] | None = None,
    anchor_mask: Bool[Array, " N"] | None = None,
) -> Proposals:
    """Filters the proposals of one image (Ren et al., NeurIPS 2015; torchvision 0.11's filter).

    Takes the best `pre_nms` anchors, decodes them, clips them to the image of `size` (height, width)
    without its padding, drops those with a side < `min_size`, and keeps the first `post_nms` after
    NMS. Scores are sigmoids of the logits. Nothing has a gradient: to the heads, proposals are
    constants.

    `levels`: number of anchors of each feature map, N in total; `pre_nms` then counts per level, and
    boxes of different levels do not suppress each other. Anchors with `anchor_mask` False (such as
    those in the padding of a canvas) propose nothing. Raises ValueError for `levels` that do not add
    up to N.
    """
    levels = [logits.shape[0]] if levels is None else list(levels)
    if sum(levels) != logits.shape[0]:
        raise ValueError(f"levels {levels} have {sum(levels)} anchors, the map {logits.shape[0]}")
    logits = jax.lax.stop_gradient(logits).astype(jnp.float32)
    if anchor_mask is not None:
        logits = jnp.where(anchor_mask, logits, -jnp.inf)
    indices, groups, start = [], [], 0
    for level, size_of_level in enumerate(levels):
        kept = min(pre_nms, size_of_level)
        _, index = jax.lax.top_k(logits[start : start + size_of_level], kept)
        indices.append(index + start)
        groups.append(jnp.full((kept,), level, jnp.int32))
        start += size_of_level
    index, group = jnp.concatenate(indices), jnp.concatenate(groups)
    logits = logits[index]
    codes = jax.lax.stop_gradient(codes)[index]
    boxes = decode_boxes(codes, anchors[index], weights, max_log_ratio)
    boxes = clip_boxes(boxes, size)
    large = large_enough(boxes, min_size)
    if anchor_mask is not None:
        large &= anchor_mask[index]
    # Sorted by logit: the order of sigmoids, but without ties where they saturate. The reference's
    # stable sort leaves such ties in logit order, too.
    if len(levels) == 1:
        kept = nms(boxes, logits, large, threshold=nms_threshold, max_output=post_nms)
    else:
        kept = batched_nms(
            boxes, logits, group, large, threshold=nms_threshold, max_output=post_nms
        )
    scores = jnp.where(kept.valid, jax.nn.sigmoid(logits[kept.index]), -jnp.inf)
    return Proposals(jnp.where(kept.valid[:, None], boxes[kept.index], 0.0), scores, kept.valid)


class Detections(NamedTuple):
    """Boxes that survive filtering, best first, with their index; unused slots come last."""

    boxes: Float[Array, "M 4"]
    scores: Float[Array, " M"]
    index: Int[Array, " M"]
    valid: Bool[Array, " M"]


def filter_detections(
    boxes: Float[Array, "N 4"],
    scores: Float[Array, " N"],
    mask: Bool[Array, " N"] | None = None,
    *,
    score_threshold: float = 0.5,
    min_size: float = 1e-2,
    nms_threshold: float = 0.5,
    max_output: int = 300,
) -> Detections:
    """Filters the detections of one image and class: score, size (sides ≥ `min_size`), then NMS.

    `boxes` must be clipped. Gather embeddings and other columns of the boxes by `index`. Unused
    slots: box 0, score −inf, index 0, valid False. The reference shifts all boxes by the largest
    coordinate + 1 before NMS (its class offset); that only rounds them and is left out here.
    """
    good = (scores > score_threshold) & large_enough(boxes, min_size)
    good = good if mask is None else good & mask
    kept = nms(boxes, scores, good, threshold=nms_threshold, max_output=max_output)
    return Detections(
        jnp.where(kept.valid[:, None], boxes[kept.index], 0.0),
        jnp.where(kept.valid, scores[kept.index], -jnp.inf),
        kept.index,
        kept.valid,
    )
