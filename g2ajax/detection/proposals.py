"""From the scores and codes of a region proposal network to proposals."""

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
    """One image's proposals (Ren et al., NeurIPS 2015, as torchvision 0.11 filters them).

    The best `pre_nms` anchors, decoded, clipped to the image of `size` (height, width) without its
    padding, minus those with a side < `min_size`, NMS, the first `post_nms`. Scores are sigmoids
    of the logits. Nothing has a gradient: proposals are constants to the heads.

    `levels` gives the number of anchors of each feature map where there are several, N in all:
    `pre_nms` then counts per level, and boxes of different levels do not suppress each other.
    Anchors with `anchor_mask` False (in the padding of a canvas, say) propose nothing.
    """
    levels = [logits.shape[0]] if levels is None else list(levels)
    if sum(levels) != logits.shape[0]:
        raise ValueError(f"levels {levels} have {sum(levels)} anchors, the map {logits.shape[0]}")
    logits = jax.lax.stop_gradient(logits).astype(jnp.float32)
    if anchor_mask is not None:
        logits = jnp.where(anchor_mask, logits, -jnp.inf)
    chosen, groups, start = [], [], 0
    for level, anchors_of in enumerate(levels):
        kept = min(pre_nms, anchors_of)
        _, index = jax.lax.top_k(logits[start : start + anchors_of], kept)
        chosen.append(index + start)
        groups.append(jnp.full((kept,), level, jnp.int32))
        start += anchors_of
    index, group = jnp.concatenate(chosen), jnp.concatenate(groups)
    logits = logits[index]
    codes = jax.lax.stop_gradient(codes)[index]
    boxes = decode_boxes(codes, anchors[index], weights, max_log_ratio)
    boxes = clip_boxes(boxes, size)
    large = large_enough(boxes, min_size)
    if anchor_mask is not None:
        large &= anchor_mask[index]
    # By logit, not by its sigmoid: the same order but where sigmoids saturate into ties, which
    # the reference's stable sort leaves in logit order, too.
    if len(levels) == 1:
        kept = nms(boxes, logits, large, threshold=nms_threshold, max_output=post_nms)
    else:
        kept = batched_nms(
            boxes, logits, group, large, threshold=nms_threshold, max_output=post_nms
        )
    scores = jnp.where(kept.valid, jax.nn.sigmoid(logits[kept.index]), -jnp.inf)
    return Proposals(jnp.where(kept.valid[:, None], boxes[kept.index], 0.0), scores, kept.valid)


class Detections(NamedTuple):
    """What survives of scored boxes, best first. `index` says which box; unused slots come last."""

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
    """One image's detections of one class: score > `score_threshold`, sides ≥ `min_size`, NMS.

    `boxes` are clipped already. Embeddings and other columns of a box are gathered by `index`.
    Unused slots: box 0, score −inf, index 0, valid False. The reference shifts all boxes by the
    largest coordinate + 1 before NMS (its class offset), which only rounds them; not here.
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
