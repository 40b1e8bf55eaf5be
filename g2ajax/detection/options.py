"""Options of a two-stage detector: its proposal network and the regions that its heads see."""

import dataclasses
from typing import Literal

from g2ajax.detection import anchors as anchor_grid


@dataclasses.dataclass(frozen=True)
class ProposalOptions:
    """The region proposal network."""

    sizes: tuple[int, ...] = anchor_grid.SIZES
    """Sides of the anchors in pixels."""
    aspect_ratios: tuple[float, ...] = anchor_grid.ASPECT_RATIOS
    """Heights of the anchors over their widths."""
    foreground_iou: float = 0.7
    """Least overlap with a person of an anchor that is trained as one."""
    background_iou: float = 0.3
    """Overlap below which an anchor is trained as background."""
    samples: int = 256
    """Anchors drawn from each image in training."""
    positive_fraction: float = 0.5
    """Largest share of people among them."""
    train_pre_nms: int = 12000
    """Best anchors of an image kept before suppression, in training."""
    train_post_nms: int = 2000
    """Proposals of an image kept after suppression, in training."""
    test_pre_nms: int = 6000
    """Best anchors of an image kept before suppression, in tests."""
    test_post_nms: int = 300
    """Proposals of an image kept after suppression, in tests."""
    nms: float = 0.7
    """Overlap above which the weaker of two proposals is suppressed."""
    min_size: float = 1e-3
    """Shortest side of a proposal in pixels."""
    box_loss: Literal["smooth_l1", "l1"] = "smooth_l1"
    """Loss of the boxes; `l1` is torchvision 0.4's, with which SeqNet's published numbers were
    made."""


@dataclasses.dataclass(frozen=True)
class RegionOptions:
    """The regions that the heads see."""

    samples: int = 128
    """Regions drawn from each image in training."""
    positive_fraction: float = 0.5
    """Largest share of people among them."""
    score_threshold: float = 0.5
    """Score that a detection must exceed."""
    nms: float = 0.4
    """Overlap above which the weaker of two detections is suppressed before the last head; in a
    plain detector, at the end."""
    final_nms: float = 0.5
    """Overlap above which the weaker of two detections is suppressed at the end."""
    min_size: float = 1e-2
    """Shortest side of a detection in pixels."""
    max_detections: int = 300
    """Most detections of an image."""
    pool_chunk: int = 0
    """Regions pooled at a time, to bound the memory; 0: all."""
