"""Training targets of the proposal network and the box heads: match, sample, encode."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from g2ajax.detection.boxes import (
    ROI_WEIGHTS,
    RPN_WEIGHTS,
    Weights,
    encode_boxes,
    pairwise_iou,
)
from g2ajax.detection.matcher import BELOW, BETWEEN, match
from g2ajax.detection.sampler import sample_balanced


class AnchorTargets(NamedTuple):
    """Anchors sampled for the losses of the proposal network; unused slots come last."""

    index: Int[Array, " S"]
    valid: Bool[Array, " S"]
    positive: Bool[Array, " S"]
    codes: Float[Array, "S 4"]
    """0 where not positive."""


def select_anchors(
    key: Key[Array, ""],
    anchors: Float[Array, "N 4"],
    truth_boxes: Float[Array, "G 4"],
    truth_mask: Bool[Array, " G"],
    *,
    high: float = 0.7,
    low: float = 0.3,
    size: int = 256,
    positive_fraction: float = 0.5,
    weights: Weights = RPN_WEIGHTS,
    anchor_mask: Bool[Array, " N"] | None = None,
) -> AnchorTargets:
    """Selects the anchors of one image to train on: match (with low-quality matches), sample, encode.

    Empty and inverted true boxes are ignored. Anchors in the padding are background, as in the
    reference, unless `anchor_mask` excludes them.
    """
    truth_mask = _real(truth_boxes, truth_mask)
    iou = pairwise_iou(truth_boxes, anchors)
    if anchor_mask is not None:
        # Below every overlap: they are the best anchor of no true box.
        iou = jnp.where(anchor_mask[None, :], iou, -1.0)
    matched = match(iou, truth_mask, high=high, low=low, low_quality=True)
    label = jnp.where(matched == BELOW, 0, jnp.where(matched == BETWEEN, -1, 1))
    if anchor_mask is not None:
        label = jnp.where(anchor_mask, label, -1)
    index, valid = sample_balanced(key, label, size=size, positive_fraction=positive_fraction)
    positive = (label[index] > 0) & valid
    codes = encode_boxes(
        _rows(truth_boxes, jnp.maximum(matched[index], 0)), anchors[index], weights
    )
    return AnchorTargets(index, valid, positive, jnp.where(positive[:, None], codes, 0.0))


class TrainingSamples(NamedTuple):
    """Boxes sampled for a head, in ascending order of the candidates; unused slots come last."""

    boxes: Float[Array, "S 4"]
    valid: Bool[Array, " S"]
    label: Int[Array, " S"]
    """Label of the matched true box; 0 for background and unused slots."""
    matched: Int[Array, " S"]
    """Index of the matched true box; 0 for background."""
    codes: Float[Array, "S 4"]
    """Matched true box (for background: the first one) relative to the row's box."""


def select_training_samples(
    key: Key[Array, ""],
    boxes: Float[Array, "N 4"],
    box_mask: Bool[Array, " N"],
    truth_boxes: Float[Array, "G 4"],
    truth_label: Int[Array, " G"],
    truth_mask: Bool[Array, " G"],
    *,
    foreground_iou: float = 0.5,
    background_iou: float = 0.5,
    size: int = 128,
    positive_fraction: float = 0.5,
    weights: Weights = ROI_WEIGHTS,
) -> TrainingSamples:
    """Selects the boxes of one image to train a head on, S = min(size, N + G) slots.

    The true boxes are appended to the candidates. Each candidate is matched with a true box (label
    ≥ 1), with background (label 0) or with nothing (between the thresholds); `size` are sampled.
    Empty and inverted true boxes are ignored. The candidates are constants without gradient.
    """
    truth_mask = _real(truth_boxes, truth_mask)
    boxes = jax.lax.stop_gradient(boxes.astype(jnp.float32))
    truth_boxes = truth_boxes.astype(jnp.float32)
    candidates = jnp.concatenate([boxes, truth_boxes])
    present = jnp.concatenate([box_mask, truth_mask])
    iou = pairwise_iou(truth_boxes, candidates)
    matched = match(iou, truth_mask, high=foreground_iou, low=background_iou)
    label = jnp.where(matched >= 0, _rows(truth_label, jnp.maximum(matched, 0)), 0)
    label = jnp.where((matched == BETWEEN) | ~present, -1, label)
    index, valid = sample_balanced(key, label, size=size, positive_fraction=positive_fraction)
    matched = jnp.where(valid, jnp.maximum(matched[index], 0), 0)
    sampled = jnp.where(valid[:, None], candidates[index], 0.0)
    codes = encode_boxes(_rows(truth_boxes, matched), sampled, weights)
    return TrainingSamples(sampled, valid, jnp.where(valid, label[index], 0), matched, codes)


def _real(boxes: Float[Array, "G 4"], mask: Bool[Array, " G"]) -> Bool[Array, " G"]:
    sides = boxes[:, 2:] - boxes[:, :2]
    return mask & jnp.all(sides > 0.0, axis=-1)


def _rows(values: Array, index: Int[Array, " S"]) -> Array:
    """`values[index]`; zeros if `values` has no rows."""
    if values.shape[0]:
        return values[index]
    return jnp.zeros((*index.shape, *values.shape[1:]), values.dtype)


def flat(x: Array) -> Array:
    """The rows of all images, one image after the other."""
    return x.reshape(-1, *x.shape[2:])


def per_image(x: Array, images: int) -> Array:
    """The inverse of `flat`."""
    return x.reshape(images, -1, *x.shape[1:])
