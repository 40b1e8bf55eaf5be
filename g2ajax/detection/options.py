"""Options of a two-stage detector: its proposal network and the regions that its heads see."""

import dataclasses
from typing import Annotated, Literal

from g2ajax.detection import anchors as anchor_grid

# Smallest and largest value, as `config.ranges` reads them; this floor imports nothing of ours.
Count = Annotated[int, (1, None)]
Natural = Annotated[int, (0, None)]
Share = Annotated[float, (0, 1)]
Pixels = Annotated[float, (0, None)]
Ratio = Annotated[float, (0.01, 100)]


@dataclasses.dataclass(frozen=True)
class ProposalOptions:
    """The region proposal network."""

    sizes: tuple[Count, ...] = anchor_grid.SIZES
    """Sides of the anchors in pixels."""
    aspect_ratios: tuple[Ratio, ...] = anchor_grid.ASPECT_RATIOS
    """Heights of the anchors over their widths."""
    foreground_iou: Share = 0.7
    """Least overlap with a person of an anchor that is trained as one."""
    background_iou: Share = 0.3
    """Overlap below which an anchor is trained as background."""
    samples: Count = 256
    """Anchors drawn from each image in training."""
    positive_fraction: Share = 0.5
    """Largest share of people among them."""
    train_pre_nms: Count = 12000
    """Best anchors of an image kept before suppression, in training."""
    train_post_nms: Count = 2000
    """Proposals of an image kept after suppression, in training."""
    test_pre_nms: Count = 6000
    """Best anchors of an image kept before suppression, in tests."""
    test_post_nms: Count = 300
    """Proposals of an image kept after suppression, in tests."""
    nms: Share = 0.7
    """Overlap above which the weaker of two proposals is suppressed."""
    min_size: Pixels = 1e-3
    """Shortest side of a proposal in pixels."""
    box_loss: Literal["smooth_l1", "l1"] = "smooth_l1"
    """Loss of the boxes; `l1` is torchvision 0.4's, with which SeqNet's published numbers were
    made."""


@dataclasses.dataclass(frozen=True)
class RegionOptions:
    """The regions that the heads see."""

    samples: Count = 128
    """Regions drawn from each image in training."""
    positive_fraction: Share = 0.5
    """Largest share of people among them."""
    score_threshold: Share = 0.5
    """Score that a detection must exceed."""
    nms: Share = 0.4
    """Overlap above which the weaker of two detections is suppressed before the last head; in a
    plain detector, at the end."""
    final_nms: Share = 0.5
    """Overlap above which the weaker of two detections is suppressed at the end."""
    min_size: Pixels = 1e-2
    """Shortest side of a detection in pixels."""
    max_detections: Count = 300
    """Most detections of an image."""
    pool_chunk: Natural = 0
    """Regions pooled at a time, to bound the memory; 0: all."""
