"""Values passed between the stages of a two-stage detector."""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int

from g2ajax.detection.proposals import Detections, Proposals
from g2ajax.detection.targets import TrainingSamples


class Maps(NamedTuple):
    """Features of a batch of frames."""

    features: Float[Array, "B h w C"]
    size: Int[Array, "B 2"]
    """Height and width of each image in pixels."""
    extent: Int[Array, "B 2"] | None
    """Rows and columns of the map that are the image's; None: all."""


class Truth(NamedTuple):
    """The true boxes of a batch of frames."""

    boxes: Float[Array, "B N 4"]
    mask: Bool[Array, "B N"]
    pid: Int[Array, "B N"]
    """label + 1; `unlabelled` for persons without identity, 0 for padding."""


class Stages(NamedTuple):
    """The intermediate results of a detector, in training and in tests."""

    proposals: Proposals
    logits: Float[Array, "N 2"]
    codes: Float[Array, "N 2 4"]
    """Box codes of the first head."""
    samples: tuple[TrainingSamples, ...] = ()
    """Regions that each head trains on."""
    kept: tuple[Detections, ...] = ()
    """Boxes after each head but the last."""
